import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.config import Manifest
from core.errors import DataError, StoreError
from core.sources import Utterance, prepare
from core.sources.bad_rows import MOST_ROWS
from core.sources.manifest import glance, read_manifest, row_count, write_manifest
from core.sources.rows import TEXT_KEYS, Transcripts

Clip = Callable[..., str]
Write = Callable[..., Path]


def test_a_row_becomes_an_utterance(clip: Clip, manifest: Write, tmp_path: Path):
    path = manifest(
        {"audio_filepath": clip("audio/one.flac", seconds=0.5), "text": " Hello there. ", "speaker": 7, "lang": "en"},
        "",
        {"audio_filepath": str(tmp_path / clip("two.flac")), "text": "Good night", "id": "b/2", "duration": 0.2},
    )
    one, two = read_manifest(path)
    assert one == Utterance("audio-one", tmp_path / "audio/one.flac", "Hello there.", "7", 0.5)
    assert two == Utterance("b-2", tmp_path / "two.flac", "Good night", None, 0.2)


def test_paths_are_relative_to_the_manifest_not_to_where_the_program_runs(
    clip: Clip, manifest: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = manifest({"audio_filepath": clip("a.flac"), "text": "a"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (utterance,) = read_manifest(Path("..") / path.name)
    assert utterance.audio_path.is_absolute()
    assert utterance.audio_path.samefile(tmp_path / "a.flac")


@pytest.mark.parametrize("key", TEXT_KEYS)
def test_the_transcript_may_stand_under_any_of_the_usual_keys(key: str, clip: Clip, manifest: Write):
    assert read_manifest(manifest({"audio_filepath": clip("a.flac"), key: "words"}))[0].text == "words"


def test_the_first_key_counts(clip: Clip, manifest: Write):
    row = {"audio_filepath": clip("a.flac"), **{key: key for key in reversed(TEXT_KEYS)}}
    assert read_manifest(manifest(row))[0].text == "text"


def test_a_manifest_reads_back_and_moves_with_its_folder(clip: Clip, tmp_path: Path):
    rows = [
        Utterance("a", tmp_path / "set" / "a.flac", 'Tea, "please" — naïve', "Zoë", 0.2),
        Utterance("b", tmp_path / "outside.flac", "two words", None, 0.2),
    ]
    clip("set/a.flac")
    clip("outside.flac")
    write_manifest(tmp_path / "set" / "m.jsonl", rows, [{"generated": True}, {}])
    assert read_manifest(tmp_path / "set" / "m.jsonl") == tuple(rows)
    first, second = (json.loads(line) for line in (tmp_path / "set" / "m.jsonl").read_text().splitlines())
    assert (first["audio_filepath"], first["generated"]) == ("a.flac", True)
    assert second["audio_filepath"] == str(tmp_path / "outside.flac")
    assert "speaker" not in second
    (tmp_path / "set").rename(tmp_path / "moved")
    assert read_manifest(tmp_path / "moved" / "m.jsonl")[0].audio_path == tmp_path / "moved" / "a.flac"


def test_a_manifest_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    (tmp_path / "m.jsonl").mkdir()
    for path in (tmp_path / "m.jsonl", tmp_path / "missing" / "m.jsonl"):
        with pytest.raises(StoreError, match="cannot be written"):
            write_manifest(path, [])
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]


def test_all_bad_rows_are_reported_at_once_each_with_its_line(clip: Clip, manifest: Write, tmp_path: Path):
    good, silent = clip("good.flac"), clip("silent.flac", level=0)
    (tmp_path / "broken.flac").write_bytes(b"noise")
    os.mkfifo(tmp_path / "pipe.flac")
    bad = {
        json.dumps({"audio_filepath": "pipe.flac", "text": "a"}): "a pipe, a socket or a device",
        json.dumps({"audio_filepath": "n" * 3_000, "text": "a"}): "the name is too long",
        "{": "is not JSON",
        "[" * 100_000: "is not JSON",
        "[]": "no JSON object",
        "{}": "audio_filepath is missing",
        json.dumps({"audio_filepath": good}): "the transcript is missing",
        json.dumps({"audio_filepath": good, "text": ""}): "the transcript is empty",
        json.dumps({"audio_filepath": good, "text": " ... "}): "the transcript is empty",
        json.dumps({"audio_filepath": good, "text": None}): "the transcript is missing",
        json.dumps({"audio_filepath": good, "text": ["a"]}): "text is no text",
        json.dumps({"audio_filepath": good, "text": True}): "text is no text",
        json.dumps({"audio_filepath": good, "text": "a \ud800"}): "cannot be written",
        json.dumps({"audio_filepath": "a\0.flac", "text": "a"}): "cannot be written",
        json.dumps({"audio_filepath": "missing.flac", "text": "a"}): "There is no audio file",
        json.dumps({"audio_filepath": "cat good.flac |", "text": "a"}): "There is no audio file",
        json.dumps({"audio_filepath": "broken.flac", "text": "a"}): "cannot be read as audio",
        json.dumps({"audio_filepath": silent, "text": "a"}): "is silent",
        json.dumps({"audio_filepath": clip("long.flac", seconds=1.2), "text": "a"}): "the longest allowed is 1 s",
        json.dumps({"audio_filepath": good, "text": "a", "offset": 3.5}): "parts of files",
        json.dumps({"audio_filepath": good, "text": "a", "duration": 9}): "duration says 9 s, but",
        json.dumps({"audio_filepath": good, "text": "a", "duration": float("nan")}): "duration says nan s",
    }
    lines = [line.encode("utf-8", "surrogatepass") for line in bad] + [b'{"audio_filepath": "\xff"}', b"x" * 1_000_001]
    expected = [*bad.values(), "is not JSON", "longer than 1,000,000 bytes"]
    path = tmp_path / "train.jsonl"
    for begin in range(0, len(lines), MOST_ROWS):
        part, words_of_part = lines[begin : begin + MOST_ROWS], expected[begin : begin + MOST_ROWS]
        path.write_bytes(b"\n".join([json.dumps({"audio_filepath": good, "text": "fine"}).encode(), *part]))
        with pytest.raises(DataError) as caught:
            read_manifest(path, longest_seconds=1)
        found = caught.value.problems
        assert [problem.where for problem in found] == [f"{path}:{number}" for number in range(2, len(part) + 2)]
        for problem, words in zip(found, words_of_part, strict=True):
            assert words in problem.message
        assert f"{len(part)} row" in str(caught.value) or len(part) == 1


def test_a_second_row_with_the_same_id_is_reported(clip: Clip, manifest: Write):
    row = {"audio_filepath": clip("a.flac"), "text": "a"}
    with pytest.raises(DataError, match="a second row has the id 'a'"):
        read_manifest(manifest(row, row))


@pytest.mark.parametrize("rows", [(), ("", "  ")])
def test_a_manifest_without_rows_is_refused(rows: tuple[str, ...], manifest: Write):
    with pytest.raises(DataError, match="holds no utterances"):
        read_manifest(manifest(*rows))


def test_a_missing_manifest_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="There is no manifest"):
        read_manifest(tmp_path / "missing.jsonl")


def test_a_byte_order_mark_is_no_mistake(clip: Clip, manifest: Write):
    path = manifest({"audio_filepath": clip("a.flac"), "text": "a"})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_manifest(path)) == 1


