import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from core.cli.tables import WIDTH, ablation_json, print_ablation, print_runs, runs_json
from core.config import RunConfig
from core.reports.sheets import notes
from core.runs import AblationTable, JobRecord, ParameterCounts, Studio

METHODS = ["ce", "kd", "cosine", "manifold"]


@pytest.fixture
def table(studio: Studio, configs: tuple[RunConfig, ...], complete: Callable[..., JobRecord]) -> AblationTable:
    job = complete(studio.store.create_job("quickstart", configs))
    return studio.ablation(job.id)


def text_of(table: AblationTable) -> str:
    console = Console(file=io.StringIO(), width=WIDTH)
    print_ablation(table, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_text_and_json_show_the_same_numbers(table: AblationTable) -> None:
    lines = text_of(table).splitlines()
    data = ablation_json(table)
    for subject, name in ((data["teacher"], "│ teacher "), (data["student_before"], "│ student before ")):
        line = next(line for line in lines if name in line)
        for read in (subject, subject["real_speech"]):
            assert f" {read['wer']:.1f} " in line
        assert any(f" {subject['substitutions']} " in line for line in lines if name in line)
    for run in data["runs"]:
        line = next(line for line in lines if f"{run['name']} " in line)
        assert f" {run['real_speech']['wer']:.1f} " in line
        assert f" {run['wer']:.1f} " in line
        assert "250,000 (0.68 %)" in line
        assert "1 min 1 s" in line
        assert list(run["differences"]) == ["real", "test"]
        assert {key: run["differences"]["test"][key] for key in ("difference", "interval", "p_value")} == {
            key: run[key] for key in ("difference", "interval", "p_value")
        }
        if run["difference"] is None:
            assert line.count("baseline") == 2
            continue
        for each in run["differences"].values():
            low, high = each["interval"]
            assert f"{each['difference']:+.1f} [{low:+.1f}, {high:+.1f}]" in line


def test_json_has_what_was_promised(table: AblationTable) -> None:
    data = json.loads(json.dumps(ablation_json(table), allow_nan=False))
    counted = {"method", "wer", "substitutions", "deletions", "insertions", "words", "heldout_kl", "real_speech"}
    for subject in (data["teacher"], data["student_before"], *data["runs"]):
        assert counted <= subject.keys()
        errors = subject["substitutions"] + subject["deletions"] + subject["insertions"]
        assert subject["wer"] == pytest.approx(100 * errors / subject["words"])
        assert subject["real_speech"]["words"] < subject["words"]
    assert [run["method"] for run in data["runs"]] == METHODS
    for run in data["runs"]:
        assert run["trainable"] == {
            "adapters": 200_000,
            "projections": 50_000,
            "share_of_teacher": pytest.approx(250_000 / 37_000_000),
        }
        assert (run["seconds"], run["seed"]) == (61.0, 0)
    baseline, *others = data["runs"]
    assert baseline["difference"] is None
    for run in others:
        assert run["difference"] == pytest.approx(run["wer"] - baseline["wer"])
        assert run["interval"][0] <= run["difference"] <= run["interval"][1]


def test_what_a_step_and_decoding_take_is_in_the_table_and_in_the_data(table: AblationTable) -> None:
    data = ablation_json(table)
    for run in data["runs"]:
        line = next(line for line in text_of(table).splitlines() if f"{run['name']} " in line)
        assert run["step_seconds"] == pytest.approx(61 / 150)
        assert f" {run['step_seconds']:.3f} " in line
        assert f" {run['real_time_factor']:.3f} " in line


def test_a_mixture_tells_what_it_stores_what_is_active_and_its_load(table: AblationTable) -> None:
    counts = ParameterCounts(37_000_000, 36_200_000, 200_000, 50_000, student_active=36_050_000)
    assert "stored" not in text_of(table)
    rows = (table.rows[0], replace(table.rows[1], parameters=counts, load=(0.75, 0.25)), *table.rows[2:])
    mixed = replace(table, rows=rows)
    line = next(line for line in text_of(mixed).splitlines() if "36,050,000" in line)
    assert rows[1].run.name in line
    assert "36,200,000" in line
    assert "0.75 0.25" in line
    data = ablation_json(mixed)["runs"]
    assert data[1]["load"] == [0.75, 0.25]
    assert data[1]["parameters"]["student_active"] == 36_050_000
    assert data[0]["load"] is None


def test_a_difference_beyond_chance_is_marked(table: AblationTable) -> None:
    marked = {row.run.name for row in table.rows if row.significant}
    assert marked
    assert marked < {row.run.name for row in table.rows}
    for row in table.rows:
        line = next(line for line in text_of(table).splitlines() if f"{row.run.name} " in line)
        assert ("] *" in line) == (row.run.name in marked)


def test_the_notes_tell_size_seed_speech_and_decoding(table: AblationTable) -> None:
    told = " ".join(notes(table))
    for part in ("100 utterances, 700 words", "generated speech", "Seed 0", "whisper-english 0.1.15", "greedy", "Holm"):
        assert part in told


def test_recorded_speech_stands_first_and_has_details_of_its_own(table: AblationTable) -> None:
    shown = text_of(table)
    head = next(line for line in shown.splitlines() if "generated voice" in line)
    assert head.index("recorded clips") < head.index("generated voice")
    before, after = shown.split("recorded clips: 12 utterances, 84 words")
    assert " ".join(before.split()).count("comparisons on all test sets") == 2
    own, other = after.split("generated voice: 100 utterances, 700 words")
    for row, part in ((table.extra["real"].rows[1], own), (table.rows[1], other)):
        assert row.evaluation is not None
        line = next(line for line in part.splitlines() if f"{row.run.name} " in line)
        assert f" {row.evaluation.substitutions} " in line
        assert row.verdict in line
    sets = ablation_json(table)["test_sets"]
    assert [(each["test_set"], each["name"], each["utterances"]) for each in sets] == [
        ("real", "recorded clips", 12),
        ("test", "generated voice", 100),
    ]


def test_what_inference_saves_stands_beside_the_teacher(table: AblationTable) -> None:
    """A student of half the time, with a layer less: in the table, and in the data."""
    assert table.teacher is not None
    teacher = replace(table.teacher, encoder_layers=4, decoder_layers=4, memory=151_000_000)
    cut = [
        replace(row, evaluation=replace(row.evaluation, encoder_layers=3, decoder_layers=4, real_time_factor=0.05))
        for row in table.rows
        if row.evaluation
    ]
    assert "layers" not in text_of(table).split("KL: ")[0]
    found = replace(table, teacher=teacher, rows=tuple(cut))
    lines = text_of(found).splitlines()
    first, run = (next(line for line in lines if f"│ {name} " in line) for name in ("teacher", cut[1].run.name))
    for said in (" 4 + 4 ", " 37.0 ", " 151 ", " 0.100 "):
        assert said in first
    for said in (" 3 + 4 ", " 36.0 ", " 0.050 ", " 0.50 "):
        assert said in run
    assert [each["encoder_layers"] for each in (ablation_json(found)["teacher"], *ablation_json(found)["runs"])] == [
        4,
        *[3] * len(cut),
    ]


def test_rows_that_were_not_tested_yet_are_left_open(studio: Studio, configs: tuple[RunConfig, ...]) -> None:
    table = studio.ablation(studio.store.create_job("quickstart", configs).id)
    assert "Nothing was evaluated yet." in text_of(table)
    data = ablation_json(table)
    assert (data["teacher"], data["student_before"]) == (None, None)
    assert all("wer" not in run and run["state"] == "queued" for run in data["runs"])


def test_a_manifest_as_source_is_not_called_generated(
    studio: Studio, configs: tuple[RunConfig, ...], complete: Callable[..., JobRecord]
) -> None:
    source = {"kind": "manifest", "train": "a", "development": "b", "test": "c"}
    own = RunConfig.model_validate({**configs[0].model_dump(), "source": source})
    table = studio.ablation(complete(studio.store.create_job("mine", [own])).id)
    assert list(table.sets) == ["recorded clips", "c"]
    assert notes(table)[1].startswith("C: 100 utterances, 700 words, speech from a manifest; read once.")
    assert table.test == ""


def test_a_name_that_looks_like_markup_is_printed_as_it_is(
    studio: Studio, configs: tuple[RunConfig, ...], complete: Callable[..., JobRecord]
) -> None:
    name = "[red]all[/nothing] [link=x]"
    job = complete(studio.store.create_job(name, [configs[0].model_copy(update={"name": name})]))
    table = studio.ablation(job.id)
    assert text_of(table).count(name) >= 3
    assert text_of(replace(table, baseline=name)).count(name) >= 3


def test_runs_are_listed_with_their_state_and_error_rate(
    studio: Studio, configs: tuple[RunConfig, ...], complete: Callable[..., JobRecord]
) -> None:
    complete(studio.store.create_job("first", configs))
    waiting = studio.store.create_job("second", configs)
    found = studio.store.runs()
    wer = {item.run_id: item.wer for item in studio.store.evaluations(test_set="test") if item.run_id}
    console = Console(file=io.StringIO(), width=140)
    print_runs(found, wer, console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    data = runs_json(found, wer)["runs"]
    assert len(data) == 2 * len(configs)
    for run in data:
        line = next(line for line in lines if run["id"] in line)
        assert run["name"] in line
        assert f" {run['state']} " in line
        assert (run["wer"] is None) == (run["job"] == waiting.id)
        if run["wer"] is not None:
            assert f" {run['wer']:.1f} " in line
