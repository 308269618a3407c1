import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from core.cli.tables import ablation_json, print_ablation
from core.reports.markdown import ablation_markdown, plain
from core.reports.sheets import Sheet, duration, notes, sheets
from core.runs import AblationTable
from tests.reports.conftest import NAME


def printed(table: AblationTable) -> list[list[str]]:
    """Return the cells of the rows that the terminal shows."""
    console = Console(file=io.StringIO(), width=260)
    print_ablation(table, console)
    assert isinstance(console.file, io.StringIO)
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def titles(sheet: Sheet) -> tuple[str, ...]:
    """Return what the columns of a table are called, the test set first."""
    groups = sheet.groups or ("",) * len(sheet.columns)
    return tuple(f"{group}: {name}" if group else name for group, name in zip(groups, sheet.columns, strict=True))


def in_markdown(table: AblationTable) -> list[list[str]]:
    lines = [line for line in ablation_markdown(table).splitlines() if line.startswith("| ")]
    return [[cell.strip().replace("\\<", "<") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3599.6, "1 h 0 min"), (7384, "2 h 3 min")]
)
def test_a_length_of_time_is_told_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_markdown_shows_the_numbers_of_the_terminal(table: AblationTable) -> None:
    rows = [row for row in in_markdown(table) if row[0] != "Run"]
    assert len(rows) == 6 + 5 + 6  # student before was read on one of two sets, which has it in its details alone
    assert rows == printed(table)


def test_the_cells_are_the_numbers_of_the_table(table: AblationTable) -> None:
    sheet = sheets(table)[0]
    assert titles(sheet)[:5] == (
        "Run",
        "recorded clips: WER %",
        "recorded clips: difference [95 %]",
        "generated voice: WER %",
        "generated voice: difference [95 %]",
    )
    errors = ("substitutions", "deletions", "insertions")
    for name, found, read in zip(table.sets, sheets(table)[1:], ("real_speech", None), strict=True):
        assert found.title.startswith(f"{name}: 24 utterances")
        for cells, own, run in zip(
            sheet.rows[sheet.fixed :], found.rows[found.fixed :], ablation_json(table)["runs"], strict=True
        ):
            shown = dict(zip(titles(sheet), cells, strict=True))
            item = run[read] if read else run
            assert shown[f"{name}: WER %"] == f"{item['wer']:.1f}"
            assert list(own[2:5]) == [str(item[kind]) for kind in errors]
            each = run["differences"][table.sets[name].test_set]
            if each["difference"] is not None:
                low, high = each["interval"]
                said = f"{each['difference']:+.1f} [{low:+.1f}, {high:+.1f}]"
                assert shown[f"{name}: difference [95 %]"].startswith(said)


def test_a_job_of_one_test_set_has_kinds_of_errors_beside_its_rates(table: AblationTable) -> None:
    alone = replace(table, extra={})
    (sheet,) = sheets(alone)
    assert sheet.title == "quickstart: word error rates, generated voice"
    assert titles(sheet)[:6] == ("Run", "WER %", "S", "D", "I", "difference [95 %]")
    for cells, run in zip(sheet.rows[sheet.fixed :], ablation_json(alone)["runs"], strict=True):
        assert cells[1] == f"{run['wer']:.1f}"
        assert [int(cell) for cell in cells[2:5]] == [run[k] for k in ("substitutions", "deletions", "insertions")]


def test_five_test_sets_are_ten_columns(table: AblationTable) -> None:
    (real,) = table.extra.values()
    extra = {name: replace(real, test_set=name) for name in ("phone", "real", "car", "asterisk")}
    many = replace(table, extra=extra)
    (sheet, *others) = sheets(many)
    names = ["phone", "recorded clips", "car", "Asterisk prompts", "generated voice"]
    assert [name for name, _ in sheet.spans] == ["", *names, ""]
    assert [size for _, size in sheet.spans][1:-1] == [2] * 5
    assert [each.title.split(":")[0] for each in others] == names
    assert len({len(row) for row in (sheet.columns, sheet.groups, *sheet.rows)}) == 1


def test_kinds_of_runs_over_seeds_have_a_table_of_their_own_everywhere(seeds: AblationTable) -> None:
    assert seeds.over_seeds is not None
    _, sheet = sheets(seeds)
    assert (sheet.title, sheet.notes) == ("Over seeds", (seeds.over_seeds.test,))
    assert [row for row in in_markdown(seeds) if row[0] != "Run"] == printed(seeds)
    kinds = ablation_json(seeds)["over_seeds"]
    assert kinds["test"] == seeds.over_seeds.test
    for cells, kind in zip(sheet.rows, kinds["kinds"], strict=True):
        shown = dict(zip(sheet.columns, cells, strict=True))
        assert (shown["Run"], shown["seeds"]) == (kind["name"], str(len(kind["wer"])))
        assert shown["mean WER %"] == f"{kind['mean_wer']:.1f}"
        if kind["baseline"]:
            assert (shown["difference [95 %]"], shown["verdict"]) == ("baseline", "baseline")
        else:
            low, high = kind["interval"]
            star = " *" if kind["p_value"] < 0.05 else ""
            assert shown["difference [95 %]"] == f"{kind['difference']:+.1f} [{low:+.1f}, {high:+.1f}]{star}"
            assert shown["verdict"] == seeds.over_seeds.rows[1].verdict
    json.dumps(kinds, allow_nan=False)