CONTROL_TOKENS = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|0.00|>",
    "<|29.98|>",
    "<|notimestamps|>",
    "<|en|>",
    "<|yue|>",
    "<|nospeech|>",
    "<|nocaptions|>",
    "<|startofprev|>",
    "<|startoflm|>",
    "<|translate|>",
    "<|EndOfText|>",
    "<|of another model|>",
]


@pytest.mark.parametrize("token", CONTROL_TOKENS)
def test_a_control_token_in_a_transcript_is_a_mistake_in_every_set(
    token: str, clip: Clip, manifest: Write, tmp_path: Path
):
    rows = [
        [{"audio_filepath": clip(f"{name}.flac"), "sentence": text}]
        for name, text in zip("abc", (f"one {token} two", f"{token}one", f"one two{token}"), strict=True)
    ]
    for transcripts in (True, False):
        source = three(manifest, *rows).model_copy(update={"transcripts": transcripts})
        with pytest.raises(DataError) as caught:
            prepare(source, tmp_path, lambda done, total: None)
        assert [str(problem) for problem in caught.value.problems] == [
            f"{tmp_path / name}.jsonl:1: the transcript holds {token}, a control token that the model takes as such; "
            "remove it"
            for name in ("train", "development", "test")
        ]


@pytest.mark.parametrize("text", ["a < b | c > d", "x <| y", "y |> x", "<b>bold</b>", "[noise] so", "<unk> it is"])
def test_other_signs_are_part_of_a_transcript(text: str, clip: Clip, manifest: Write):
    assert read_manifest(manifest({"audio_filepath": clip("a.flac"), "text": text}))[0].text == text


