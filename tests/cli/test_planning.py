"""manifold plan: what was measured, what it predicts, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest

from core.scaling.fit import FILE
from tests.cli.conftest import Command

MEASURED = Path(__file__).parents[1] / "scaling" / FILE


@pytest.fixture
def measured(tmp_path: Path) -> list[str]:
    shutil.copy(MEASURED, tmp_path / FILE)
    return ["--runs", str(tmp_path)]


def test_nothing_is_predicted_before_anything_was_measured(manifold: Command, tmp_path: Path) -> None:
    status, said, errors = manifold("plan", "--hours", "1", "--runs", str(tmp_path / "runs"))
    assert (status, said) == (1, "")
    assert "manifold plan --measure" in errors


def test_without_a_size_predictions_stand_beside_what_was_measured(manifold: Command, measured: list[str]) -> None:
    status, said, _ = manifold("plan", *measured, "--json")
    found = json.loads(said)
    assert status == 0
    assert {each["part"] for each in found["held_out"]} == {"step", "listening", "transcription", "memory of a step"}
    assert all(each["error"] == pytest.approx(each["predicted"] / each["measured"] - 1) for each in found["held_out"])
    assert "measured at" in manifold("plan", *measured)[1]


def test_a_plan_tells_parts_totals_and_where_it_was_measured(manifold: Command, measured: list[str]) -> None:
    size = [
        "--hours",
        "100",
        "--teachers",
        "openai/whisper-large-v2",
        "--students",
        "8",
        "--epochs",
        "3",
        "--gpus",
        "2",
    ]
    status, said, _ = manifold("plan", *size, *measured, "--json")
    found = json.loads(said)
    assert status == 0
    assert (found["hours"], found["students"], found["devices"]) == (100, 8, 2)
    assert found["total"]["seconds"]["value"] == pytest.approx(sum(found["seconds"].values()))
    low, high = found["total"]["memory"]["range"]
    assert low < found["total"]["memory"]["value"] < high
    text = manifold("plan", *size, *measured)[1]
    for part in ("listening", "training", "prepared states", "adapters", "Left out", "CPU, one thread"):
        assert part in text


def test_all_mistakes_of_a_plan_come_at_once(manifold: Command, measured: list[str]) -> None:
    wrong = ["--hours", "0", "--students", "0", "--clip", "40", "--teachers", "nobody/knows", "--teachers", "x"]
    status, _, errors = manifold("plan", *wrong, *measured)
    assert status == 2
    for place in ("hours", "students", "clip", "nobody/knows", "x"):
        assert f"  - {place}: " in errors


def test_a_preset_that_does_not_exist_is_told(manifold: Command, measured: list[str]) -> None:
    status, _, errors = manifold("plan", "--hours", "1", "--preset", "none", *measured)
    assert status == 1
    assert "The presets are" in errors
