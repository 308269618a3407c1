"""States of a fixed probe set, stored at points of a run, so that the alignment can be followed over time.

runs/jobs/<job>/probe.json                   the probe utterances
runs/jobs/<job>/teacher_states.safetensors   teacher.<side>.<layer>, student.encoder.<layer> of frozen layers,
                                             mean.<side>.<layer> of layers that are compared, <side>.utterance, ...
                teacher_states.of1.safe...   the same of a further teacher that states are compared with
runs/<run>/states/000050.safetensors         student.<side>.<layer>, and where the run's mapping takes both sides:
                                             aligned_student.<side>.<layer>-<teacher layer>, aligned_teacher.<...>,
                                             with .of1 behind them where the layer is a further teacher's
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from core.audio import read_audio, stored_path
from core.families.whisper import Whisper, frame_count
from core.mapping import LayerPair, PointMap, PointMaps, Side, Statistics
from core.scaling.work import FRAME_STRIDE
from core.sources import Utterance
from core.store.records import teacher_states
from core.teacher_outputs import Prepared, student_signals


@dataclass(frozen=True)
class ProbeSet:
    """The utterances whose states are stored.

    Attributes:
        prepared: The utterances with the teacher's outputs.
        pairs: All layer pairs of the job.
        statistics: Of each teacher's states.
        audio_context: In seconds.
        freeze_below: See RunConfig.
    """

    prepared: Sequence[Prepared]
    pairs: tuple[LayerPair, ...]
    statistics: tuple[Statistics, ...]
    audio_context: float
    freeze_below: int

    @property
    def met(self) -> list[int]:
        """The numbers of the teachers whose states are stored: the first, and all that some run meets."""
        return sorted({0, *(pair.of for pair in self.pairs)})

    def save_teachers(
        self,
        folder: Path,
        *,
        teachers: Mapping[int, Sequence[Mapping[str, Tensor]]],
        student: Whisper,
        runs_folder: Path,
    ) -> None:
        """Write the teachers' states, those of the student's frozen layers, and which point each is.

        Args:
            folder: The job's.
            teachers: Of each that is `met`, its states about each utterance, see `every_layer`.
            student: Before training.
            runs_folder: Audio inside it is named relative to it, so that it can be moved.
        """
        folder.mkdir(parents=True, exist_ok=True)
        frozen = _joined([self._frozen_layers(item, student) for item in self.prepared])
        for number, heard in teachers.items():
            tensors = _joined(heard) | self._compared(number) | ({} if number else frozen)
            save_file(tensors, folder / teacher_states(number))
        described = [
            {
                "id": item.utterance.id,
                "text": item.utterance.text,
                "audio_path": stored_path(item.utterance.audio_path, runs_folder),
                "speaker": item.utterance.speaker,
                "duration": item.utterance.duration,
                "split": "development",
            }
            for item in self.prepared
        ]
        (folder / "probe.json").write_text(json.dumps(described, indent=1, ensure_ascii=False), encoding="utf-8")

    def _compared(self, number: int) -> dict[str, Tensor]:
        """Return a teacher's states of the layers that are compared, their means, and which point each state is."""
        tensors: dict[str, Tensor] = {}
        own = [pair for pair in self.pairs if pair.of == number]
        for pair in own:
            side, layer = pair.side, pair.teacher
            tensors[f"teacher.{side}.{layer}"] = self.teacher_states(pair).half().cpu().contiguous()
            tensors[f"mean.{side}.{layer}"] = self.statistics[number][side, layer].mean.cpu().contiguous()
        for side, moment, stride in (("encoder", "frame", FRAME_STRIDE), ("decoder", "token", 1)):
            met = [pair for pair in own if pair.side == side]
            if met:
                counts = [len(_thinned(side, _states_of(item, met[0]))) for item in self.prepared]
                tensors[f"{side}.utterance"] = torch.repeat_interleave(torch.tensor(counts)).int()
                tensors[f"{side}.{moment}"] = torch.cat([torch.arange(count) * stride for count in counts]).int()
        return tensors

    @torch.inference_mode()
    def _frozen_layers(self, item: Prepared, student: Whisper) -> dict[str, Tensor]:
        """Return the student's states of the layers that are never trained, half precision, on the CPU."""
        if not self.freeze_below:
            return {}
        mel = student.mel([read_audio(item.utterance.audio_path)], self.audio_context).to(student.device)
        lower = student.encode_rest(student.encode_start(mel, 0), 0)
        frames = frame_count(item.utterance.duration)
        return {
            f"student.encoder.{layer}": _thinned("encoder", lower[layer][0, :frames]).half().cpu()
            for layer in range(self.freeze_below)
        }

    def teacher_states(self, pair: LayerPair) -> Tensor:
        """Return the states of a pair's teacher layer, [points, width]."""
        return torch.cat([_thinned(pair.side, _states_of(item, pair)) for item in self.prepared])

    @torch.inference_mode()
    def student_states(self, student: Whisper, *, batch_size: int) -> dict[tuple[Side, int], Tensor]:
        """Return the student's states by (side, layer), [points, width], in the order of the teacher's."""
        student.model.eval()
        parts: dict[tuple[Side, int], list[Tensor]] = {}
        with_decoder = any(pair.side == "decoder" for pair in self.pairs)
        for first in range(0, len(self.prepared), batch_size):
            batch = self.prepared[first : first + batch_size]
            signals = student_signals(
                batch,
                student,
                freeze_below=self.freeze_below,
                with_decoder=with_decoder,
            )
            for layer, states in signals.encoder.items():
                thinned = [_thinned("encoder", piece) for piece in states.split(signals.frame_counts)]
                parts.setdefault(("encoder", layer), []).append(torch.cat(thinned))
            for layer, states in signals.decoder.items():
                parts.setdefault(("decoder", layer), []).append(states)
        return {key: torch.cat(pieces) for key, pieces in parts.items()}

    @torch.inference_mode()
    def aligned(
        self, states: dict[tuple[Side, int], Tensor], point_map: PointMap | PointMaps
    ) -> dict[LayerPair, tuple[Tensor, Tensor]]:
        """Return both sides of every pair where the losses compare them, student first, [points, common]."""
        return {
            pair: point_map(pair, student=states[pair.side, pair.student], teacher=self.teacher_states(pair))
            for pair in self.pairs
        }


