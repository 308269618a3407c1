import pytest

from core.config import PrunedStudent
from core.counting import TOKENS_PER_SECOND, flops_per_second, non_embedding_parameters, on_meta, parameter_counts
from core.families.pruning import prune
from core.families.whisper import Whisper
from core.lora import count_parameters
from core.store.records import ParameterCounts
from tests.engine import random_whisper, run_config, tiny_en

WIDTH, VOCABULARY, MELS = 384, 51_864, 80
FRAMES, POSITIONS = 1500, 448


@pytest.fixture(scope="module")
def teacher() -> Whisper:
    return Whisper(tiny_en(), language="en")


def linear(inputs: int, outputs: int, *, bias: bool = True) -> int:
    return inputs * outputs + bias * outputs


def attention() -> int:
    return 3 * linear(WIDTH, WIDTH) + linear(WIDTH, WIDTH, bias=False)  # the keys have no bias


def feed_forward() -> int:
    return linear(WIDTH, 4 * WIDTH) + linear(4 * WIDTH, WIDTH)


def test_tiny_en_has_the_parameters_that_its_shape_gives_by_hand(teacher: Whisper) -> None:
    norm = 2 * WIDTH
    convolutions = 3 * MELS * WIDTH + WIDTH + 3 * WIDTH * WIDTH + WIDTH
    encoder = convolutions + 4 * (attention() + feed_forward() + 2 * norm) + norm
    decoder = 4 * (2 * attention() + feed_forward() + 3 * norm) + norm
    tables = (FRAMES + POSITIONS + VOCABULARY) * WIDTH

    counts = parameter_counts(run_config(), student=teacher, teachers=[teacher])

    assert counts.teacher == counts.student == encoder + decoder + tables == 37_760_256
    assert counts.student_non_embedding == encoder + decoder


def test_tiny_en_computes_what_its_shape_gives_by_hand(teacher: Whisper) -> None:
    def products(rows: int) -> int:  # of the eight square matrices of a feed-forward block
        return 2 * rows * 8 * WIDTH * WIDTH

    tokens = 30 * TOKENS_PER_SECOND
    square = 2 * WIDTH * WIDTH
    convolutions = 2 * 3000 * 3 * MELS * WIDTH + 2 * FRAMES * 3 * WIDTH * WIDTH
    encoder = convolutions + 4 * (4 * FRAMES * square + 4 * FRAMES**2 * WIDTH + products(FRAMES))
    own = 4 * tokens * square + 4 * tokens**2 * WIDTH
    across = 2 * tokens * square + 2 * FRAMES * square + 4 * tokens * FRAMES * WIDTH
    decoder = 4 * (own + across + products(tokens)) + 2 * tokens * WIDTH * VOCABULARY

    assert encoder == 36_937_728_000
    assert flops_per_second(teacher, audio_context=30) == pytest.approx((encoder + decoder) / 30, rel=1e-12)


def test_a_shorter_context_takes_less_per_second_because_attention_is_square(teacher: Whisper) -> None:
    assert flops_per_second(teacher, audio_context=10) < flops_per_second(teacher, audio_context=30)


def test_what_is_trained_is_counted_beside_one_teacher_and_several() -> None:
    large, small = random_whisper(width=64), random_whisper()
    student = prune(large, PrunedStudent(encoder_layers=(0, 1, 3)))
    config = run_config(lora={"rank": 4, "encoder_targets": ["fc1"]})

    counts = parameter_counts(config, student=student, teachers=[large, small])

    assert counts.adapters == 4 * (64 + 128)
    assert counts.projections == 64 * 64 + 64 * 32  # one for each teacher
    assert counts.teacher == count_parameters(large.model) + count_parameters(small.model)
    assert counts.largest_teacher == count_parameters(large.model)
    assert counts.shares(counts.trainable) == (
        pytest.approx(counts.trainable / counts.teacher),
        pytest.approx(counts.trainable / count_parameters(large.model)),
    )
    assert counts.student_flops is not None
    assert counts.teacher_flops is not None
    assert counts.student_flops < counts.teacher_flops


def test_a_budget_is_counted_with_the_rank_that_it_allows() -> None:
    teacher = random_whisper()
    student = prune(teacher, PrunedStudent(encoder_layers=(0, 1, 3)))
    config = run_config(lora={"budget": 0.002, "encoder_targets": ["fc1"]})
    counts = parameter_counts(config, student=student, teachers=[teacher])
    assert counts.share_of_teacher <= 0.002 < (counts.trainable + 32 + 64) / counts.teacher


def test_a_mixture_is_deployed_beside_the_student_and_counted_with_all_and_with_active_experts() -> None:
    teacher = random_whisper()
    student = prune(teacher, PrunedStudent(encoder_layers=(0, 1, 3)))

    def counted(**lora: object) -> ParameterCounts:
        config = run_config(lora={"rank": 14, "encoder_targets": ["fc1"], **lora})
        return parameter_counts(config, student=student, teachers=[teacher])

    dense = counted()
    one, two, all_three = (counted(mixture={"experts": 3, "top_k": top_k}) for top_k in (1, 2, None))
    plain, expert, router = count_parameters(student.model), 4 * (32 + 64), 3 * 32  # experts of rank 4

    assert (dense.student, dense.student_active, dense.adapters) == (plain, plain, 14 * (32 + 64))
    assert {each.adapters for each in (one, two, all_three)} == {3 * expert + router}
    assert {each.student for each in (one, two, all_three)} == {plain + 3 * expert + router}
    active = [each.student_active for each in (one, two, all_three)]
    assert active == [plain + number * expert + router for number in (1, 2, 3)]
    # All experts are computed, whichever a point goes to: per frame, two operations for each of their weights.
    assert dense.student_flops is not None
    assert one.student_flops is not None
    assert one.student_flops == all_three.student_flops
    assert one.student_flops - dense.student_flops == pytest.approx(50 * 2 * (3 * expert + router))


def test_a_copy_without_weights_has_the_same_shape() -> None:
    model = prune(random_whisper(), PrunedStudent(encoder_layers=(0, 3), decoder_layers=(1,)))
    empty = on_meta(model)
    assert {parameter.device.type for parameter in empty.model.parameters()} == {"meta"}
    assert count_parameters(empty.model) == count_parameters(model.model)
    assert non_embedding_parameters(empty.model) == non_embedding_parameters(model.model)
