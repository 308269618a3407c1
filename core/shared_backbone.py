"""A frozen Whisper with the adapters of several students: their activations stand below each other in one batch.

Rows of a batch are student by student. A frozen layer is then one product for all students; an adapted one adds a
batched product of low rank, student by student. What no adapter has touched yet is the same for all students that read
the same utterances, and is computed once: the encoder, where only the decoder is adapted, and from it the frozen part
of the keys and values of cross-attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from core.config import RunConfig
from core.families.whisper import Whisper
from core.lora import adapted_modules, with_shared_weights
from core.signals import Signals, places_of, valid_points
from core.teacher_outputs import Prepared, collated


@dataclass
class Rows:
    """How the rows of a batch are dealt out.

    Attributes:
        students: How many there are.
        one_encoder: Whether all students hear the same states of an encoder that none of them adapts.
    """

    students: int
    one_encoder: bool = False


class SharedLinear(nn.Module):
    """A frozen linear layer with one adapter for each student, or with none.

    It computes what PEFT's layer computes for each student: W x + b + scaling * B A x (Hu et al. 2021, arXiv
    2106.09685). The adapters' weights are PEFT's own, so that each student's optimiser finds its gradients there.
    """

    def __init__(self, frozen: nn.Linear, adapters: Sequence[LoraLayer], rows: Rows, *, hears_encoder: bool) -> None:
        """Share a layer.

        Args:
            frozen: The layer.
            adapters: PEFT's layers around it, one for each student, of one rank; none where it is not adapted.
            rows: How rows are dealt out now.
            hears_encoder: Whether its input is the encoder's output, whose rows may stand for all students.
        """
        super().__init__()
        self.frozen, self._rows, self._hears_encoder = frozen, rows, hears_encoder
        self._down = [cast(nn.Linear, layer.lora_A["default"]).weight for layer in adapters]
        self._up = [cast(nn.Linear, layer.lora_B["default"]).weight for layer in adapters]
        scaling = [layer.scaling["default"] for layer in adapters]
        self._scaling = frozen.weight.new_tensor(scaling)[:, None, None]

    def forward(self, states: Float[Tensor, "rows time input"]) -> Float[Tensor, "more_rows time output"]:
        """Return the output of every student's rows, also where their input is one for all."""
        students = self._rows.students
        out = self.frozen(states)
        once = self._hears_encoder and self._rows.one_encoder
        time, width = out.shape[1:]
        each = out.reshape(1 if once else students, -1, width)
        if not self._down:
            return each.expand(students, -1, -1).reshape(-1, time, width)
        # Of each student, [rank, input] and [rank, output].
        down, up = torch.stack(self._down), torch.stack(self._up).mT * self._scaling
        inputs = states.reshape(len(each), -1, states.shape[-1])
        if once:
            inner = (inputs[0] @ down.flatten(0, 1).T).unflatten(1, (students, -1)).transpose(0, 1)
        else:
            inner = torch.bmm(inputs, down.transpose(1, 2))
        return torch.baddbmm(each, inner, up).reshape(-1, time, width)


class SharedBackbone:
    """The students of a group, run together."""

    def __init__(self, frozen: Whisper, students: Sequence[Whisper], config: RunConfig) -> None:
        """Put the students' adapters around one copy of the layers, whose weights are those of all.

        Args:
            frozen: The student that all of them adapt.
            students: With adapters at the same modules, of the same rank.
            config: Of any of them: where adapters are, and the audio context.
        """
        self._config, self._rows = config, Rows(len(students))
        plain = with_shared_weights(frozen.plain)
        paths = adapted_modules(frozen.plain, config.lora, freeze_below=config.freeze_below)
        self._adapts_encoder = any(path.startswith("model.encoder.") for path in paths)
        from_encoder = [
            f"model.decoder.layers.{layer}.encoder_attn.{name}"
            for layer in range(frozen.decoder_layers)
            for name in ("k_proj", "v_proj")
        ]
        for path in {*paths, *from_encoder}:
            linear = cast(nn.Linear, plain.get_submodule(path))
            wrapped = [student.model.get_submodule(f"base_model.model.{path}") for student in students]
            adapters = [cast(LoraLayer, layer) for layer in wrapped] if path in paths else []
            plain.set_submodule(path, SharedLinear(linear, adapters, self._rows, hears_encoder=path in from_encoder))
        self._model = frozen.with_model(plain)

    def signals(self, batches: Sequence[Sequence[Prepared]], *, same: bool, with_decoder: bool) -> list[Signals]:
        """Return each student's signals of its utterances, with gradient.

        Args:
            batches: Of each student, equally many.
            same: Whether all of them are the same.
            with_decoder: Whether any student reads decoder states or logits.
        """
        model, students = self._model, self._rows.students
        read = batches[0] if same else [item for batch in batches for item in batch]
        texts = collated(read, model)
        start = torch.stack([item.start for item in read])
        self._rows.one_encoder = same and not self._adapts_encoder
        copies = students if same and self._adapts_encoder else 1
        encoder = model.encode_rest(start.repeat(copies, 1, 1), self._config.freeze_below)
        decoder: dict[int, Tensor] = {}
        if with_decoder:
            inputs = texts.inputs.to(start.device).repeat(students if same else 1, 1)
            decoder = model.decode(encoder[model.encoder_layers - 1], inputs)

        rows_each, device = len(batches[0]), start.device

        def dealt(values: Tensor) -> list[Tensor]:
            """Return each student's rows; one student's rows alone are everybody's."""
            return [values] * students if len(values) == rows_each else list(values.split(rows_each))

        frame_masks, token_masks, labels = map(dealt, (texts.frame_mask, texts.token_mask, texts.labels))
        frames = [places_of(mask, device) for mask in frame_masks]
        tokens = [places_of(mask, device) for mask in token_masks]
        encoder_states = {layer: dealt(states) for layer, states in encoder.items()}
        decoder_states = {layer: dealt(states) for layer, states in decoder.items()}
        return [
            Signals(
                encoder={
                    layer: valid_points(states[number], frames[number]) for layer, states in encoder_states.items()
                },
                decoder={
                    layer: valid_points(states[number], tokens[number]) for layer, states in decoder_states.items()
                },
                targets=labels[number][token_masks[number]].to(device),
                head=model.head,
                vocabulary=model.vocabulary,
                frame_counts=frame_masks[number].sum(dim=1).tolist(),
                token_counts=token_masks[number].sum(dim=1).tolist(),
            )
            for number in range(students)
        ]