def test_a_null_transcript_leaves_the_word_to_the_next_key(clip: Clip, manifest: Write):
    row = {"audio_filepath": clip("a.flac"), "text": None, "sentence": "words", "transcript": None}
    assert read_manifest(manifest(row))[0].text == "words"


def test_an_empty_transcript_beside_a_filled_one_is_a_mistake_everywhere(clip: Clip, manifest: Write):
    path = manifest({"audio_filepath": clip("a.flac"), "text": "", "sentence": "words"})
    for transcripts in ("needed", "may be missing", "may be empty"):
        with pytest.raises(DataError, match="text is empty, and sentence is not; keep one of them"):
            read_manifest(path, transcripts=transcripts)


def test_nothing_may_be_said_in_clips_of_the_test_set_alone(clip: Clip, manifest: Write, tmp_path: Path):
    empty = [
        [{"audio_filepath": clip(f"{name}.flac"), "text": text}]
        for name, text in zip("abc", ["", "", " "], strict=True)
    ]
    full = [[{"audio_filepath": name, "text": "words"}] for name in ("a.flac", "b.flac")]
    splits = prepare(three(manifest, full[0], full[1], empty[2]), tmp_path, lambda done, total: None)
    assert [item.text for item in splits.test] == [""]
    with pytest.raises(DataError, match="2 rows must be corrected") as caught:
        prepare(three(manifest, empty[0], empty[1], empty[2]), tmp_path, lambda done, total: None)
    assert [Path(problem.where).name for problem in caught.value.problems] == ["train.jsonl:1", "development.jsonl:1"]
    missing = [{"audio_filepath": "c.flac", "text": None}]
    with pytest.raises(DataError, match=r"test\.jsonl:1: the transcript is missing"):
        prepare(three(manifest, full[0], full[1], missing), tmp_path, lambda done, total: None)


def test_a_clip_of_a_test_set_may_be_silent_where_nothing_is_said(clip: Clip, manifest: Write, tmp_path: Path):
    path = manifest({"audio_filepath": clip("silent.flac", level=0), "text": ""}, name="test.jsonl")
    (heard,) = read_manifest(path, transcripts="may be empty")
    assert (heard.text, heard.duration) == ("", 0.2)
    refused: tuple[tuple[str, Transcripts], ...] = (("", "may be missing"), ("words", "may be empty"))
    for text, transcripts in refused:
        row = manifest({"audio_filepath": "silent.flac", "text": text}, name="test.jsonl")
        with pytest.raises(DataError) as caught:
            read_manifest(row, transcripts=transcripts)
        assert "is silent" in caught.value.problems[0].message


def test_clips_without_words_are_no_sentence_that_two_sets_share(clip: Clip, manifest: Write, tmp_path: Path):
    spoken = {"audio_filepath": clip("a.flac"), "speaker": "ann"}
    source = three(
        manifest,
        [spoken],
        [{"audio_filepath": clip("b.flac"), "text": "words", "speaker": "ann"}],
        [{"audio_filepath": clip("c.flac"), "text": "", "speaker": "ann"}],
    ).model_copy(update={"transcripts": False})
    assert len(prepare(source, tmp_path, lambda done, total: None).test) == 1


def test_clips_whose_ids_would_be_one_are_told_apart_whatever_their_order(clip: Clip, manifest: Write):
    names = ["a b.flac", "a-b.flac", "a/b.flac", "a b.wav", "c.flac"]
    rows = [{"audio_filepath": clip(name), "text": "words"} for name in names]
    rows += [{"audio_filepath": clip("d.flac"), "text": "words", "id": name} for name in ("x y", "x-y")]
    ids = [item.id for item in read_manifest(manifest(*rows))]
    assert len(set(ids)) == len(rows)
    assert ids[4] == "c"
    assert ids[6] == "x-y"  # as it was written
    assert all(name.startswith("a-b-") for name in ids[:4])
    assert {item.id for item in read_manifest(manifest(*reversed(rows)))} == set(ids)
    assert read_manifest(manifest(*reversed(rows)))[0].id == ids[-1]


