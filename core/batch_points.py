"""How many points the batches of a run have, and which terms cannot tell anything from so few.

A term that fits a rotation to the points of a batch (Procrustes) finds any two sides alike where there are fewer points
than dimensions. Of normal states that have nothing in common, as many points as dimensions leave a quarter of the
distance that there is, a tenth as many a fiftieth.
"""

from collections.abc import Sequence
from statistics import fmean

from core.config import RunConfig
from core.errors import ConfigError, Problem
from core.families.whisper import Whisper, frame_count
from core.preflight import pairs_of
from core.scaling.work import TOKENS_PER_SECOND
from core.sources import Utterance


def few_points_problems(
    config: RunConfig, *, student: Whisper, teachers: Sequence[Whisper], learnt: Sequence[Utterance] = ()
) -> list[Problem]:
    """Return which terms of a run compare fewer points at once than they need.

    Args:
        config: The run, sound as far as its models tell.
        student: Of its tokens are the texts.
        teachers: All of them.
        learnt: The training set; without it every clip is taken to be as long as the audio context.
    """
    turning = [(number, loss) for number, loss in enumerate(config.method.losses) if loss.turns_freely]
    if not turning:
        return []
    pairs = pairs_of(config, student=student, teachers=teachers)
    points = {side: round(config.training.batch_size * each) for side, each in _each(config, student, learnt).items()}
    mapping = config.method.mapping
    widths = [mapping.common_width or teacher.width for teacher in teachers]
    if mapping.states == "whitened":
        widths = [min(width, mapping.directions) for width in widths]
    return [
        Problem(
            f"method.losses.{number}",
            f"{loss.kind} turns the points of a batch onto the teacher's, here about {points[side]} {side} states of "
            f"{max(widths)} dimensions; so few can be turned onto any others, and the term tells nothing. Raise "
            f"training.batch_size to {-(-config.training.batch_size * max(widths) // points[side])}, compare fewer "
            f"dimensions (method.mapping: basis principal, common_width up to {points[side]}), or set its {side} to "
            "false",
        )
        for number, loss in turning
        for side in ("encoder", "decoder")
        if loss.aligns(side) and any(pair.side == side for pair in pairs) and points[side] < max(widths)
    ]


def require_enough_points(
    configs: Sequence[RunConfig], *, student: Whisper, teachers: Sequence[Whisper], learnt: Sequence[Utterance]
) -> None:
    """Raise ConfigError with every term of every run of a job that compares too few points at once."""
    problems = [
        Problem(f"{config.name}: {problem.where}", problem.message)
        for config in configs
        for problem in few_points_problems(config, student=student, teachers=teachers, learnt=learnt)
    ]
    if problems:
        raise ConfigError("The run cannot start:", problems)


def _each(config: RunConfig, student: Whisper, learnt: Sequence[Utterance]) -> dict[str, float]:
    """Return how many points of each side an utterance has: the mean, or the most where nothing is known."""
    context = config.training.audio_context
    texts = [item.text for item in learnt if item.text]
    return {
        "encoder": fmean(frame_count(item.duration) for item in learnt) if learnt else frame_count(context),
        # The end of the text is a token, too.
        "decoder": fmean(len(student.tokens(text)) + 1 for text in texts) if texts else TOKENS_PER_SECOND * context + 1,
    }
