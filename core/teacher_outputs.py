"""What the teachers say about each utterance, computed once and read by every run of a job.

One pass over the audio makes the student's frozen lower states and, from the same states where teacher and student
share their first layers, each teacher's. Kept per utterance are the valid points only: the teachers' states of the
layers that some run compares, and the last decoder state, from which logits are made when a loss asks (384 numbers a
token instead of 51,864). Losses see `Signals` and never know where they came from: from a pass just made, or, with
`core.listening`, from the disk.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.audio import read_audio
from core.cache.targets import TopTokens, joined_top
from core.config import Ensemble
from core.ensemble import Teaching, one_of, teacher_weights
from core.families.pruning import shares_start
from core.families.whisper import ENCODER_FRAMES_PER_SECOND, Batch, Whisper, frame_count
from core.finite import require_finite_features, require_finite_states
from core.geometry import on_sphere, spherical_mean
from core.mapping import LayerPair, Statistics, state_statistics
from core.signals import Signals, places_of, valid_points
from core.sources import Utterance


@dataclass(frozen=True)
class Heard:
    """What one teacher makes of an utterance.

    Attributes:
        states: By (side, layer), valid points only; the last decoder layer's are there unless `top` stands for it.
        encoder: Its last encoder states at the context; only where they were asked for.
        log_likelihood: Of the transcript, in nats; only where there are several teachers.
        seconds: That its encoder took, whole.
        top: Its most likely tokens, where they are all that is kept of its logits.
    """

    states: dict[tuple[str, int], Tensor]
    encoder: Tensor | None = None
    log_likelihood: float = 0.0
    seconds: float = 0.0
    top: TopTokens | None = None


@dataclass(frozen=True)
class Prepared:
    """An utterance as training and evaluation read it.

    Attributes:
        utterance: Its audio, text and speaker.
        tokens: Text tokens without prompt and end.
        start: Student states below `freeze_below` at the audio context, [frames, width].
        teachers: What each teacher makes of it.
        weights: How much each teacher counts; they sum to one.
        seconds: That the student's frozen part took.
    """

    utterance: Utterance
    tokens: list[int]
    start: Tensor
    teachers: tuple[Heard, ...]
    weights: tuple[float, ...] = (1.0,)
    seconds: float = 0.0

    @property
    def audio_context(self) -> float:
        """Seconds that the encoder sees."""
        return len(self.start) / ENCODER_FRAMES_PER_SECOND


def teacher_encoder_of(item: Prepared, teacher: int = 0) -> Tensor:
    """Return a teacher's last encoder states of an utterance that was prepared with them, [frames, width]."""
    states = item.teachers[teacher].encoder
    if states is None:
        raise ValueError("this set was prepared without the teacher's encoder output")
    return states


def without_teacher_encoder(prepared: Sequence[Prepared]) -> list[Prepared]:
    """Return utterances without the teachers' whole encoder output: it is large, and only transcribing needs it."""
    return [replace(item, teachers=tuple(replace(each, encoder=None) for each in item.teachers)) for item in prepared]


