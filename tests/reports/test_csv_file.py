import csv
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.ablation import ablation_table
from core.reports.csv_file import ablation_csv, comparison_csv, inert, runs_csv, utterances_csv, written
from core.runs import AblationTable, Studio
from core.store import Store
from tests.app import sample

NUMBERS = (
    "wer_percent",
    "substitutions",
    "deletions",
    "insertions",
    "words",
    "utterances",
    "difference_points",
    "low_points",
    "high_points",
    "p_adjusted",
    "kl_nats_per_token",
    "kl_of_likeliest_tokens",
    "real_time_factor",
    "adapter_parameters",
    "projection_parameters",
    "trained_parameters",
    "trained_percent_of_teacher",
    "step_seconds",
    "training_seconds",
    "seed",
)


def frame_of(content: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(content))


def lines_of(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content)))


@pytest.mark.parametrize("third", [False, True], ids=["runs that are tested", "seeds that are tested together"])
def test_an_ablation_comes_back_with_its_numbers(store: Store, third: bool) -> None:
    seeds = ablation_table(store, sample.add_seeds(store, utterances=120, third=third).id)
    frame = frame_of(ablation_csv(seeds))
    own = frame.loc[frame["role"] == "student"].reset_index(drop=True)
    assert len(own) == len(seeds.rows)
    for (_, line), row in zip(own.iterrows(), seeds.rows, strict=True):
        if row.evaluation is None:
            assert pd.isna(line["wer_percent"])
            continue
        assert line["wer_percent"] == pytest.approx(100 * row.evaluation.wer, rel=1e-15)
        assert (line["words"], line["utterances"], line["seed"]) == (row.evaluation.words, 120, row.run.seed)
        if row.difference is None:
            assert pd.isna(line["difference_points"])
            continue
        if row.interval is None:
            assert third
            assert pd.isna(line["low_points"])
            continue
        ends = (line["low_points"], line["high_points"])
        assert ends == pytest.approx([100 * end for end in row.interval], rel=1e-15)
        assert line["difference_points"] == pytest.approx(100 * row.difference, rel=1e-15)
        assert line["p_adjusted"] == row.p_value
        assert line["against"] == row.against
    assert (own["difference_points"].dropna() < 0).any()
    together = frame.loc[frame["role"] == "seeds_together"].reset_index(drop=True)
    assert seeds.over_seeds is not None
    for (_, line), kind in zip(together.iterrows(), seeds.over_seeds.rows, strict=True):
        assert (line["name"], line["wer_percent"]) == (kind.name, pytest.approx(100 * kind.mean))
        assert (pd.isna(line["p_adjusted"]), pd.isna(line["low_points"])) == (
            kind.p_value is None,
            kind.interval is None,
        )
        assert kind.p_value is None or line["p_adjusted"] == pytest.approx(kind.p_value)


def test_every_column_of_numbers_holds_numbers_alone(table: AblationTable) -> None:
    content = ablation_csv(table)
    frame = frame_of(content)
    for name in NUMBERS:
        assert pd.api.types.is_numeric_dtype(frame[name]), name
    # An empty cell is empty, not an apostrophe and not a pair of quotes.
    assert not [cell for line in lines_of(content) for cell in line.values() if cell in ("'", '""')]
    assert "−" not in content
    parameters = table.rows[0].parameters
    assert parameters is not None
    assert lines_of(content)[1]["trained_parameters"] == str(parameters.trainable)


def test_the_rows_are_those_of_the_table_and_the_baseline_is_told(table: AblationTable) -> None:
    every = lines_of(ablation_csv(table))
    assert [line["test_set"] for line in every] == [*["real"] * 5, *["test"] * 6]
    assert {line["test_set_name"] for line in every} == {"recorded clips", "generated voice"}
    assert [line["wer_percent"] for line in every[1:5]] == [
        str(100 * row.evaluation.wer) for row in table.extra["real"].rows if row.evaluation
    ]
    lines = every[5:]
    assert [line["role"] for line in lines] == ["teacher", "student_before", *["student"] * 4]
    assert [line["baseline"] for line in lines] == ["", "", "yes", "no", "no", "no"]
    assert lines[3]["name"] == "'+ logit KD"
    assert lines[3]["training_seconds"] == "89.0"
    assert table.teacher is not None
    assert table.rows[1].evaluation is not None
    ratio = table.rows[1].evaluation.real_time_factor / table.teacher.real_time_factor
    assert [line["real_time_factor_over_teacher"] for line in lines[:4:3]] == ["", str(ratio)]


