"""Pseudo-labels: the teacher's own transcripts as what the student's decoder reads and learns.

Sequence-level distillation with a filter, after Distil-Whisper (Gandhi et al. 2023, arXiv 2311.00430, section 3.2): a
transcript that differs too much from the reference is left out. Audio without a reference has nothing to differ from.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.config import Method
from core.errors import ConfigError
from core.evaluation import Transcription
from core.normalisers import Normaliser
from core.sources import Utterance
from core.teacher_outputs import Prepared
from core.wer import word_errors


@dataclass(frozen=True)
class PseudoLabelled:
    """An utterance with the teacher's transcript.

    Attributes:
        prepared: With the teacher's transcript in place of the reference.
        wer: Of the transcript against the reference, a fraction; None where there is no reference.
    """

    prepared: Prepared
    wer: float | None


def pseudo_labelled(
    prepared: Sequence[Prepared],
    *,
    transcribe: Callable[[Sequence[Prepared]], Transcription],
    listen: Callable[[Sequence[Utterance]], list[Prepared]],
    normaliser: Normaliser,
) -> list[PseudoLabelled]:
    """Return utterances with the teachers' transcripts; those without a word are left out.

    Args:
        prepared: The utterances.
        transcribe: Transcribes with the teachers, of several with the surest; it sees no references.
        listen: Runs the teachers' decoders over the new transcripts.
        normaliser: Makes words of references and transcripts.
    """
    said = transcribe(
        [dataclasses.replace(item, utterance=dataclasses.replace(item.utterance, text="")) for item in prepared]
    )
    heard = [(item.utterance, text) for item, text in zip(prepared, said.hypotheses, strict=True) if text]
    again = listen([dataclasses.replace(utterance, text=text) for utterance, text in heard])
    return [
        PseudoLabelled(item, _wer(utterance.text, text, normaliser))
        for item, (utterance, text) in zip(again, heard, strict=True)
    ]


def training_set(method: Method, prepared: Sequence[Prepared], pseudo: Sequence[PseudoLabelled]) -> list[Prepared]:
    """Return the utterances that a method learns from.

    Without a decoder pass no transcript is needed, so all audio counts.

    Raises:
        ConfigError: If none is left.
    """
    if method.transcripts == "teacher":
        chosen = [item.prepared for item in pseudo if item.wer is None or item.wer <= method.largest_wer]
        what = f"no transcript of the teacher's has a WER of at most {method.largest_wer:g}: raise method.largest_wer"
    else:
        chosen = [item for item in prepared if item.utterance.text or not method.needs_decoder]
        what = "no training utterance has a transcript: set method.transcripts to 'teacher', or align the encoder alone"
    if not chosen:
        raise ConfigError(f"'{method.name}' has nothing to learn from: {what}.")
    return chosen


def _wer(reference: str, text: str, normaliser: Normaliser) -> float | None:
    """Return the rate of errors, or None where there are no words to get wrong."""
    return word_errors(reference, text, normaliser).wer if normaliser(reference) else None
