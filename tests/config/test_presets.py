"""Presets that compare methods: what differs between their rows is the method, never how well it was tuned."""

from typing import Any

import pytest

from core.config import RunConfig, preset_names, read_preset

TUNING = [name for name in preset_names() if name.endswith("-tuning")]
COMPARING = [name for name in preset_names() if name not in TUNING]
OVER_SEEDS = [name for name in preset_names() if name.endswith("-seeds")]


def weights(run: RunConfig) -> dict[str, float]:
    return {loss.kind: loss.weight for loss in run.method.losses}


@pytest.mark.parametrize("name", COMPARING)
def test_all_rows_have_the_same_hyper_parameters(name: str) -> None:
    # Trap: hyper-parameters that were drawn at random, or tuned for one row alone. They are frozen for all rows.
    def frozen(run: RunConfig) -> dict[str, Any]:
        return {
            **run.training.model_dump(),
            # A budget is part of what a row says; the rank that it gives keeps alpha / rank.
            **run.lora.model_dump(include={"rank", "alpha", "dropout"}),
            "seed": None if name in OVER_SEEDS else run.seed,
        }

    _, runs = read_preset(name)
    assert [frozen(run) for run in runs] == [frozen(runs[0])] * len(runs)


@pytest.mark.parametrize("name", COMPARING)
def test_a_term_weighs_the_same_in_every_row_that_adds_to_another(name: str) -> None:
    # A row that stands on cross-entropy and soft labels must not weigh these two in its own favour.
    # Distil-Whisper's recipe adds to none: it learns other transcripts, with the weights of its own script.
    _, runs = read_preset(name)
    for kind in ("cross_entropy", "soft_labels"):
        standing = [run for run in runs if kind in weights(run) and run.method.transcripts == "reference"]
        assert len({weights(run)[kind] for run in standing}) <= 1


@pytest.mark.parametrize("name", OVER_SEEDS)
def test_every_method_has_every_seed_and_is_the_preset_s_own_otherwise(name: str) -> None:
    # Verdicts over seeds take the same seeds of both sides; other settings would be told as scatter of seeds.
    _, runs = read_preset(name)
    _, single = read_preset(name.removesuffix("-seeds"))
    seeds = sorted({run.seed for run in runs})
    assert len(seeds) >= 3
    without = {"evaluation": {"extra_tests": ()}}

    def settings(run: RunConfig, seed: int) -> dict[str, Any]:
        return {**run.model_dump(exclude={"name", "evaluation"}), **without, "seed": seed}

    assert [settings(run, run.seed) for run in runs] == [settings(run, seed) for seed in seeds for run in single]


def test_there_is_a_preset_to_tune_with() -> None:
    assert TUNING
    assert COMPARING


@pytest.mark.parametrize("name", TUNING)
def test_tuning_never_reads_the_test_set(name: str) -> None:
    # Trap: see above; whoever tunes on the test set has no number left to report.
    _, runs = read_preset(name)
    assert not any(run.evaluation.test for run in runs)
    assert all(run.evaluation.test for compared in COMPARING for run in read_preset(compared)[1])
