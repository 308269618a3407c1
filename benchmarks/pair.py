"""What is measured on: Whisper base's shape and base pruned to four decoder layers, on generated speech.

Speed does not depend on weights, so base's are drawn at random; tokens, features and the real tiny.en come with the
project.
"""

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from benchmarks.measuring import Bench
from core.audio import read_audio, write_flac
from core.config import GeneratedSpeech, PrunedStudent, RunConfig, parse_run
from core.families.pruning import prune
from core.families.whisper import Whisper
from core.listening import by_context
from core.lora import add_adapters
from core.precision import products_in
from core.preflight import pairs_of, point_map_of
from core.side_by_side import Member
from core.sources import Utterance, prepare
from core.teacher_outputs import Prepared, Teachers, prepare_utterances, teacher_statistics
from core.training import Lesson, Watcher
from core.weights.load import load_whisper

AUDIO_CONTEXT = 10.0
BUCKETS = 8
RANK, ALPHA = 8, 16
MOST_UTTERANCES = 32
DECODER_LAYERS = (0, 2, 3, 5)

EVERYWHERE = {
    "name": "everywhere",
    "freeze_below": 0,
    "lora": {
        "rank": RANK,
        "alpha": ALPHA,
        "encoder_targets": ["q_proj", "v_proj"],
        "decoder_targets": ["q_proj", "v_proj"],
    },
    "method": {
        "losses": [
            {"kind": "cross_entropy"},
            {"kind": "soft_labels"},
            {"kind": "cosine", "weight": 1, "decoder": False},
        ],
        "mapping": {"encoder_layers": "last"},
    },
}
"""Adapters on queries and values everywhere, transcripts, teacher's logits, and the encoder's last states through a
projection: nothing of the student can be cached."""

DECODER = {
    "name": "decoder",
    "freeze_below": 6,
    "lora": {"rank": RANK, "alpha": ALPHA, "encoder_targets": [], "decoder_targets": ["q_proj", "v_proj"]},
    "method": {"losses": [{"kind": "cross_entropy"}, {"kind": "soft_labels"}]},
}
"""Adapters in the decoder alone: the encoder's output is cached."""


def shaped(bench: Bench, *, width: int, encoder: int, decoder: int) -> Whisper:
    """Return a Whisper of some layers with random weights, and tiny.en's tokens and features."""
    loaded = load_whisper("openai/whisper-tiny.en")
    real = loaded.model.config
    torch.manual_seed(0)
    with bench.device:
        model = WhisperForConditionalGeneration(
            WhisperConfig(
                vocab_size=real.vocab_size,
                d_model=width,
                encoder_layers=encoder,
                decoder_layers=decoder,
                encoder_attention_heads=width // 64,
                decoder_attention_heads=width // 64,
                encoder_ffn_dim=4 * width,
                decoder_ffn_dim=4 * width,
                bos_token_id=real.bos_token_id,
                eos_token_id=real.eos_token_id,
                pad_token_id=real.pad_token_id,
                decoder_start_token_id=real.decoder_start_token_id,
            )
        )
    return Whisper(dataclasses.replace(loaded, model=model.eval().requires_grad_(False)), language="en")


def speech(bench: Bench, count: int) -> list[Utterance]:
    """Return some generated sentences of 3 to 5 seconds; all parts of a run share what is generated."""
    bench.say("generating speech")
    source = GeneratedSpeech(train=2 * MOST_UTTERANCES, development=1, test=1)
    return list(prepare(source, bench.folder, lambda done, total: None).train[:count])


def utterances(bench: Bench, count: int) -> list[Utterance]:
    """Return some utterances of 2 to 10 seconds: sentences, and between them pairs of sentences."""
    sentences = iter(speech(bench, 2 * MOST_UTTERANCES))
    made = []
    while len(made) < count:
        one = next(sentences)
        if len(made) % 2:
            one = _joined(bench.folder / f"pair-{len(made)}.flac", one, next(sentences))
        if 2 <= one.duration <= AUDIO_CONTEXT:
            made.append(one)
    return made


def _joined(path: Path, *parts: Utterance) -> Utterance:
    samples = np.concatenate([read_audio(part.audio_path) for part in parts])
    write_flac(path, samples)
    return Utterance(path.stem, path, " ".join(part.text for part in parts), None, len(samples) / 16_000)