def test_the_notes_say_that_runs_are_compared_seed_by_seed(seeds: AblationTable) -> None:
    said = " ".join(notes(seeds))
    assert "Runs with other seeds are judged together: see over seeds." in said
    against = [row["against"] for row in ablation_json(seeds)["runs"]]
    assert against == [None] * 2 + ["ce (seed 0)", "ce (seed 1)", None, "ce (seed 3)", None]


def test_one_seed_is_a_seed_and_several_are_seeds(table: AblationTable, seeds: AblationTable) -> None:
    assert notes(table)[2].startswith("Seed 0, one run a row; 30 s of audio context")
    assert notes(seeds)[1].startswith("Seeds 0, 1, 2, 3, one run a row;")
    assert (table.seeds, seeds.seeds) == ("seed 0", "seeds 0, 1, 2, 3")


def test_a_job_of_one_seed_has_no_such_table(table: AblationTable) -> None:
    assert [sheet.title.split(",")[0] for sheet in sheets(table)][1:] == [
        "recorded clips: 24 utterances",
        "generated voice: 24 utterances",
    ]
    assert ablation_json(table)["over_seeds"] is None


def test_notes_stand_under_the_table(table: AblationTable) -> None:
    written = ablation_markdown(table)
    assert "24 utterances" in written
    assert "adjusted for 6 comparisons on all test sets (Holm)" in written


def test_a_run_of_the_first_version_is_told_too(table: AblationTable) -> None:
    *others, last = table.rows
    source = {key: value for key, value in last.run.config["source"].items() if key != "noises"}
    run = replace(last.run, config=last.run.config | {"source": source})
    (_, said, *_) = notes(replace(table, rows=(*others, replace(last, run=run))))
    assert "generated speech with coloured noise at" in said


@pytest.mark.parametrize(("test_set", "half"), [("test", False), ("development", True)])
def test_speech_of_the_voices_is_called_so(table: AblationTable, test_set: str, half: bool) -> None:
    *others, last = table.rows
    run = replace(last.run, config=last.run.config | {"source": {"kind": "voices"}})
    said = " ".join(notes(replace(table, rows=(*others, replace(last, run=run)), test_set=test_set)))
    assert "speech generated by four Kokoro voices that training does not hear" in said
    assert ("every second clip in recording conditions" in said) == half


def test_a_name_breaks_no_table_in_markdown(foreign: AblationTable) -> None:
    written = ablation_markdown(foreign)
    sections = written.split("## ")[1:]
    assert len(sections) == 3
    for section in sections:
        lines = [line for line in section.splitlines() if line.startswith("|")]
        assert len({line.replace("\\\\", "").replace("\\|", "").count("|") for line in lines}) == 1
    for sign in ("<script>", "[d](", "`c`", "*b*", "$x"):
        assert sign not in written.replace("\\<", "").replace("\\[", "").replace("\\`", "").replace("\\*", "").replace(
            "\\$", ""
        )
    (title, *_) = written.splitlines()
    assert NAME in title.replace("\\\\", "\0").replace("\\", "").replace("\0", "\\")


def test_markdown_has_no_emoji_and_no_address_in_a_name() -> None:
    for name in (":smile:", ":+1: x", "http://e.com", "www.e.com", "@someone"):
        written = plain(f"lr {name}").replace("\\", "")
        assert name not in written
        assert written.replace("\u2060", "") == f"lr {name}"


def test_a_divergence_of_kept_tokens_is_marked_in_the_table_the_notes_and_the_data(table: AblationTable) -> None:
    first, *others = table.rows
    assert first.evaluation is not None
    compact = replace(table, rows=(replace(first, evaluation=replace(first.evaluation, heldout_kl_tokens=32)), *others))
    assert not any("likeliest tokens" in note for note in notes(table))
    assert any(note.startswith("top 32: of so many of the teacher's likeliest tokens") for note in notes(compact))
    sheet = sheets(compact)[0]
    assert "KL of" not in sheets(table)[0].columns
    shown = [cells[sheet.columns.index("KL of")] for cells in sheet.rows]
    assert shown == ["", "all", "top 32", *["all"] * len(others)]
    kept = [run["heldout_kl_tokens"] for run in ablation_json(compact)["runs"]]
    assert kept == [32, *[None] * len(others)]
