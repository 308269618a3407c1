"""Listening that asks the cache first: what the teachers said once is read again by every later job.

Kept are, each under a recipe of its own (`core.cache`): the student's states below `freeze_below` and the teachers'
states of compared layers, in bfloat16; for a teacher's logits its last decoder states, from which its head makes them
again, or, compact, its most likely tokens and what they leave over; the likelihood of transcripts, where there are
several teachers; the teachers' own texts, with the seconds that they took; and the states of the probe.
What a job has just made it reads back like any later one, so that both compute the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from core.cache import Cache, Entry, Shelf
from core.cache.targets import TopTokens, enough_tokens, joined_top, packed_states, top_entry, unpacked_states
from core.evaluation import Listener, Transcription
from core.listening.live import Advance, Models
from core.listening.recipes import MASS, MOST, PRECISION, Recipes
from core.listening.texts import AT_ONCE, kept_transcription, read
from core.probes import every_layer
from core.sources import Utterance
from core.teacher_outputs import Heard, Prepared

MEASURED = 16
"""Utterances on which is measured how many tokens hold it."""


@dataclass(frozen=True)
class Drawer:
    """A shelf as one listening uses it.

    Attributes:
        shelf: The shelf.
        of: Number of the teacher; None for the student.
        name: "start", "top", "log_likelihood", or side and layer.
        keys: Of each utterance, in order.
    """

    shelf: Shelf
    of: int | None
    name: str | tuple[str, int]
    keys: list[str]

    def read(self, place: int) -> dict[str, np.ndarray]:
        """Return the answer about an utterance by its place.

        Raises:
            StoreError: If it has gone since it was looked for.
        """
        return read(self.shelf, self.keys[place])


@dataclass
class Kept:
    """Teachers that are run for what the cache does not have.

    Attributes:
        models: Them and the student.
        recipes: Of what is kept.
        cache: Where it is.
        found: Utterances about which nothing was missing.
        asked: Utterances that were listened to.
        top: How many tokens are kept; 0 where that is not how logits are kept.
        held: Mean share of the probability that they hold, by temperature, of the first utterances.
        size_before: Of the cache when this began, in bytes.
    """

    models: Models
    recipes: Recipes
    cache: Cache
    found: int = 0
    asked: int = 0
    top: int = 0
    held: dict[float, float] = field(default_factory=dict)
    size_before: int = field(init=False)

    def __post_init__(self) -> None:
        self.size_before = self.cache.size

    def listen(
        self, utterances: Sequence[Utterance], audio_context: float, *, to_transcribe: bool, advance: Advance
    ) -> list[Prepared]:
        """Make and publish what is missing, some utterances at a time, then read all of it."""
        drawers = self._drawers(utterances, audio_context)
        missing = [set(drawer.shelf.missing(drawer.keys)) for drawer in drawers]
        lacking: dict[tuple[str, ...], int] = {}
        for place in range(len(utterances)):
            keys = tuple(drawer.keys[place] for drawer in drawers)
            if any(key in gone for key, gone in zip(keys, missing, strict=True)):
                lacking.setdefault(keys, place)
        self.asked += len(utterances)
        self.found += len(utterances) - len(lacking)
        advance(len(utterances) - len(lacking))
        places = list(lacking.values())
        for first in range(0, len(places), AT_ONCE):
            self._make(utterances, places[first : first + AT_ONCE], drawers, missing, audio_context, advance)
        for drawer in drawers:
            drawer.shelf.touch()
        prepared = self._read(utterances, drawers, audio_context, advance)
        self._note_top([top for item in prepared[:MEASURED] if (top := item.teachers[0].top) is not None])
        return prepared

    def transcribe(
        self, prepared: Sequence[Prepared], listener: Listener, audio_context: float, *, advance: Advance
    ) -> Transcription:
        """Read texts and the seconds that they took; write those that are missing from the audio itself."""
        return kept_transcription(
            prepared,
            listener,
            shelf=self.cache.shelf(self.recipes.texts(listener, audio_context)),
            keys=[self.recipes.audio_key(item.utterance) for item in prepared],
            settings=self.models.decoding,
            audio_context=audio_context,
            advance=advance,
        )

    def every_layer(
        self, utterances: Sequence[Utterance], audio_context: float, *, number: int
    ) -> list[dict[str, Tensor]]:
        """Read the states of the probe; run the teacher for those that are missing."""
        teacher, shelf = self.models.teachers[number], self.cache.shelf(self.recipes.probe(number, audio_context))
        keys = [self.recipes.text_key(item, number) for item in utterances]
        missing = set(shelf.missing(keys))
        lacking = {key: item for key, item in zip(keys, utterances, strict=True) if key in missing}
        made: dict[str, Entry] = {}
        for key, item in lacking.items():
            states = every_layer(item, teacher=teacher, audio_context=audio_context)
            made[key] = {name: each.numpy() for name, each in states.items()}
        shelf.write(made, audio_seconds=sum(item.duration for item in lacking.values()))
        shelf.touch()
        return [{name: _tensor(value) for name, value in read(shelf, key).items()} for key in keys]

    def metrics(self) -> Mapping[str, float]:
        """Return utterances asked for and found, the cache's size before and now, and the rule of the top tokens."""
        values = {
            "cache/utterances": self.asked,
            "cache/found": self.found,
            "cache/bytes_before": self.size_before,
            "cache/bytes_after": self.cache.size,
        }
        if self.top:
            values["cache/top_tokens"] = self.top
            values |= {f"cache/top_mass/{temperature:g}": mass for temperature, mass in self.held.items()}
        return values

    def _note_top(self, items: Sequence[TopTokens]) -> None:
        """Note what top tokens hold, where they are kept, of the first set that is listened to."""
        if items and not self.top:
            self.top = items[0].entry["tokens"].shape[-1]
            for temperature in (1.0, *items[0].temperatures):
                held = joined_top(items, temperature, "cpu").log_probabilities.exp().sum(dim=-1)
                self.held[temperature] = float(held.mean())

    def _drawers(self, utterances: Sequence[Utterance], audio_context: float) -> list[Drawer]:
        """Return every shelf that a listening reads, the student's first."""
        recipes, shelf, context = self.recipes, self.cache.shelf, audio_context
        heard = [recipes.audio_key(item) for item in utterances]
        found: list[Drawer] = []
        if self.models.freeze_below:
            found.append(Drawer(shelf(recipes.start(context)), None, "start", heard))
        for number, teacher in enumerate(self.models.teachers):
            spoken = [recipes.text_key(item, number) for item in utterances]
            chosen = {(pair.side, pair.teacher) for pair in self.models.pairs if pair.of == number}
            if recipes.logits == "states":
                chosen.add(("decoder", teacher.decoder_layers - 1))
            for side, layer in sorted(chosen):
                keys = heard if side == "encoder" else spoken
                found.append(Drawer(shelf(recipes.states(number, side, layer, context)), number, (side, layer), keys))
            if recipes.logits == "top":
                count, mass = self._enough(number, utterances, context)
                found.append(Drawer(shelf(recipes.top(number, context, count=count, mass=mass)), number, "top", spoken))
            if len(self.models.teachers) > 1:
                found.append(Drawer(shelf(recipes.log_likelihood(number, context)), number, "log_likelihood", spoken))
        return found

    def _enough(self, number: int, utterances: Sequence[Utterance], audio_context: float) -> tuple[int, float]:
        """Return how many top tokens are kept and what they hold, measured on the first utterances ever heard so."""
        shelf = self.cache.shelf(self.recipes.rule(number, audio_context))
        if shelf.missing(["rule"]):
            first = [item for item in utterances if item.text][:MEASURED] or utterances[:MEASURED]
            made = self.models.run(first, audio_context, advance=lambda count: None, asked=[number])
            count, mass = enough_tokens(torch.cat([self._logits(item, number) for item in made]), mass=MASS, most=MOST)
            shelf.write({"rule": {"count": np.array([count]), "mass": np.array([mass])}})
        shelf.touch()
        rule = read(shelf, "rule")
        return int(rule["count"][0]), float(rule["mass"][0])

    # Making

    def _make(
        self,
        utterances: Sequence[Utterance],
        places: Sequence[int],
        drawers: Sequence[Drawer],
        missing: Sequence[set[str]],
        audio_context: float,
        advance: Advance,
    ) -> None:
        """Run the models for what is missing about some utterances, and publish it."""
        wanted = [
            [place for place in places if drawer.keys[place] in gone]
            for drawer, gone in zip(drawers, missing, strict=True)
        ]
        asked = sorted({each.of for each, some in zip(drawers, wanted, strict=True) if some and each.of is not None})
        heard = self.models.run([utterances[at] for at in places], audio_context, advance=advance, asked=asked)
        made = dict(zip(places, heard, strict=True))
        for drawer, chosen in zip(drawers, wanted, strict=True):
            entries = {drawer.keys[place]: self._entry(drawer, made[place]) for place in chosen}
            seconds = {drawer.keys[place]: utterances[place].duration for place in chosen}
            drawer.shelf.write(entries, audio_seconds=sum(seconds.values()))

    def _logits(self, item: Prepared, number: int) -> Tensor:
        teacher = self.models.teachers[number]
        return teacher.head(item.teachers[number].states["decoder", teacher.decoder_layers - 1])

    def _entry(self, drawer: Drawer, item: Prepared) -> Entry:
        """Return what is kept of what was just made."""
        if drawer.of is None:
            return {**packed_states(item.start, PRECISION), "seconds": np.array([item.seconds])}
        heard = item.teachers[drawer.of]
        match drawer.name:
            case "top":
                count = int(drawer.shelf.recipe.settings["tokens"])
                return top_entry(self._logits(item, drawer.of), count=count, temperatures=self.recipes.temperatures)
            case "log_likelihood":
                return {"nats": np.array([heard.log_likelihood])}
            case (side, layer):
                return packed_states(heard.states[side, layer], PRECISION)
            case _:
                raise ValueError(f"nothing is kept as {drawer.name}")

    # Reading

    def _read(
        self, utterances: Sequence[Utterance], drawers: Sequence[Drawer], audio_context: float, advance: Advance
    ) -> list[Prepared]:
        student, count = self.models.student, len(self.models.teachers)
        even = (1 / count,) * count
        # Without frozen layers there is nothing to keep: the convolutions are run each time.
        fresh = None
        if not self.models.freeze_below:
            fresh = self.models.run(utterances, audio_context, advance=lambda count: advance(0), asked=())
        prepared = []
        for place, item in enumerate(utterances):
            heard = tuple(
                self._heard([each for each in drawers if each.of == number], place) for number in range(count)
            )
            if fresh is not None:
                start, seconds = fresh[place].start, fresh[place].seconds
            else:
                entry = drawers[0].read(place)
                start, seconds = unpacked_states(entry).to(student.device), float(entry["seconds"][0])
            prepared.append(Prepared(item, student.tokens(item.text), start, heard, even, seconds))
        return prepared

    def _heard(self, drawers: Sequence[Drawer], place: int) -> Heard:
        states, likelihood, top = {}, 0.0, None
        for drawer in drawers:
            entry = drawer.read(place)
            match drawer.name:
                case "top":
                    top = TopTokens(entry, self.recipes.temperatures)
                case "log_likelihood":
                    likelihood = float(entry["nats"][0])
                case (side, layer):
                    states[side, layer] = unpacked_states(entry).to(self.models.student.device)
        return Heard(states, log_likelihood=likelihood, top=top)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