@torch.inference_mode()
def every_layer(utterance: Utterance, *, teacher: Whisper, audio_context: float) -> dict[str, Tensor]:
    """Return a teacher's states of every layer about an utterance, by name, half precision, on the CPU.

    Args:
        utterance: Which.
        teacher: It is woken.
        audio_context: In seconds.
    """
    audio, frames = [read_audio(utterance.audio_path)], frame_count(utterance.duration)
    mel = teacher.wake().mel(audio, audio_context).to(teacher.device)
    encoder = teacher.encode_rest(teacher.encode_start(mel, 0), 0)
    collated = teacher.collate([teacher.tokens(utterance.text)], [utterance.duration], audio_context)
    decoder = teacher.decode(encoder[teacher.encoder_layers - 1], collated.inputs.to(teacher.device))
    found = {f"teacher.encoder.{layer}": _thinned("encoder", each[0, :frames]) for layer, each in encoder.items()}
    found |= {f"teacher.decoder.{layer}": each[0][collated.token_mask[0]] for layer, each in decoder.items()}
    return {name: states.half().cpu() for name, states in found.items()}


def save_student(
    states: dict[tuple[Side, int], Tensor],
    aligned: dict[LayerPair, tuple[Tensor, Tensor]],
    folder: Path,
    *,
    step: int,
) -> None:
    """Write a student's probe states of one step, and both sides in the aligned space."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"student.{side}.{layer}": value for (side, layer), value in states.items()}
    for pair, (student, teacher) in aligned.items():
        tensors |= {f"aligned_student.{pair.place}": student, f"aligned_teacher.{pair.place}": teacher}
    tensors = {name: value.half().cpu().contiguous() for name, value in tensors.items()}
    save_file(tensors, folder / f"{step:06d}.safetensors")


def probe_steps(steps: int, points: int) -> list[int]:
    """Return at which steps states are stored: evenly spread, the first (0) and the last among them."""
    return sorted({round(index * steps / (points - 1)) for index in range(points)})


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the states of all utterances, one after the other, by name."""
    return {name: torch.cat([states[name] for states in parts]).contiguous() for name in parts[0]}


def _states_of(item: Prepared, pair: LayerPair) -> Tensor:
    return item.teachers[pair.of].states[pair.side, pair.teacher]


def _thinned(side: str, states: Tensor) -> Tensor:
    return states[::FRAME_STRIDE] if side == "encoder" else states