def test_of_very_many_bad_rows_the_first_are_named_and_a_file_lists_all(clip: Clip, manifest: Write, tmp_path: Path):
    fine = {"audio_filepath": clip("a.flac"), "text": "fine"}
    path = manifest(fine, *[{"audio_filepath": f"{number}.flac", "text": "gone"} for number in range(1_000)])
    folder = tmp_path / "data" / "bad-rows"
    seen = glance(path, longest_seconds=30, headers=300, transcripts="needed", bad_rows_folder=folder)
    with pytest.raises(DataError, match="1,000 rows must be corrected") as caught:
        read_manifest(path, bad_rows_folder=folder)
    assert caught.value.problems == seen.problems
    assert [problem.where for problem in seen.problems] == [*(f"{path}:{row}" for row in range(2, 22)), str(path)]
    (listed,) = folder.iterdir()
    assert seen.problems[-1].message == f"and 980 more rows of this manifest cannot be used; all are listed in {listed}"
    lines = listed.read_text().splitlines()
    assert lines[:20] == [str(problem) for problem in seen.problems[:20]]
    assert len(lines) == 1_000
    assert lines[-1].startswith(f"{path}:1001: There is no audio file {tmp_path / '999.flac'}")


def test_where_no_file_can_be_written_the_bad_rows_are_counted(manifest: Write, tmp_path: Path):
    (tmp_path / "taken").write_text("no folder")
    path = manifest(*["x"] * 30)
    with pytest.raises(DataError) as caught:
        read_manifest(path, bad_rows_folder=tmp_path / "taken")
    assert caught.value.problems[-1].message == "and 10 more rows of this manifest cannot be used"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["taken", "train.jsonl"]


def test_rows_are_counted_without_being_read(manifest: Write, tmp_path: Path):
    assert row_count(manifest("x", "", "y", " ", "z")) == 3
    with pytest.raises(DataError, match="There is no manifest"):
        row_count(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "it is a pipe, a socket or a device"),
        (Path.mkdir, "it is a folder"),
        (lambda path: path.symlink_to(path), "it is a link that leads to itself"),
    ],
)
def test_what_is_no_file_is_refused_as_a_manifest_at_once(make: Callable[[Path], None], why: str, tmp_path: Path):
    make(tmp_path / "m.jsonl")
    with pytest.raises(DataError, match=f"There is no manifest .*{why}"):
        read_manifest(tmp_path / "m.jsonl")


def three(manifest: Write, train: list, development: list, test: list) -> Manifest:
    paths = [
        manifest(*rows, name=f"{name}.jsonl")
        for name, rows in (("train", train), ("development", development), ("test", test))
    ]
    return Manifest.model_validate(dict(zip(("train", "development", "test"), map(str, paths), strict=True)))


def test_the_three_sets_are_read_and_progress_is_told(clip: Clip, manifest: Write, tmp_path: Path):
    row = [{"audio_filepath": clip(f"{name}.flac"), "text": "the same words"} for name in "abcd"]
    told: list[tuple[int, int]] = []
    splits = prepare(
        three(manifest, row[:2], row[2:3], row[3:]), tmp_path, lambda done, total: told.append((done, total))
    )
    assert [[item.id for item in part] for part in (splits.train, splits.development, splits.test)] == [
        ["a", "b"],
        ["c"],
        ["d"],
    ]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_training_rows_may_lack_a_transcript_where_the_source_says_so(clip: Clip, manifest: Write, tmp_path: Path):
    name = {key: clip(f"{key}.flac") for key in "abcdef"}
    train = [
        {"audio_filepath": name["a"]},
        {"audio_filepath": name["b"], "text": None},
        {"audio_filepath": name["c"], "text": " "},
        {"audio_filepath": name["d"], "text": "words", "speaker": "ann"},
    ]
    measured = [[{"audio_filepath": name[key], "text": key}] for key in "ef"]
    source = three(manifest, train, *measured).model_copy(update={"transcripts": False})
    splits = prepare(source, tmp_path, lambda done, total: None)
    assert [item.text for item in splits.train] == ["", "", "", "words"]
    with pytest.raises(DataError, match=r"3 rows must be corrected[^~]*set source\.transcripts to false"):
        prepare(source.model_copy(update={"transcripts": True}), tmp_path, lambda done, total: None)


