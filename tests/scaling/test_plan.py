"""Plans: units, sums, devices, and numbers that cannot be."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from core.config import RunConfig, read_preset
from core.errors import ConfigError
from core.scaling.fit import Calibration, read_calibration
from core.scaling.plan import Size, plan
from core.scaling.rows import last_group
from core.scaling.shapes import RELEASED

DECODER = {"encoder_targets": [], "decoder_targets": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def measured() -> Calibration:
    found = read_calibration(Path(__file__).parent)
    assert found is not None
    return found


def test_training_is_its_steps_and_all_parts_are_the_whole(
    measured: Calibration, make_config: Callable[..., RunConfig]
) -> None:
    config = make_config(training={"batch_size": 4})
    once = plan([config], Size(10), measured)
    assert once.steps == 10 * 3600 / 10 / 4
    assert plan([config], Size(10, epochs=3), measured).seconds["training"] == pytest.approx(
        3 * once.seconds["training"]
    )
    assert once.total_seconds == sum(once.seconds.values())
    assert once.between(100) == pytest.approx((75, 125))


def test_listening_and_memory_grow_with_the_audio(measured: Calibration, make_config: Callable[..., RunConfig]) -> None:
    small, large = (plan([make_config()], Size(hours, test=0), measured) for hours in (100, 200))
    assert large.seconds["listening"] == pytest.approx(2 * small.seconds["listening"], rel=0.01)
    assert large.memory["prepared states"] == pytest.approx(2 * small.memory["prepared states"], rel=0.01)
    assert large.disk == small.disk


def test_what_teachers_say_takes_disk_where_it_is_kept(
    measured: Calibration, make_config: Callable[..., RunConfig]
) -> None:
    live, kept = (
        plan([make_config(training={"teacher_outputs": how})], Size(100), measured) for how in ("live", "cached")
    )
    assert kept.total_disk - live.total_disk == pytest.approx(kept.memory["prepared states"] / 2)


def test_a_larger_teacher_and_more_of_them_take_longer_and_more_memory(
    measured: Calibration, make_config: Callable[..., RunConfig]
) -> None:
    student = {"kind": "pretrained", "model": "openai/whisper-tiny"}
    teachers = [["tiny"], ["base"], ["base", "base"], ["large-v2"]]
    plans = [
        plan(
            [make_config(teachers=[{"model": f"openai/whisper-{name}"} for name in names], student=student)],
            Size(10),
            measured,
        )
        for names in teachers
    ]
    assert [found.seconds["listening"] for found in plans] == sorted(found.seconds["listening"] for found in plans)
    assert len({found.memory["weights"] for found in plans}) == 4


def test_students_side_by_side_cost_less_than_their_number(
    measured: Calibration, make_config: Callable[..., RunConfig]
) -> None:
    beside = make_config(lora=DECODER, freeze_below=3)
    one, eight, nine = (plan([beside], Size(10, students=many), measured) for many in (1, 8, 9))
    assert (eight.companies, nine.companies) == ((8,), (8, 1))
    assert one.seconds["training"] < eight.seconds["training"] < 8 * one.seconds["training"]
    apart = plan([make_config()], Size(10, students=8), measured)
    assert apart.companies == (1,) * 8
    assert apart.seconds["training"] == pytest.approx(8 * plan([make_config()], Size(10), measured).seconds["training"])


def test_devices_share_the_students_and_the_first_listens_for_all(
    measured: Calibration, make_config: Callable[..., RunConfig]
) -> None:
    one, two, many = (plan([make_config()], Size(10, students=5, devices=devices), measured) for devices in (1, 2, 9))
    assert two.companies == (1, 1, 1)
    assert two.seconds["training"] == pytest.approx(one.seconds["training"] * 3 / 5)
    assert two.seconds["listening"] == one.seconds["listening"]
    assert many.seconds["training"] == pytest.approx(one.seconds["training"] / 5)
    # Each device holds what the first has heard, and finds it in one file.
    handed = "handed over, while it trains"
    assert two.memory["prepared states"] == one.memory["prepared states"] == two.disk[handed]
    assert {name: size for name, size in two.disk.items() if name != handed} == one.disk
    beside = plan([make_config(lora=DECODER, freeze_below=3)], Size(10, students=8, devices=2), measured)
    assert beside.companies == (4,)


def test_devices_train_a_single_student_together_on_parts_of_its_batches(
    measured: Calibration, make_config: Callable[..., RunConfig]
) -> None:
    config = make_config(training={"batch_size": 8})
    one, two, many = (plan([config], Size(10, devices=devices), measured) for devices in (1, 2, 99))
    of_half = plan([make_config(training={"batch_size": 4})], Size(10), measured)
    assert (one.together, two.together, many.together) == (1, 2, 8)
    assert one.steps == two.steps == of_half.steps / 2
    assert two.seconds["training"] == pytest.approx(of_half.seconds["training"] / 2)
    assert many.seconds["training"] < two.seconds["training"] < one.seconds["training"]
    # The first alone does all else.
    assert {**two.seconds, "training": 0} == {**one.seconds, "training": 0}
    assert two.disk["handed over, while it trains"] == two.memory["prepared states"]
    assert two.left_out == f"{one.left_out} What devices that train one student say to each other is left out, too."


def test_everything_that_cannot_be_is_told_at_once(
    measured: Calibration, make_config: Callable[..., RunConfig]
) -> None:
    config = make_config(teachers=[{"model": "nobody/knows"}])
    wrong = Size(hours=-1, students=0, epochs=float("nan"), devices=0, clip_seconds=99, development=0, test=-1)
    with pytest.raises(ConfigError) as refused:
        plan([config], wrong, measured)
    places = [problem.where for problem in refused.value.problems]
    assert places == ["hours", "epochs", "students", "gpus", "development", "test", "clip", "nobody/knows"]


def test_a_preset_whose_rows_teach_is_planned_for_the_rows_that_learn(measured: Calibration) -> None:
    last, rows = last_group(read_preset("ensemble")[1])
    assert len(last) == 4
    assert rows["expert in babble"] == RELEASED["openai/whisper-tiny.en"]
    assert plan(last, Size(1, students=4), measured, rows=rows).total_seconds > 0


def test_times_that_are_wrong_by_more_widen_the_range(
    measured: Calibration, make_config: Callable[..., RunConfig]
) -> None:
    far = tuple(
        dataclasses.replace(point, seconds=2 * point.seconds) if point.held_out else point for point in measured.points
    )
    found = plan([make_config()], Size(1), dataclasses.replace(measured, points=far))
    assert found.error > 0.25
    assert found.between(1.0)[0] < 0.75
