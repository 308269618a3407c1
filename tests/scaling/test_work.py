"""Work counted from shapes, against what PyTorch counts of the models themselves."""

import pytest

from core.counting import flops_per_second
from core.families.whisper import Whisper
from core.scaling.shapes import RELEASED
from core.scaling.trials import TRIALS
from core.scaling.work import Clips, decoder_work, encoder_work, step_work, transcription_work
from tests.engine import tiny_en

TINY = RELEASED["openai/whisper-tiny.en"]


@pytest.mark.parametrize("context", [10.0, 30.0])
def test_a_pass_has_the_flops_that_pytorch_counts(context: float) -> None:
    tokens = round(4 * context)
    # One prompt token stands before the text, and its end is learnt.
    clips = Clips(1, context, context, tokens=tokens - 2)
    work = encoder_work(TINY, clips) + decoder_work(TINY, clips)
    head = 2 * tokens * TINY.width * TINY.vocabulary
    counted = flops_per_second(Whisper(tiny_en(), language="en"), audio_context=context) * context
    assert work.products + work.attention + head == pytest.approx(counted, rel=1e-9)


def test_freezing_layers_takes_their_work_out_of_a_step() -> None:
    trial = next(trial for trial in TRIALS if trial.part == "step" and trial.frozen == 2)
    config, (teacher, student) = trial.config(), trial.shapes()
    frozen = step_work(config, [teacher], student, trial.clips(10))
    lower = config.model_copy(update={"freeze_below": 1})
    assert step_work(lower, [teacher], student, trial.clips(10)).products > frozen.products


def test_students_side_by_side_share_the_encoders_keys_and_the_teacher() -> None:
    trial = next(trial for trial in TRIALS if trial.students == 8)
    config, (teacher, student) = trial.config(), trial.shapes()
    one, eight = (step_work(config, [teacher], student, trial.clips(10), students=many) for many in (1, 8))
    assert one.head < eight.head < 8 * one.head
    assert one.products < eight.products < 8 * one.products


def test_work_adds_up_and_multiplies() -> None:
    work = transcription_work([TINY], Clips(4, 5, 10), steps=20, first=2)
    assert (work + work).as_list() == (work * 2).as_list()