@torch.inference_mode()
def prepare_utterances(
    utterances: Sequence[Utterance],
    *,
    teachers: Sequence[Whisper],
    student: Whisper,
    freeze_below: int,
    pairs: Sequence[LayerPair],
    audio_context: float,
    keep_teacher_encoder: bool,
    batch_size: int,
    advance: Callable[[int], None],
    asked: Collection[int] | None = None,
) -> list[Prepared]:
    """Run the teachers and the student's frozen layers over some utterances.

    Args:
        utterances: Which.
        teachers: Frozen.
        student: Its first `freeze_below` encoder layers are run.
        freeze_below: See RunConfig.
        pairs: Teacher layers that are kept.
        audio_context: Seconds that the encoders see.
        keep_teacher_encoder: Keep what transcribing with the teachers needs.
        batch_size: Utterances per pass.
        advance: Called with the number of utterances done since the last call; may raise to stop.
        asked: Numbers of the teachers that are run, the others say nothing; None runs all.
    """
    asked = range(len(teachers)) if asked is None else asked
    for number in asked:
        teachers[number].wake()
    low = {pair.of for pair in pairs if pair.side == "encoder" and pair.teacher < freeze_below}
    shared = {number: number not in low and shares_start(student, teachers[number], freeze_below) for number in asked}
    even = (1 / len(teachers),) * len(teachers)
    prepared: list[Prepared] = []
    for batch in _batches(utterances, batch_size):
        audio = [read_audio(item.audio_path, may_be_silent=True) for item in batch]
        began = time.perf_counter()
        mel = student.mel(audio, audio_context).to(student.device)
        require_finite_features(mel, batch)
        start = student.encode_start(mel, freeze_below)
        start_seconds = _seconds_since(began, start) / len(batch)
        heard = [[Heard({})] * len(batch) for _ in teachers]
        for number in asked:
            teacher = teachers[number]
            began = time.perf_counter()
            if shared[number]:
                began -= start_seconds * len(batch)
                encoder = teacher.encode_rest(start, freeze_below)
            else:
                # Models up to large-v2 hear 80 mel bins, later ones 128.
                same_mels = student.mel_bins == teacher.mel_bins
                own_mel = mel if same_mels else teacher.mel(audio, audio_context).to(teacher.device)
                require_finite_features(own_mel, batch)
                encoder = teacher.encode_rest(teacher.encode_start(own_mel, 0), 0)
            seconds = _seconds_since(began, encoder[teacher.encoder_layers - 1]) / len(batch)
            of_one = _heard(
                batch,
                encoder,
                teacher=teacher,
                pairs=[pair for pair in pairs if pair.of == number],
                audio_context=audio_context,
                keep_encoder=keep_teacher_encoder,
                scored=len(teachers) > 1,
            )
            heard[number] = [replace(each, seconds=seconds) for each in of_one]
        for row, item in enumerate(batch):
            said = tuple(of_one[row] for of_one in heard)
            prepared.append(Prepared(item, student.tokens(item.text), start[row].clone(), said, even, start_seconds))
        advance(len(batch))
    return prepared


def _heard(
    batch: Sequence[Utterance],
    encoder: dict[int, Tensor],
    *,
    teacher: Whisper,
    pairs: Sequence[LayerPair],
    audio_context: float,
    keep_encoder: bool,
    scored: bool,
) -> list[Heard]:
    """Run a teacher's decoder over what its encoder heard, and keep what is asked for of each utterance.

    A teacher with tokens of its own reads the texts in them.
    """
    token_lists = [teacher.tokens(item.text) for item in batch]
    collated = teacher.collate(token_lists, [item.duration for item in batch], audio_context)
    last = teacher.encoder_layers - 1
    decoder = teacher.decode(encoder[last], collated.inputs.to(teacher.device))
    require_finite_states(encoder[last], decoder[teacher.decoder_layers - 1], batch, teacher=teacher)
    heard = []
    for row, item in enumerate(batch):
        frames, mask = frame_count(item.duration), collated.token_mask[row]
        final = decoder[teacher.decoder_layers - 1][row][mask].clone()
        kept = {("decoder", teacher.decoder_layers - 1): final}
        for pair in pairs:
            if pair.side == "encoder":
                kept["encoder", pair.teacher] = encoder[pair.teacher][row, :frames].clone()
            else:
                kept["decoder", pair.teacher] = decoder[pair.teacher][row][mask].clone()
        likelihood = log_likelihood(teacher, final, collated.labels[row][mask]) if scored else 0.0
        heard.append(Heard(kept, encoder[last][row].clone() if keep_encoder else None, likelihood))
    return heard


