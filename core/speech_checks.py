"""Whether the speech of a job can be heard, learnt and counted: lengths of clips and of texts, and words to count."""

import math
from collections.abc import Sequence

from core.config import Evaluation
from core.errors import ConfigError, DataError, Problem
from core.evaluation import token_cap
from core.families.whisper import Whisper
from core.normalisers import Normaliser
from core.scaling.work import TOKENS_BESIDES_SPEECH
from core.sources import Utterance

MOST_TOKENS_PER_SECOND = 50.0
"""Of evaluation.tokens_per_second."""


def require_fits(utterances: Sequence[Utterance], *, audio_context: float, field: str) -> None:
    """Raise ConfigError when a clip is longer than the audio context."""
    longer = [item for item in utterances if item.duration > audio_context]
    if longer:
        worst = max(longer, key=lambda item: item.duration)
        raise ConfigError(
            f"{len(longer)} clips are longer than {field} = {audio_context:g} s; the longest is {worst.audio_path} "
            f"with {worst.duration:.1f} s. Raise {field} (up to 30) or remove the clips."
        )


def require_readable(
    utterances: Sequence[Utterance], measured: Sequence[Utterance], *, student: Whisper, normaliser: Normaliser
) -> None:
    """Raise DataError, naming every utterance whose text cannot be learnt or counted.

    Args:
        utterances: All that have tokens.
        measured: Those whose words are counted.
        student: Its decoder holds so many tokens and no more, and takes some for control tokens.
        normaliser: Makes the words that are counted. Nothing is said where a text is empty, which may be measured.
    """
    most, control = longest_text(student), student.control_tokens
    problems: list[Problem] = []
    for item in utterances:
        tokens = student.tokens(item.text) if item.text else []
        if len(tokens) > most:
            said = f"its transcript has {len(tokens)} tokens, and the model writes {most} at most; cut the clip"
            problems.append(Problem(item.where or item.id, said))
        for name in [control[token] for token in tokens if token in control][:1]:
            said = f"its transcript holds {name}, a control token that the model takes as such; remove it"
            problems.append(Problem(item.where or item.id, said))
    said = "'{}' has no words once it is normalised; correct it, or leave the text empty where nothing is said"
    problems += [
        Problem(item.where or item.id, said.format(item.text))
        for item in measured
        if item.text and not normaliser(item.text)
    ]
    if problems:
        raise DataError("Transcripts that cannot be used:", problems)


def longest_text(student: Whisper) -> int:
    """Return how many tokens of text the student's decoder holds."""
    return student.model.config.max_target_positions - len(student.prompt)


def cut_references(
    utterances: Sequence[Utterance], *, name: str, settings: Evaluation, student: Whisper
) -> list[Problem]:
    """Return whether decoding would end before references of a set do, with the setting that lets them be written.

    Args:
        utterances: The set.
        name: What it is called.
        settings: Of the cap on tokens.
        student: Counts the tokens; texts that its decoder cannot hold are another mistake.
    """
    most = longest_text(student)
    sizes = [(item, len(student.tokens(item.text))) for item in utterances if item.text]
    cut = [(item, size) for item, size in sizes if token_cap(settings, item.duration) < size <= most]
    if not cut:
        return []
    item, size = max(cut, key=lambda each: (each[1] - TOKENS_BESIDES_SPEECH) / each[0].duration)
    enough = math.ceil(10 * (size - TOKENS_BESIDES_SPEECH) / item.duration + 1e-6) / 10
    remedy = f"set it to {enough:g}"
    if enough > MOST_TOKENS_PER_SECOND:
        remedy = (
            f"correct or remove '{item.id}', whose text has {size} tokens in {item.duration:.1f} s, and set it higher"
        )
    return [
        Problem(
            "evaluation.tokens_per_second",
            f"{settings.tokens_per_second:g} cuts {len(cut):,} of {len(utterances):,} references of the {name} set: "
            f"the text of '{item.id}' has {size} tokens, and decoding stops at {token_cap(settings, item.duration)}; "
            f"{remedy}",
        )
    ]
