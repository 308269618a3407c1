"""The loops that people write otherwise, as they are: PEFT around a transformers Whisper, and Distil-Whisper's step.

Each computes its teacher in every step. Features are computed beforehand for all, ours too; they are under a hundredth
of a step.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.pair import ALPHA, RANK, Pair
from core.config import Lora
from core.lora import adapted_modules

IGNORED = -100
TEMPERATURE, SOFT_WEIGHT = 2.0, 0.8
LONGEST_LABELS = 448
RATE = 1e-4


def labels(pair: Pair, *, longest: int | None) -> tuple[Tensor, Tensor]:
    """Return decoder inputs and labels, padded to the longest text or to a fixed length."""
    model = pair.student
    sequences = [[*model.prompt, *model.tokens(item.text), model.end_token] for item in pair.utterances]
    size = longest or max(map(len, sequences)) - 1
    inputs = torch.full((len(sequences), size), model.end_token)
    targets = torch.full((len(sequences), size), IGNORED)
    for row, sequence in enumerate(sequences):
        inputs[row, : len(sequence) - 1] = torch.tensor(sequence[:-1])
        targets[row, len(model.prompt) - 1 : len(sequence) - 1] = torch.tensor(sequence[len(model.prompt) :])
    return inputs.to(pair.device), targets.to(pair.device)


def features(pair: Pair, seconds: float) -> Tensor:
    """Return log-mel features padded to some seconds."""
    return pair.student.mel(pair.audio, seconds).to(pair.device)


def cut(model: Any, seconds: float) -> Any:
    """Return a model whose encoder takes audio of this length: transformers' own takes 30 s only.

    Weights are shared with the model that is given, and frozen.
    """
    copied = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
    frames = round(50 * seconds)
    if frames != copied.config.max_source_positions:
        encoder = copied.model.encoder
        positions = nn.Embedding(frames, copied.config.d_model)
        positions.weight = nn.Parameter(encoder.embed_positions.weight[:frames].clone(), requires_grad=False)
        encoder.embed_positions = positions
        copied.config.max_source_positions = encoder.config.max_source_positions = frames
    return copied


def peft_step(
    pair: Pair, *, seconds: float, longest: int | None = None, everywhere: bool, every_position: bool = False
) -> Callable[[], None]:
    """Return a step of a PEFT loop.

    Args:
        pair: Models and utterances.
        seconds: What the audio is padded to.
        longest: What labels are padded to; None: to the longest of the batch.
        everywhere: Adapters in encoder and decoder, with the encoder states compared through a projection; else in the
            decoder, with transcripts and logits alone.
        every_position: Compute the divergence at padded positions, too, and mask it after.
    """
    teacher, student = cut(pair.teacher.plain, seconds), cut(pair.student.plain, seconds)
    targets = ("q_proj", "v_proj")
    chosen = Lora(rank=RANK, alpha=ALPHA, encoder_targets=targets if everywhere else (), decoder_targets=targets)
    paths = adapted_modules(student, chosen, freeze_below=0)
    student = get_peft_model(student, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=paths))
    student.train()
    projection = nn.Linear(pair.student.width, pair.teacher.width, bias=False, device=pair.device)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    if everywhere:
        trained += projection.parameters()
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.01)
    mel = features(pair, seconds)
    inputs, wanted = labels(pair, longest=longest)
    frames = torch.zeros(len(mel), round(50 * seconds), dtype=torch.bool)
    for row, item in enumerate(pair.utterances):
        frames[row, : round(50 * item.duration)] = True
    frames = frames.to(pair.device)

    def step() -> None:
        with torch.no_grad():
            theirs = teacher(input_features=mel, decoder_input_ids=inputs, use_cache=False)
        mine = student(input_features=mel, decoder_input_ids=inputs, use_cache=False)
        loss = _token_loss(mine.logits, theirs.logits, wanted, every_position=every_position)
        if everywhere:
            states = projection(mine.encoder_last_hidden_state)
            cosine = functional.cosine_similarity(states, theirs.encoder_last_hidden_state, dim=-1)
            loss = loss + (1 - cosine[frames]).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()

    return step


def distil_whisper_step(pair: Pair) -> Callable[[], None]:
    """Return a step of Distil-Whisper's recipe (Gandhi et al. 2023, arXiv 2311.00430).

    Written from the description in training/README.md and from what `train_step` of training/run_distillation.py does
    in github.com/huggingface/distil-whisper at commit cc96130f6e4cc74cab4545f3c6e7e5c204ced871 (January 2025), with
    --freeze_encoder. Audio is padded to 30 s and labels to the model's 448; the teacher's decoder runs in every step;
    the divergence is taken over the whole vocabulary at all positions, at temperature 2, and masked after; the student
    is trained whole but for its encoder, whose output serves the teacher, too.
    """
    teacher, student = pair.teacher.plain, copy.deepcopy(pair.student.plain)
    student.requires_grad_(True).train()
    student.model.encoder.requires_grad_(False)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE)
    mel = features(pair, 30.0)
    inputs, wanted = labels(pair, longest=LONGEST_LABELS)

    def step() -> None:
        mine = student(input_features=mel, decoder_input_ids=inputs, use_cache=False)
        with torch.no_grad():
            # Teacher and student share an encoder that is not trained: its output serves both.
            theirs = teacher(
                encoder_outputs=(mine.encoder_last_hidden_state,), decoder_input_ids=inputs, use_cache=False
            )
        loss = _token_loss(mine.logits, theirs.logits, wanted, every_position=True)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()

    return step


def _token_loss(mine: Tensor, theirs: Tensor, wanted: Tensor, *, every_position: bool) -> Tensor:
    """Return cross-entropy and soft labels, from whole tables of logits."""
    valid = wanted != IGNORED
    transcript = functional.cross_entropy(mine.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)
    if not every_position:
        mine, theirs, valid = mine[valid], theirs[valid], valid[valid]
    target = (theirs / TEMPERATURE).softmax(dim=-1)
    source = (mine / TEMPERATURE).log_softmax(dim=-1)
    divergence = functional.kl_div(source, target, reduction="none")
    soft = (divergence * valid.unsqueeze(-1)).sum() / valid.sum() * TEMPERATURE**2
    return transcript + SOFT_WEIGHT * soft
