import pandas as pd
import pytest

from app import charts


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", [charts.TEACHER, charts.STUDENT, *charts.TERMS])
@pytest.mark.parametrize("background", ["#FFFFFF", "#13171A"])
def test_teacher_student_and_terms_stand_out_from_light_and_dark(colour: str, background: str) -> None:
    lighter, darker = sorted([luminance(colour), luminance(background)], reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 3


def test_a_long_curve_is_thinned_and_keeps_its_last_value() -> None:
    frame = pd.DataFrame({"step": range(12_345), "series": "loss", "value": range(12_345)})
    thinned = charts.thinned(frame)
    assert len(thinned) <= charts.MOST_POINTS_OF_A_CURVE
    assert thinned["step"].iloc[-1] == 12_344
    assert thinned["step"].is_monotonic_increasing


def test_a_short_curve_keeps_every_value_of_each_series() -> None:
    frame = pd.DataFrame({"step": [1, 1, 2, 2], "series": ["a", "b", "a", "b"], "value": [1.0, 2.0, 3.0, 4.0]})
    assert sorted(charts.thinned(frame)["value"]) == [1.0, 2.0, 3.0, 4.0]


def test_a_term_that_sets_in_later_has_no_share_before() -> None:
    late = pd.DataFrame({"step": range(51, 101), "series": "late", "value": 0.25})
    whole = pd.DataFrame({"step": range(1, 101), "series": "whole", "value": 0.75})
    drawn = charts.shares(pd.concat([whole, late]), description="").to_dict()
    rows = next(iter(drawn["datasets"].values()))
    values = {(row["series"], row["step"]): row["value"] for row in rows}
    assert values["late", 50] == 0
    assert values["late", 51] == 0.25
    assert len(values) == 200


def test_a_chart_says_in_words_what_it_shows() -> None:
    frame = pd.DataFrame({"name": ["a"], "role": ["Student"], "wer": [12.0]})
    assert charts.rates(frame, description="WER of a: 12 %").to_dict()["description"] == "WER of a: 12 %"


def test_a_chart_of_many_series_has_few_points_of_each_with_its_last() -> None:
    frame = pd.DataFrame(
        [(name, step, 1 / step) for name in range(50) for step in range(1, 1001)], columns=["series", "step", "value"]
    )
    kept = charts.thinned(frame)
    assert len(kept) <= charts.MOST_POINTS
    assert {max(part["step"]) for _, part in kept.groupby("series")} == {1000}
    assert min(len(part) for _, part in kept.groupby("series")) >= 50


def test_a_narrow_curve_has_as_many_digits_on_its_axis_as_tell_its_ticks_apart() -> None:
    frame = pd.DataFrame({"step": [1, 2], "series": "loss", "value": [2.585, 2.592]})
    axis = charts.curve(frame, description="loss").to_dict()["layer"][0]["encoding"]["y"]["axis"]
    # Three digits were asked for once, and each tick said 2.59: without a wish, the distance of the ticks decides.
    assert "format" not in axis


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["Cross entropy", "Soft labels", "Geodesic"], 3),
        (["LoRA + CE · r63gv5ds", "+ logit KD · r3anj2fa", "+ cosine · rmy3veda"], 2),
        (["student of the best per utterance", "student of the weighted mean"], 1),
    ],
)
def test_a_legend_is_no_wider_than_a_phone(names: list[str], columns: int) -> None:
    frame = pd.DataFrame([(name, 1, 0.5) for name in names], columns=["series", "step", "value"])
    drawn = charts.curve(frame, description="").to_dict()["layer"][0]["encoding"]["color"]["legend"]
    assert drawn["columns"] == columns