def log_likelihood(model: Whisper, states: Tensor, labels: Tensor) -> float:
    """Return how likely a model finds tokens, in nats.

    Args:
        model: Whose states they are.
        states: Of the last decoder layer, where the tokens are predicted, [tokens, width].
        labels: The tokens.
    """
    logs = model.head(states).float().log_softmax(dim=-1)
    return float(logs.gather(1, labels.to(logs.device)[:, None]).sum())


def weighed(prepared: Sequence[Prepared], settings: Ensemble, wers: Sequence[float]) -> list[Prepared]:
    """Return utterances with the weights that an ensemble gives its teachers; see `teacher_weights`.

    Args:
        prepared: Any set.
        settings: How the teachers are combined.
        wers: Of each teacher on the development set, as fractions.
    """
    usual = teacher_weights(settings, wers)
    if settings.combine != "best":
        return [replace(item, weights=usual) for item in prepared]
    return [replace(item, weights=likeliest(item) if item.utterance.text else usual) for item in prepared]


def likeliest(item: Prepared) -> tuple[float, ...]:
    """Return weights with which the teacher alone counts that finds an utterance's transcript likeliest."""
    known = [each.log_likelihood for each in item.teachers]
    return one_of(len(known), max(range(len(known)), key=lambda number: known[number]))


def with_mean_states(item: Prepared, centres: Sequence[Statistics]) -> Prepared:
    """Return an utterance with one teacher, whose states are the spherical mean of all teachers' states.

    Directions are seen from each teacher's mean state and averaged by the utterance's weights; length and mean state
    are averaged, too, so that the result lies in the teachers' space.

    Args:
        item: Teachers of one width.
        centres: Each teacher's statistics.
    """
    first, *others = (each.states for each in item.teachers)
    weights = torch.tensor(item.weights)
    means = {}
    for key in first:
        if all(key in other and len(other[key]) == len(first[key]) for other in others):
            side, layer = key
            states = torch.stack([each.states[key].float() for each in item.teachers])
            centre = torch.stack([statistics[side, layer].mean for statistics in centres]).to(states.device)
            apart = states - centre[:, None]
            lengths = torch.einsum("t,tp->p", weights.to(states.device), apart.norm(dim=-1))
            units = torch.stack([on_sphere(each) for each in apart])
            middle = torch.einsum("t,tw->w", weights.to(states.device), centre)
            means[key] = middle + lengths[:, None] * spherical_mean(units, item.weights)
    return replace(item, teachers=(Heard(means),), weights=(1.0,))


