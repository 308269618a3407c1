from collections.abc import Callable
from pathlib import Path

from app import tables
from core.ablation import ablation_table
from core.config import RunConfig, read_preset
from core.runs import Metric
from core.store import Store
from tests.app import sample


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


def test_two_rows_of_the_quick_start_differ_in_their_losses_alone() -> None:
    fields = [config.model_dump(mode="json") for config in read_preset("quickstart")[1]]
    assert tables.difference_in_words(fields[0], fields[1]) == "soft labels: weight 0.8"
    assert tables.differences(fields[0], fields[0]).empty


def test_a_row_of_a_mixture_differs_in_its_experts() -> None:
    one, mixture, *_ = (config.model_dump(mode="json") for config in read_preset("mixture")[1])
    said = "lora.mixture.experts: 4; lora.mixture.top_k: none; lora.mixture.gain: 1; lora.mixture.balance: 0.01"
    assert tables.difference_in_words(one, mixture) == said


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
