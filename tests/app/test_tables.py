from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app import tables, text
from core.ablation import ablation_table
from core.config import RunConfig, read_preset
from core.reports.sheets import mixtures, notes
from core.runs import AblationTable, Metric
from core.store import Store
from tests.app import sample


@pytest.fixture
def table(store: Store, tmp_path: Path) -> AblationTable:
    (first, *_) = sample.add_finished_job(store, tmp_path)
    return ablation_table(store, first.job_id)


def test_an_ablation_lists_teacher_student_before_and_every_run(table: AblationTable) -> None:
    names = [row.run.name for row in table.rows]
    assert list(tables.ablation(table)[("", "Model")]) == ["Teacher", "Student before", *names]
    assert list(tables.details(table)["Model"]) == ["Teacher", "Student before", *names]


def alone(table: AblationTable) -> AblationTable:
    """Return the table of a job that has no extra test set."""
    return replace(table, extra={})


def test_test_sets_stand_side_by_side_under_their_names(table: AblationTable) -> None:
    frame = tables.ablation(table)
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
    columns = list(tables.ablation(alone(table)).columns)
    assert columns[:6] == ["Model", "WER %", "S", "D", "I", "difference [95 %]"]


def test_a_run_that_was_not_read_says_what_it_is_doing(
    store: Store, tmp_path: Path, make_config: Callable[..., RunConfig]
) -> None:
    job = store.create_job("waiting", [make_config(name="one"), make_config(name="two")])
    frame = tables.ablation(ablation_table(store, job.id))
    assert frame["difference [95 %]"].tolist() == ["baseline, waiting", "waiting"]


def test_a_run_is_judged_by_its_test_set(store: Store, tmp_path: Path) -> None:
    runs = sample.add_finished_job(store, tmp_path)
    judged = tables.reported(store.evaluations())
    assert [judged[run.id].test_set for run in runs] == ["test"] * 4


def test_a_run_whose_test_set_is_unread_is_judged_by_its_best_checkpoint(store: Store, tmp_path: Path) -> None:
    runs = sample.add_tuning_job(store, tmp_path)
    judged = tables.reported(store.evaluations())
    assert [(judged[run.id].test_set, judged[run.id].step) for run in runs] == [
        ("development", 160),
        ("development", 80),
        ("development", 160),
    ]
    rows = ablation_table(store, runs[0].job_id).rows
    assert [row.evaluation for row in rows] == [judged[run.id] for run in runs]


def test_a_rate_is_errors_over_words_in_percent(table: AblationTable) -> None:
    assert table.teacher is not None
    for frame in (tables.ablation(alone(table)).rename(columns={"WER %": "WER"}), tables.details(table)):
        errors = frame["S"] + frame["D"] + frame["I"]
        assert frame["WER"].tolist() == pytest.approx((100 * errors / table.teacher.words).tolist())


def test_models_that_cannot_be_tested_have_a_difference_alone(table: AblationTable) -> None:
    first, second = table.rows[1:3]
    few = replace(alone(table), rows=(table.rows[0], replace(first, interval=None, p_value=None), second))
    assert dict(tables.verdicts(few))[first.run.name] == "too few to test"
    row = tables.ablation(few).set_index("Model").loc[first.run.name]
    assert row["difference [95 %]"] == text.points(first.difference)
    assert list(tables.contrasts(few)["name"]) == [second.run.name]


def test_a_difference_by_chance_is_called_not_significant(table: AblationTable) -> None:
    row = table.rows[1].__class__(**{**vars(table.rows[1]), "p_value": 0.31})
    assert tables.verdict(row) == "not significant, p = 0.310"
    clear = row.__class__(**{**vars(row), "p_value": 0.0004, "difference": -0.2})
    assert tables.verdict(clear) == "better than LoRA + CE (single runs), p < 0.001"


def test_the_notes_say_size_seed_and_normaliser(table: AblationTable) -> None:
    said = " ".join(notes(table))
    for part in (f"{sample.UTTERANCES} utterances", "Seed 0", "whisper-english", "adjusted for 6 comparisons on all"):
        assert part in said


