"""Under which recipe and key each answer is kept: all that changes it, and neither batch size nor machine."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.cache import Recipe, transcript_key, utterance_key
from core.config import RunConfig
from core.evaluation import Listener, Together, decoding_description
from core.families.whisper import Whisper
from core.listening.live import Models
from core.sources import Utterance

MASS = 0.999
"""Share of the probability at temperature 1 that the top tokens should hold."""

MOST = 32
"""Top tokens at most, whatever they hold: a second of speech then takes half a KiB."""

PRECISION = "bfloat16"
"""Of states."""

Logits = Literal["top", "states", "none"]
"""What is kept of a teacher's logits: its most likely tokens, the states that its head makes them from, or nothing."""


def logits_kept(configs: Sequence[RunConfig], *, alike: bool) -> Logits:
    """Return what some runs keep of their teachers' logits.

    Top tokens stand for a single teacher's logits where nobody but soft labels reads them.

    Args:
        configs: Of one group.
        alike: Whether teachers and student read and write the same tokens; if not, no token is compared.
    """
    if not alike:
        return "none"
    losses = [loss for config in configs for loss in config.method.losses if "states" not in loss.reads]
    enough = all(loss.fused is not None for loss in losses) and len(configs[0].teachers) == 1
    return "top" if enough and configs[0].training.teacher_outputs == "compact" else "states"


def temperatures_of(configs: Sequence[RunConfig]) -> tuple[float, ...]:
    """Return the temperatures of soft labels beside 1, at which evaluations ask for top tokens anyway."""
    losses = [loss for config in configs for loss in config.method.losses]
    return tuple(sorted({loss.softening for loss in losses if loss.fused == "soft_labels"} - {1.0}))


@dataclass(frozen=True)
class Recipes:
    """The recipes of a group of runs.

    Attributes:
        models: Its teachers and its student.
        names: What the teachers are called, and last the student.
        logits: What is kept of logits.
        temperatures: See `temperatures_of`.
    """

    models: Models
    names: tuple[str, ...]
    logits: Logits
    temperatures: tuple[float, ...]
    _audio: dict[Path, str] = field(default_factory=dict)

    def audio_key(self, utterance: Utterance) -> str:
        """Return the key of an utterance's audio; each file is hashed once."""
        path = utterance.audio_path
        if path not in self._audio:
            self._audio[path] = utterance_key(path)
        return self._audio[path]

    def text_key(self, utterance: Utterance, number: int) -> str:
        """Return the key of an utterance with its transcript in the tokens of a teacher."""
        return transcript_key(self.audio_key(utterance), self.models.teachers[number].tokens(utterance.text))

    def start(self, audio_context: float) -> Recipe:
        """Return that of the student's states below the layers that are trained."""
        content = f"student below layer {self.models.freeze_below}"
        return self._of(len(self.models.teachers), content, audio_context, precision=PRECISION)

    def states(self, number: int, side: str, layer: int, audio_context: float) -> Recipe:
        """Return that of a teacher's states of one layer."""
        content = f"{side} layer {layer}"
        if side == "encoder":
            return self._of(number, content, audio_context, precision=PRECISION)
        return self._of_text(number, content, audio_context, precision=PRECISION)

    def rule(self, number: int, audio_context: float) -> Recipe:
        """Return that of how many top tokens are kept."""
        return self._of_text(number, "number of top tokens", audio_context, wanted=MASS, most=MOST)

    def top(self, number: int, audio_context: float, *, count: int, mass: float) -> Recipe:
        """Return that of a teacher's most likely tokens.

        Args:
            number: Of the teacher.
            audio_context: In seconds.
            count: How many.
            mass: What they held when that was measured.
        """
        rule = {"tokens": count, "mass": mass, "wanted": MASS, "most": MOST, "temperatures": list(self.temperatures)}
        return self._of_text(number, "top tokens", audio_context, **rule)

    def log_likelihood(self, number: int, audio_context: float) -> Recipe:
        """Return that of how likely a teacher finds transcripts."""
        return self._of_text(number, "log-likelihood", audio_context)

    def probe(self, number: int, audio_context: float) -> Recipe:
        """Return that of a teacher's states of every layer."""
        return self._of_text(number, "probe states", audio_context)

    def texts(self, listener: Listener, audio_context: float) -> Recipe:
        """Return that of what teachers write, alone or together."""
        models = listener.models
        how = "alone"
        if len(models) > 1:
            how = f"mean {list(listener.weights)}" if isinstance(listener, Together) else "surest"
        written = repr([(model.prompt, model.end_token, model.suppress, model.suppress_first) for model in models])
        return Recipe(
            model=" + ".join(self.names[self.models.teachers.index(model)] for model in models),
            revision=" + ".join(revision_of(model) for model in models),
            content="texts",
            settings={
                "audio_context": audio_context,
                "decoding": decoding_description(self.models.decoding),
                "together": how,
                "tokens": hashlib.sha256(written.encode()).hexdigest()[:16],
            },
        )

    def _of_text(self, number: int, content: str, audio_context: float, **settings: Any) -> Recipe:
        return self._of(number, content, audio_context, prompt=self.models.teachers[number].prompt, **settings)

    def _of(self, number: int, content: str, audio_context: float, **settings: Any) -> Recipe:
        """Return a recipe of a teacher or, one number further, of the student."""
        model = (*self.models.teachers, self.models.student)[number]
        return Recipe(self.names[number], revision_of(model), content, {"audio_context": audio_context, **settings})


def revision_of(model: Whisper) -> str:
    """Return what a model's weights are known by.

    Raises:
        ValueError: If nobody knows.
    """
    if model.revision is None:
        raise ValueError("nothing is kept of a model whose weights have no revision")
    return model.revision