@dataclass(frozen=True)
class Teachers:
    """The teachers of a run, as it hears them.

    Attributes:
        models: Frozen.
        centres: Each one's statistics, where states meet their spherical mean; else nothing.
    """

    models: tuple[Whisper, ...]
    centres: tuple[Statistics, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where they compute."""
        return self.models[0].device

    def says_the_same_as(self, other: "Teachers") -> bool:
        """Return whether both say the same of the same utterances; mean states may be about different centres."""
        return self.models == other.models and not (self.centres or other.centres)

    def met(self, prepared: Sequence[Prepared]) -> Sequence[Prepared]:
        """Return utterances with the states that the student's are compared with."""
        return [with_mean_states(item, self.centres) for item in prepared] if self.centres else prepared

    def teaching(self, prepared: Sequence[Prepared]) -> Teaching:
        """Return what they say about some utterances, points in the order of `Signals`."""
        speakers = tuple(teacher_signals(prepared, model, number) for number, model in enumerate(self.models))
        tops = [top for item in prepared if (top := item.teachers[0].top) is not None]
        return Teaching(
            speakers=speakers,
            weights=torch.tensor([item.weights for item in prepared]),
            targets=(teacher_signals(self.met(prepared), self.models[0]),) if self.centres else speakers,
            token_counts=tuple(len(item.tokens) + 1 for item in prepared),
            top=(lambda temperature: joined_top(tops, temperature, self.device)) if tops else None,
        )


def teachers_of(
    settings: Ensemble,
    *,
    models: tuple[Whisper, ...],
    statistics: tuple[Statistics, ...],
    train: Sequence[Prepared],
    read: Sequence[Prepared],
    wers: Sequence[float],
) -> tuple[Teachers, tuple[Statistics, ...]]:
    """Return the teachers as a run hears them, and the statistics of the states that its own are compared with.

    Args:
        settings: How they are combined.
        models: Frozen.
        statistics: Of each one's states.
        train: All audio; `read`: what decoder states come from, see `teacher_statistics`.
        read: See above.
        wers: Of each on the development set, as fractions.
    """
    if settings.states == "per_teacher" or len(models) == 1:
        return Teachers(models), statistics
    teachers = Teachers(models, statistics)
    sets = [teachers.met(weighed(items, settings, wers)) for items in (train, read)]
    return teachers, teacher_statistics(sets[0], read=sets[1])


def teacher_signals(prepared: Sequence[Prepared], teacher: Whisper, number: int = 0) -> Signals:
    """Return one teacher's signals of some utterances, points in the order of `Signals`."""
    keys = prepared[0].teachers[number].states.keys()
    joined = {key: torch.cat([item.teachers[number].states[key] for item in prepared]) for key in keys}
    has_logits = prepared[0].teachers[number].top is None and ("decoder", teacher.decoder_layers - 1) in keys
    return Signals(
        encoder={layer: states for (side, layer), states in joined.items() if side == "encoder"},
        decoder={layer: states for (side, layer), states in joined.items() if side == "decoder"},
        head=teacher.head if has_logits else None,
        vocabulary=teacher.vocabulary if has_logits else None,
    )


def collated(prepared: Sequence[Prepared], student: Whisper) -> Batch:
    """Return the texts and valid points of utterances of one context."""
    tokens, seconds = [item.tokens for item in prepared], [item.utterance.duration for item in prepared]
    return student.collate(tokens, seconds, prepared[0].audio_context)


def student_signals(
    prepared: Sequence[Prepared],
    student: Whisper,
    *,
    freeze_below: int,
    with_decoder: bool,
) -> Signals:
    """Run the student's trained part over utterances of one context; return its valid points, with gradient."""
    batch = collated(prepared, student)
    start = torch.stack([item.start for item in prepared])
    frames, tokens = places_of(batch.frame_mask, start.device), places_of(batch.token_mask, start.device)
    encoder = student.encode_rest(start, freeze_below)
    decoder = {}
    if with_decoder:
        decoder = student.decode(encoder[student.encoder_layers - 1], batch.inputs.to(start.device))
    return Signals(
        encoder={layer: valid_points(states, frames) for layer, states in encoder.items()},
        decoder={layer: valid_points(states, tokens) for layer, states in decoder.items()},
        targets=batch.labels[batch.token_mask].to(start.device),
        head=student.head,
        vocabulary=student.vocabulary,
        frame_counts=batch.frame_mask.sum(dim=1).tolist(),
        token_counts=batch.token_mask.sum(dim=1).tolist(),
    )


def teacher_statistics(prepared: Sequence[Prepared], *, read: Sequence[Prepared] = ()) -> tuple[Statistics, ...]:
    """Return mean and covariance of each teacher's states by (side, layer) over all valid points.

    Args:
        prepared: All audio.
        read: Utterances with a transcript that decoder states come from; empty takes `prepared`.
    """
    sets = {"encoder": prepared, "decoder": read or prepared}
    return tuple(
        {
            (side, layer): state_statistics([item.teachers[number].states[side, layer] for item in sets[side]])
            for side, layer in of_one.states
        }
        for number, of_one in enumerate(prepared[0].teachers)
    )


def _seconds_since(began: float, result: Tensor) -> float:
    """Return the seconds since a moment, once a result is there: a GPU computes on while the program goes on."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)
    return time.perf_counter() - began


def _batches(utterances: Sequence[Utterance], size: int) -> Iterator[Sequence[Utterance]]:
    for first in range(0, len(utterances), size):
        yield utterances[first : first + size]
