from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app import ablation_tables, tables, text
from core.ablation import ablation_table
from core.config import RunConfig
from core.reports.sheets import mixtures, notes
from core.runs import AblationTable
from core.store import Store
from tests.app import sample


@pytest.fixture
def table(store: Store, tmp_path: Path) -> AblationTable:
    (first, *_) = sample.add_finished_job(store, tmp_path)
    return ablation_table(store, first.job_id)


def test_an_ablation_lists_teacher_student_before_and_every_run(table: AblationTable) -> None:
    names = [row.run.name for row in table.rows]
    assert list(ablation_tables.ablation(table)[("", "Model")]) == ["Teacher", "Student before", *names]
    assert list(ablation_tables.details(table)["Model"]) == ["Teacher", "Student before", *names]


def alone(table: AblationTable) -> AblationTable:
    """Return the table of a job that has no extra test set."""
    return replace(table, extra={})


def test_test_sets_stand_side_by_side_under_their_names(table: AblationTable) -> None:
    frame = ablation_tables.ablation(table)
    assert list(frame.columns)[:5] == [
        ("", "Model"),
        ("recorded clips", "WER %"),
        ("recorded clips", "difference [95 %]"),
        ("generated voice", "WER %"),
        ("generated voice", "difference [95 %]"),
    ]
    for name, each in table.sets.items():
        rates = [row.evaluation.wer for row in each.rows if row.evaluation]
        assert frame[(name, "WER %")].tolist()[2:] == pytest.approx([100 * rate for rate in rates])


def test_of_one_test_set_what_decides_stands_before_its_parts(table: AblationTable) -> None:
    columns = list(ablation_tables.ablation(alone(table)).columns)
    assert columns[:6] == ["Model", "WER %", "S", "D", "I", "difference [95 %]"]


def test_a_run_that_was_not_read_says_what_it_is_doing(
    store: Store, tmp_path: Path, make_config: Callable[..., RunConfig]
) -> None:
    job = store.create_job("waiting", [make_config(name="one"), make_config(name="two")])
    frame = ablation_tables.ablation(ablation_table(store, job.id))
    assert frame["difference [95 %]"].tolist() == ["baseline, waiting", "waiting"]


def test_a_rate_is_errors_over_words_in_percent(table: AblationTable) -> None:
    assert table.teacher is not None
    for frame in (
        ablation_tables.ablation(alone(table)).rename(columns={"WER %": "WER"}),
        ablation_tables.details(table),
    ):
        errors = frame["S"] + frame["D"] + frame["I"]
        assert frame["WER"].tolist() == pytest.approx((100 * errors / table.teacher.words).tolist())


def test_models_that_cannot_be_tested_have_a_difference_alone(table: AblationTable) -> None:
    first, second = table.rows[1:3]
    few = replace(alone(table), rows=(table.rows[0], replace(first, interval=None, p_value=None), second))
    assert dict(ablation_tables.verdicts(few))[first.run.name] == "too few to test"
    row = ablation_tables.ablation(few).set_index("Model").loc[first.run.name]
    assert row["difference [95 %]"] == text.points(first.difference)
    assert list(ablation_tables.contrasts(few)["name"]) == [second.run.name]


def test_a_difference_by_chance_is_called_not_significant(table: AblationTable) -> None:
    row = table.rows[1].__class__(**{**vars(table.rows[1]), "p_value": 0.31})
    assert ablation_tables.verdict(row) == "not significant, p = 0.310"
    clear = row.__class__(**{**vars(row), "p_value": 0.0004, "difference": -0.2})
    assert ablation_tables.verdict(clear) == "better than LoRA + CE (single runs), p < 0.001"


def test_the_notes_say_size_seed_and_normaliser(table: AblationTable) -> None:
    said = " ".join(notes(table))
    for part in (f"{sample.UTTERANCES} utterances", "Seed 0", "whisper-english", "adjusted for 6 comparisons on all"):
        assert part in said


def test_loads_and_active_parameters_are_shown_where_there_are_experts(table: AblationTable) -> None:
    assert mixtures(table) is None
    rows = [replace(row, load=(0.7, 0.2, 0.1) if place == 1 else ()) for place, row in enumerate(table.rows)]
    found = mixtures(replace(table, rows=tuple(rows)))
    assert found is not None
    frame = ablation_tables.sheet(found)
    assert list(frame["load per expert, busiest first"]) == ["", "0.70 0.20 0.10", "", ""]
    assert list(frame["Run"]) == [row.run.name for row in table.rows]


def test_a_step_has_its_seconds(table: AblationTable) -> None:
    steps = ablation_tables.ablation(alone(table))["step s"].tolist()
    assert steps[2:] == [pytest.approx((88 + place) / sample.STEPS) for place in range(4)]


def test_kinds_of_runs_have_a_mean_a_spread_and_a_difference_over_their_seeds(store: Store) -> None:
    found = ablation_table(store, sample.add_seeds(store, utterances=120).id)
    rates = [100 * row.evaluation.wer for row in found.rows if row.evaluation]
    frame = ablation_tables.over_seeds(found)
    assert list(frame["Seeds"]) == ["2", "2"]
    assert notes(found)[1].startswith("Seeds 0, 1, 2, one run a row;")
    first, second = rates[2] - rates[0], rates[3] - rates[1]
    assert frame["Difference"].tolist() == ["", f"{(first + second) / 2:+.1f}".replace("-", "−")]
    # Of two numbers the standard deviation is their distance over the root of two.
    assert frame["SD of difference"].tolist() == ["", f"{abs(first - second) / 2**0.5:.1f}"]
    assert frame["SD"].tolist() == [f"{(rates[place + 1] - rates[place]) / 2**0.5:.1f}" for place in (0, 2)]
    assert frame["Seeds better"].tolist() == ["", "2 of 2"]
    assert frame["Verdict"].tolist() == ["baseline", "too few seeds to test"]


def test_three_seeds_are_judged_together_and_drawn_so(store: Store) -> None:
    found = ablation_table(store, sample.add_seeds(store, utterances=120, third=True).id)
    frame = ablation_tables.over_seeds(found)
    assert found.over_seeds is not None
    assert frame["Verdict"].tolist() == ["baseline", found.over_seeds.rows[1].verdict]
    assert "p = " in frame["Verdict"][1]
    assert list(ablation_tables.contrasts(found)["name"]) == ["kd"]
    assert {said for _, said in ablation_tables.verdicts(found)} >= {"baseline", "see over seeds"}


def test_one_seed_has_no_table_over_seeds(table: AblationTable) -> None:
    assert ablation_tables.over_seeds(table).empty


def test_a_divergence_of_kept_tokens_never_stands_unmarked_beside_one_of_all(
    table: AblationTable, store: Store
) -> None:
    table = alone(table)
    assert "KL of" not in ablation_tables.ablation(table)
    records = store.evaluations(job_id=table.job.id)
    assert "KL of" not in tables.evaluations(records)
    first, *others = table.rows
    assert first.evaluation is not None
    compact = replace(first, evaluation=replace(first.evaluation, heldout_kl_tokens=32))
    frame = ablation_tables.ablation(replace(table, rows=(compact, *others))).set_index("Model")
    marks = frame["KL of"].to_dict()
    assert marks.pop(first.run.name) == "top 32"
    assert marks.pop("Teacher") == ""
    assert set(marks.values()) == {"all"}
    kept = [replace(record, heldout_kl_tokens=16) if record.heldout_kl is not None else record for record in records]
    assert set(tables.evaluations([*records, *kept])["KL of"]) == {"", "all tokens", "top 16 tokens"}