def test_loads_of_experts_are_numbers_apart_by_spaces(table: AblationTable) -> None:
    rows = tuple(replace(row, load=(0.75, 0.25)) for row in table.rows)
    assert lines_of(ablation_csv(replace(table, rows=rows, extra={})))[2]["load_per_expert"] == "0.7500 0.2500"


def test_rows_that_were_not_read_yet_are_named_and_left_empty(store: Store, make_config: Callable[..., Any]) -> None:
    job = store.create_job("waiting", [make_config(name="one"), make_config(name="two")])
    lines = lines_of(ablation_csv(ablation_table(store, job.id)))
    assert [(line["name"], line["state"], line["wer_percent"]) for line in lines] == [
        ("one", "queued", ""),
        ("two", "queued", ""),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+ logit KD",
        "-5",
        "@SUM(A1)",
        "−4.1",
        "\tx",
        "\rx",
        "\nx",
        "  =1+1",
        "\u00a0=1",
        "\u200b=1",
        "\ufeff=1",
        "\u202e=1",
        "\x0b=1",
        "\x00=1",
        "＝1+1",
        "＋1",
        "－1",
        "＠SUM(A1)",
        "﹢1",
        "\u3000＝1",
    ],
)
def test_a_text_that_begins_like_a_formula_is_made_inert(text: str) -> None:
    assert inert(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", " ", "LoRA + CE", "a=b", "1-2", "'+ kept", "x@y", "(−4)", "é=", "0.5", "|x"])
def test_any_other_text_stays_as_it_is(text: str) -> None:
    assert inert(text) == text


@example("", 2**53 + 1)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20),
    st.one_of(st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
)
def test_any_text_and_any_number_come_back(text: str, number: float | None) -> None:
    content = written([{"name": text, "value": number}], ["name", "value"])
    (line,) = csv.DictReader(io.StringIO(content, newline=""))
    assert line["name"].removeprefix("'") == text.removeprefix("'")
    # Whole numbers as such: beyond 2^53 a float is not exact.
    assert line["value"] == "" if number is None else type(number)(line["value"]) == number


def test_what_is_no_number_leaves_its_cell_empty_and_a_semicolon_parts_no_text() -> None:
    content = written([{"a": float("nan"), "b": float("inf"), "c": 'x;=1\t"'}], ["a", "b", "c"])
    assert content.splitlines()[1] == ',,"x;=1\t"""'


def test_the_list_of_runs_comes_back(studio: Studio) -> None:
    runs = studio.store.summaries()
    frame = frame_of(runs_csv(runs))
    assert list(frame["run"]) == [run.id for run in runs]
    assert list(frame["wer_percent"]) == pytest.approx([100 * (run.wer or 0) for run in runs])
    assert list(frame["step"]) == [sample.STEPS] * 4
    assert pd.to_datetime(frame["created_utc"]).tolist() == [run.created_at for run in runs]


def test_runs_side_by_side_come_back(studio: Studio) -> None:
    comparison = studio.compare([run.id for run in studio.store.summaries()])
    frame = frame_of(comparison_csv(comparison))
    for name in comparison.test_sets:
        rates = [100 * row.evaluations[name].wer for row in comparison.rows]
        assert list(frame[f"wer_percent_{name}"]) == pytest.approx(rates)
    assert all(0 < angle < 180 for angle in frame["angle_degrees"])


def test_utterances_come_back(studio: Studio) -> None:
    record = next(item for item in studio.store.evaluations(test_set="test") if item.run_id)
    results = studio.store.utterance_results(record.id)
    frame = frame_of(utterances_csv(results))
    errors = frame["substitutions"] + frame["deletions"] + frame["insertions"]
    assert list(errors) == [item.errors for item in results]
    assert list(frame["reference"]) == [item.reference for item in results]