def test_two_rows_of_the_quick_start_differ_in_their_losses_alone() -> None:
    fields = [config.model_dump(mode="json") for config in read_preset("one-voice")[1]]
    assert tables.difference_in_words(fields[0], fields[1]) == "soft labels: weight 0.8"
    assert tables.differences(fields[0], fields[0]).empty


def test_a_row_of_a_mixture_differs_in_its_experts() -> None:
    one, mixture, *_ = (config.model_dump(mode="json") for config in read_preset("mixture")[1])
    said = "lora.mixture.experts: 4; lora.mixture.top_k: none; lora.mixture.gain: 1; lora.mixture.balance: 0.01"
    assert tables.difference_in_words(one, mixture) == said


def test_loads_and_active_parameters_are_shown_where_there_are_experts(table: AblationTable) -> None:
    assert mixtures(table) is None
    rows = [replace(row, load=(0.7, 0.2, 0.1) if place == 1 else ()) for place, row in enumerate(table.rows)]
    found = mixtures(replace(table, rows=tuple(rows)))
    assert found is not None
    frame = tables.sheet(found)
    assert list(frame["load per expert, busiest first"]) == ["", "0.70 0.20 0.10", "", ""]
    assert list(frame["Run"]) == [row.run.name for row in table.rows]


def test_a_step_has_its_seconds(table: AblationTable) -> None:
    steps = tables.ablation(alone(table))["step s"].tolist()
    assert steps[2:] == [pytest.approx((88 + place) / sample.STEPS) for place in range(4)]


def test_a_loss_that_is_gone_is_a_difference(make_config: Callable[..., RunConfig]) -> None:
    base = make_config(training={"steps": 10}).model_dump(mode="json")
    other = make_config(
        training={"steps": 20}, method={"name": "m", "losses": [{"kind": "geodesic", "decoder": False}]}
    ).model_dump(mode="json")
    frame = tables.differences(base, other).set_index("Setting")
    assert list(frame.loc["training.steps"]) == ["10", "20"]
    assert list(frame.loc["method.losses.cross_entropy"]) == ["weight 1", "–"]
    assert list(frame.loc["method.losses.geodesic"]) == ["–", "weight 1, no decoder"]


def test_values_that_are_not_finite_are_left_out_of_curves() -> None:
    metrics = [Metric("r", "loss/total", step, value) for step, value in enumerate((1.0, float("nan"), float("inf")))]
    assert tables.curves(metrics)["value"].tolist() == [1.0]


def test_kinds_of_runs_have_a_mean_a_spread_and_a_difference_over_their_seeds(store: Store) -> None:
    found = ablation_table(store, sample.add_seeds(store, utterances=120).id)
    rates = [100 * row.evaluation.wer for row in found.rows if row.evaluation]
    frame = tables.over_seeds(found)
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
    frame = tables.over_seeds(found)
    assert found.over_seeds is not None
    assert frame["Verdict"].tolist() == ["baseline", found.over_seeds.rows[1].verdict]
    assert "p = " in frame["Verdict"][1]
    assert list(tables.contrasts(found)["name"]) == ["kd"]
    assert {said for _, said in tables.verdicts(found)} >= {"baseline", "see over seeds"}


def test_one_seed_has_no_table_over_seeds(table: AblationTable) -> None:
    assert tables.over_seeds(table).empty


def test_a_divergence_of_kept_tokens_never_stands_unmarked_beside_one_of_all(
    table: AblationTable, store: Store
) -> None:
    table = alone(table)
    assert "KL of" not in tables.ablation(table)
    records = store.evaluations(job_id=table.job.id)
    assert "KL of" not in tables.evaluations(records)
    first, *others = table.rows
    assert first.evaluation is not None
    compact = replace(first, evaluation=replace(first.evaluation, heldout_kl_tokens=32))
    frame = tables.ablation(replace(table, rows=(compact, *others))).set_index("Model")
    marks = frame["KL of"].to_dict()
    assert marks.pop(first.run.name) == "top 32"
    assert marks.pop("Teacher") == ""
    assert set(marks.values()) == {"all"}
    kept = [replace(record, heldout_kl_tokens=16) if record.heldout_kl is not None else record for record in records]
    assert set(tables.evaluations([*records, *kept])["KL of"]) == {"", "all tokens", "top 16 tokens"}