@dataclass(frozen=True)
class Pair:
    """A teacher, its pruned student, and utterances.

    Attributes:
        teacher: Frozen.
        student: Frozen.
        utterances: What is learnt from.
        batch: Utterances of a step.
        context: What the longest are padded to, in seconds.
        buckets: To how many lengths they are padded.
        precision: Of our steps.
    """

    teacher: Whisper
    student: Whisper
    utterances: list[Utterance]
    batch: int
    context: float = AUDIO_CONTEXT
    buckets: int = 1
    precision: str = "float32"

    @classmethod
    def of_base(cls, bench: Bench, *, batch: int, count: int | None = None) -> "Pair":
        """Return the benchmark's own pair, with as many utterances as a batch has, or more."""
        teacher = shaped(bench, width=512, encoder=6, decoder=6)
        student = prune(teacher, PrunedStudent(decoder_layers=DECODER_LAYERS))
        student.model.requires_grad_(False)
        return cls(teacher, student, utterances(bench, count or batch), batch)

    def in_buckets(self, bench: Bench) -> "Pair":
        """Return the pair with a batch of each length, from 3.75 to 10 s: clips are padded by 0.6 s on average."""
        pair = dataclasses.replace(self, utterances=utterances(bench, MOST_UTTERANCES), buckets=BUCKETS)
        return pair.in_whole_batches(most=1)

    def in_whole_batches(self, most: int | None = None) -> "Pair":
        """Return the pair with as many utterances of each length as fill batches, or so many batches at most."""
        training, chosen = self.config(DECODER).training, dict[float, list[Utterance]]()
        for item in self.utterances:
            chosen.setdefault(training.context_of(item.duration), []).append(item)
        whole = [items[: min(len(items) // self.batch, most or len(items)) * self.batch] for items in chosen.values()]
        return dataclasses.replace(self, utterances=[item for items in whole for item in items])

    def like_all(self) -> "Pair":
        """Return the pair with one batch of utterances, as long and as short as all are."""
        ordered = sorted(self.utterances, key=lambda item: item.duration)
        every = len(ordered) // self.batch
        return dataclasses.replace(self, utterances=ordered[every // 2 :: every], buckets=1)

    def padded_to_longest(self) -> "Pair":
        """Return the pair with a context that just holds its longest utterance, in whole tenths of a second."""
        return dataclasses.replace(self, context=math.ceil(10 * max(item.duration for item in self.utterances)) / 10)

    def with_other_encoder(self) -> "Pair":
        """Return the pair with another last encoder layer in the student: equal states would have nothing to learn."""
        model = copy.deepcopy(self.student.plain)
        student = self.student.with_model(model)
        with torch.no_grad():
            student.encoder.get_submodule("layers.5.fc2").get_parameter("weight").mul_(2)
        return dataclasses.replace(self, student=student)

    @property
    def audio(self) -> list[np.ndarray]:
        """The utterances' samples."""
        return [read_audio(item.audio_path) for item in self.utterances]

    @property
    def device(self) -> torch.device:
        """Where both compute."""
        return self.student.device

    def config(
        self, workload: dict[str, object], *, steps: int = 10_000, batch: int | None = None, **changes: object
    ) -> RunConfig:
        """Return a run in the precision that all rivals have."""
        training = {
            "steps": steps,
            "batch_size": batch or self.batch,
            "audio_context": self.context,
            "length_buckets": self.buckets,
            "evaluations": 1,
            "precision": self.precision,
            "device": self.device.type,
        }
        student = {"kind": "pruned", "decoder_layers": DECODER_LAYERS}
        return parse_run({**workload, "student": student, "training": training, **changes})

    def prepared(self, config: RunConfig) -> list[Prepared]:
        """Return the utterances with what the teacher says: the pass that fills the cache."""
        pairs = pairs_of(config, student=self.student, teachers=[self.teacher]) if config.method.aligns else ()

        def listen(items: Sequence[Utterance], audio_context: float) -> list[Prepared]:
            with products_in(getattr(torch, self.precision), self.device):
                return prepare_utterances(
                    items,
                    teachers=[self.teacher],
                    student=self.student,
                    freeze_below=config.freeze_below,
                    pairs=pairs,
                    audio_context=audio_context,
                    keep_teacher_encoder=False,
                    batch_size=config.training.batch_size,
                    advance=lambda count: None,
                )

        return by_context(self.utterances, config.training, listen)

    def member(self, config: RunConfig, prepared: list[Prepared], watcher: Watcher) -> Member:
        """Return a fresh student with adapters, ready to be trained."""
        adapted = add_adapters(self.student.plain, config.lora, freeze_below=config.freeze_below, seed=config.seed)
        statistics = teacher_statistics(prepared) if config.method.aligns else ()
        point_map = point_map_of(config, student=self.student, teachers=[self.teacher], statistics=statistics)
        point_map.to(self.device)
        pairs = pairs_of(config, student=self.student, teachers=[self.teacher]) if config.method.aligns else ()
        return Member(
            config,
            self.student.with_model(adapted),
            point_map,
            Lesson(prepared, pairs, Teachers((self.teacher,))),
            watcher,
        )
