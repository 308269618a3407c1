"""Goal 5, and what the cache spares: a teacher's answers about speech, kept on disk, beside making them."""

from collections.abc import Sequence

import numpy as np
import torch

from benchmarks import goals
from benchmarks.goals import Ratio
from benchmarks.measuring import Bench, Found, Growth, medians
from benchmarks.pair import AUDIO_CONTEXT, MOST_UTTERANCES, speech
from core.audio import read_audio
from core.cache import Cache, Recipe, utterance_key
from core.cache.targets import top_entry, top_teacher
from core.families.whisper import Whisper
from core.sources import Utterance
from core.weights.load import load_whisper

TOP, TEMPERATURES = 32, (1.0, 2.0)
"""At tiny.en's sharpness fewer hold 95 % of the probability; the promise is about this many."""
AT_ONCE = 4


def measure(bench: Bench) -> Found:
    """Measure the size of what is kept, and the time that reading it takes beside making it."""
    teacher = Whisper(load_whisper("openai/whisper-tiny.en"), language="en").to(bench.device)
    most = MOST_UTTERANCES
    utterances = speech(bench, most)
    cache = Cache(bench.folder / "cache")
    amounts = [most // 8, most // 4, most // 2, most]
    costs: dict[str, list[float]] = {"the teacher's pass, kept": [], "read from the cache": []}
    for amount in amounts:
        some = utterances[:amount]

        def made(some: Sequence[Utterance] = some) -> dict[str, dict[str, np.ndarray]]:
            entries = [
                top_entry(logits, count=TOP, temperatures=TEMPERATURES)
                for first in range(0, len(some), AT_ONCE)
                for logits in logits_of(teacher, some[first : first + AT_ONCE])
            ]
            return dict(zip(_keys(teacher, some), entries, strict=True))

        number = 0

        def fresh(made=made, amount: int = amount) -> None:
            nonlocal number
            number += 1
            cache.shelf(_recipe(f"{amount}, {number}")).write(made())

        def read(some: Sequence[Utterance] = some, amount: int = amount) -> None:
            # A shelf that is opened anew, as the next job finds it.
            shelf = cache.shelf(_recipe(f"{amount}, 1"))
            entries = [shelf.read(key) for key in _keys(teacher, some)]
            top_teacher(entries, temperature=2.0, temperatures=TEMPERATURES, device=bench.device)

        acts = {"the teacher's pass, kept": fresh, "read from the cache": read}
        bench.say(f"{amount} of {most} utterances")
        seconds = bench.in_turn(acts, rounds=1 if bench.quick else 3, warm=not bench.quick)
        for name, values in medians(seconds).items():
            costs[name].append(values)
    whole = next(record for record in cache.records() if record.recipe == _recipe(f"{most}, 1"))
    size = whole.size / sum(item.duration for item in utterances)
    return Found(
        goals={goals.CACHED_SIZE: Ratio(size, 1, size, size)},
        growth=[Growth("cache", "Targets of the real tiny.en, made and read again", "utterances", amounts, costs)],
    )


@torch.inference_mode()
def logits_of(teacher: Whisper, utterances: Sequence[Utterance]) -> list[torch.Tensor]:
    """Return a model's logits where the tokens of each utterance are predicted, [tokens, vocabulary]."""
    mel = teacher.mel([read_audio(item.audio_path) for item in utterances], AUDIO_CONTEXT).to(teacher.device)
    encoder = teacher.encode_rest(teacher.encode_start(mel, 0), 0)[teacher.encoder_layers - 1]
    tokens = [teacher.tokens(item.text) for item in utterances]
    batch = teacher.collate(tokens, [item.duration for item in utterances], AUDIO_CONTEXT)
    last = teacher.decode(encoder, batch.inputs.to(teacher.device))[teacher.decoder_layers - 1]
    return [teacher.head(states[mask.to(states.device)]) for states, mask in zip(last, batch.token_mask, strict=True)]


def _keys(teacher: Whisper, utterances: Sequence[Utterance]) -> list[str]:
    return [utterance_key(item.audio_path, teacher.tokens(item.text)) for item in utterances]


def _recipe(name: str) -> Recipe:
    return Recipe("tiny.en", name, "top tokens", {"count": TOP})