def test_what_is_measured_needs_a_transcript_whatever_the_source_says(clip: Clip, manifest: Write, tmp_path: Path):
    rows = [[{"audio_filepath": clip(f"{key}.flac")}] for key in "abc"]
    source = three(manifest, *rows).model_copy(update={"transcripts": False})
    with pytest.raises(DataError, match="2 rows must be corrected") as caught:
        prepare(source, tmp_path, lambda done, total: None)
    assert [Path(problem.where).name for problem in caught.value.problems] == ["development.jsonl:1", "test.jsonl:1"]


def test_a_transcript_that_says_nothing_is_a_mistake_also_where_none_is_needed(
    clip: Clip, manifest: Write, tmp_path: Path
):
    rows = [[{"audio_filepath": clip(f"{key}.flac"), "text": text}] for key, text in zip("abc", "-bc", strict=True)]
    source = three(manifest, *rows).model_copy(update={"transcripts": False})
    with pytest.raises(DataError, match="the transcript is empty"):
        prepare(source, tmp_path, lambda done, total: None)


def test_a_clip_or_a_speakers_sentence_in_two_sets_is_reported_once_with_both_places(
    clip: Clip, manifest: Write, tmp_path: Path
):
    row = {name: {"audio_filepath": clip(f"{name}.flac"), "text": name} for name in "abc"}
    copy = {"audio_filepath": clip("copy.flac", seed=1), "text": "other words"}
    again = {"audio_filepath": clip("again.flac", seed=1), "text": "yet others"}
    said = {"audio_filepath": clip("d.flac"), "text": "Good, morning!", "speaker": "ann"}
    repeated = {"audio_filepath": clip("e.flac"), "text": "good morning", "speaker": "ann"}
    by_another = {"audio_filepath": clip("f.flac"), "text": "good morning", "speaker": "bob"}
    source = three(manifest, [row["a"], copy, said], [row["b"], by_another], [row["c"], again, repeated])
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path, lambda done, total: None)
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    assert [str(problem) for problem in caught.value.problems] == [
        f"{test}:2: this clip is also in the train set ({train}:2); keep one",
        f"{test}:3: this sentence of ann is also in the train set ({train}:3); keep one",
    ]


def test_bad_rows_of_all_three_files_are_reported_together(clip: Clip, manifest: Write, tmp_path: Path):
    fine = {"audio_filepath": clip("a.flac"), "text": "a"}
    source = three(manifest, [fine, "x"], ["y"], ["z"])
    with pytest.raises(DataError, match="3 rows must be corrected") as caught:
        prepare(source, tmp_path, lambda done, total: None)
    assert [Path(problem.where).name for problem in caught.value.problems] == [
        "train.jsonl:2",
        "development.jsonl:1",
        "test.jsonl:1",
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
ROWS = st.dictionaries(st.sampled_from(["audio_filepath", "duration", "offset", "speaker", "id", *TEXT_KEYS]), VALUES)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS | VALUES), junk=st.binary(max_size=30), real=st.booleans())
def test_hostile_manifests_only_ever_give_data_errors(rows: list, junk: bytes, real: bool, clip: Clip, tmp_path: Path):
    if real:
        name = clip("a.flac")
        rows = [{**row, "audio_filepath": name} if isinstance(row, dict) else row for row in rows]
    path = tmp_path / "hostile.jsonl"
    path.write_bytes("\n".join(map(json.dumps, rows)).encode() + b"\n" + junk)
    with contextlib.suppress(DataError):
        read_manifest(path)


def test_of_a_large_manifest_some_rows_are_read_evenly_spread(clip: Clip, manifest: Write):
    rows = [{"audio_filepath": str(clip(f"{n}.wav")), "text": "a"} if n % 3 == 0 else {"id": n} for n in range(10)]
    path = manifest(*rows)
    # The rows between cannot be used, and are not looked at.
    assert [item.id for item in read_manifest(path, most=4)] == ["0", "3", "6", "9"]
    with pytest.raises(DataError, match="2:"):
        read_manifest(path, most=10)
