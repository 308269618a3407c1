"""What the runs of a group share, computed once: models, speech, what the teachers say of it, and their errors."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from core.batch_points import require_enough_points
from core.cache import Cache
from core.config import RunConfig
from core.errors import ConfigError
from core.evaluation import Listener, MostConfident, Student, Together, Transcription, listener_of, normaliser_for
from core.families.whisper import Whisper
from core.layer_cuts import CLIPS, choice_in_words, sides_cut
from core.layer_importance import FEWEST_CLIPS, chosen_clips, scan_layers, usable_clips
from core.listening import Kept, Listening, Live, Models, Recipes, by_context, logits_kept, temperatures_of
from core.mapping import LayerPair, Statistics
from core.paths import expanded
from core.precision import heard_in
from core.preflight import (
    all_pairs,
    device_of,
    ensembles_of,
    find_asleep,
    load_models,
    load_source,
    require_sound,
    same_tokens,
)
from core.probes import ProbeSet
from core.progress import Progress
from core.pseudo_labels import PseudoLabelled, pseudo_labelled
from core.recording import Recorder
from core.scaling.work import PROBE_UTTERANCES
from core.sources import Splits, Utterance, prepare
from core.sources.manifest import read_manifest
from core.speech_checks import cut_references, require_fits, require_readable
from core.store import Store
from core.store.records import Subject, probe_folder
from core.teacher_outputs import (
    Prepared,
    Teachers,
    likeliest,
    teacher_statistics,
    without_teacher_encoder,
)
from core.teachers import Finder

log = logging.getLogger(__name__)

# Relative costs of the parts of a job, per utterance, for its progress bar, guessed from Whisper tiny on a CPU.
PREPARE_COST = 0.3
STEP_COST = 0.08
TRANSCRIBE_COST = 0.15


@dataclass(frozen=True)
class Shared:
    """What is computed once for all runs of a group.

    Attributes:
        teachers: Frozen.
        student: Frozen, as it is before any run.
        train: With the teachers' outputs and the source's transcripts, at the training context.
        pseudo: The same audio with the teachers' transcripts, where a run learns from them.
        development: The same for the set that chooses the checkpoint.
        tests: Test sets by name, at the evaluation context.
        read: The utterances that decoder states have their statistics from.
        statistics: Of each teacher's states over the training set, by (side, layer).
        wers: Of each teacher on the development set, as fractions.
        kept: What came from the cache and is kept there, as metrics; nothing where the teachers are run live.
    """

    teachers: tuple[Whisper, ...]
    student: Whisper
    train: list[Prepared]
    pseudo: list[PseudoLabelled]
    development: list[Prepared]
    tests: dict[str, list[Prepared]]
    read: list[Prepared]
    statistics: tuple[Statistics, ...]
    wers: tuple[float, ...]
    kept: Mapping[str, float]


def share(configs: Sequence[RunConfig], *, finder: Finder, recorder: Recorder, progress: Progress) -> Shared:
    """Load, check, listen once, and measure teachers, their ensembles and the student as they are."""
    config = configs[0]
    progress.begin("Loading the models")
    teachers, student = models_of(configs, finder, device_of(config))
    progress.begin("Preparing the speech")
    splits = prepare(config.source, recorder.runs_folder / "data", lambda done, total: progress.advance(0))
    tests = test_sets(config, splits)
    require_usable(config, splits, tests, student=student)
    require_enough_points(configs, student=student, teachers=teachers, learnt=splits.train)
    pairs = all_pairs(configs, student=student, teachers=teachers)
    ensembles = ensembles_of(configs, teachers=teachers)
    listening = listening_of(configs, student=student, teachers=teachers, pairs=pairs, folder=recorder.runs_folder)
    wers: list[float] = []

    def listen(utterances: Sequence[Utterance], audio_context: float, *, to_transcribe: bool) -> list[Prepared]:
        progress.begin("Listening with the teacher")
        return listening.listen(
            utterances,
            audio_context,
            to_transcribe=to_transcribe,
            advance=lambda count: progress.advance(count * len(teachers) * PREPARE_COST),
        )

    def transcribe(prepared: Sequence[Prepared], listener: Listener, audio_context: float) -> Transcription:
        return listening.transcribe(prepared, listener, audio_context, advance=recorder.advance)

    def listen_and_transcribe(utterances: Sequence[Utterance], test_set: str) -> list[Prepared]:
        prepared = listen(utterances, recorder.context(test_set), to_transcribe=True)

        def written(listener: Listener, subject: Subject, label: str) -> float:
            began = time.perf_counter()
            said = transcribe(prepared, listener, recorder.context(test_set))
            recorder.record(
                prepared,
                said,
                models=listener.models,
                subject=subject,
                test_set=test_set,
                label=label,
                seconds=time.perf_counter() - began,
            )
            return said.total.wer

        progress.begin(f"Transcribing with the teacher ({test_set})")
        rates = [
            written(Together((model,), (number,), (1.0,)), "teacher", settings.label)
            for number, (settings, model) in enumerate(zip(config.teachers, teachers, strict=True))
        ]
        # The first set is the development set: its rates are what the teachers are weighted by.
        wers.extend([] if wers else rates)
        for ensemble in ensembles:
            progress.begin(f"Transcribing with the ensemble, {ensemble.label} ({test_set})")
            written(listener_of(ensemble, teachers, wers), "ensemble", ensemble.label)
        return without_teacher_encoder(prepared)

    def listen_in_buckets(utterances: Sequence[Utterance]) -> list[Prepared]:
        return by_context(utterances, config.training, partial(listen, to_transcribe=False))

    context = config.training.audio_context
    pseudo: list[PseudoLabelled] = []
    whole: list[Prepared] = []
    if any(each.method.transcripts == "teacher" for each in configs):
        # Texts are written at the whole context, whatever they are learnt at.
        whole = listen(splits.train, context, to_transcribe=True)
        progress.begin("Transcribing the training set with the teacher")
        pseudo = pseudo_labelled(
            whole,
            transcribe=lambda prepared: transcribe(prepared, MostConfident(teachers), context),
            listen=listen_in_buckets,
            normaliser=normaliser_for(config),
        )
    heard_alike = config.training.length_buckets == 1 and heard_in(config.training, student.device) == torch.float32
    train_set = without_teacher_encoder(whole) if whole and heard_alike else listen_in_buckets(splits.train)
    scan_cut(config, splits.train, finder=finder, teachers=teachers, recorder=recorder, progress=progress)
    development = listen_and_transcribe(splits.development, "development")
    prepared_tests = {name: listen_and_transcribe(items, name) for name, items in tests.items()}
    # Decoder states of audio without a transcript are states of no text.
    read = [item for item in train_set if item.utterance.text] or [item.prepared for item in pseudo]
    statistics = teacher_statistics(train_set, read=read)
    probe = ProbeSet(development[:PROBE_UTTERANCES], pairs, statistics, context, config.freeze_below)
    probed = [item.utterance for item in probe.prepared]
    probe.save_teachers(
        recorder.runs_folder / probe_folder(recorder.job_id, recorder.group),
        teachers={number: listening.every_layer(probed, context, number=number) for number in probe.met},
        student=student,
        runs_folder=recorder.runs_folder,
    )
    for name, prepared in (prepared_tests or {"development": development}).items():
        progress.begin(f"Transcribing with the student before training ({name})")
        recorder.evaluate(
            prepared,
            listener=Student(student, config.freeze_below),
            teachers=alike(teachers, student=student),
            subject="student_before",
            test_set=name,
        )
    return Shared(
        teachers,
        student,
        train_set,
        pseudo,
        development,
        prepared_tests,
        read,
        statistics,
        wers=tuple(wers),
        kept=listening.metrics(),
    )


def scan_cut(
    config: RunConfig,
    utterances: Sequence[Utterance],
    *,
    finder: Finder,
    teachers: Sequence[Whisper],
    recorder: Recorder,
    progress: Progress,
) -> None:
    """Measure the layers of what a student is cut from, and store that: which could have gone beside those that went.

    Nothing is measured where too few clips are there for it; the run goes on without.

    Args:
        config: Any run of the group.
        utterances: The training set.
        finder: Finds what the student is cut from.
        teachers: All of them.
        recorder: Whose job it is.
        progress: Of the job.
    """
    sides = sides_cut(config.student)
    context = config.training.audio_context
    if not sides or usable_clips(utterances, audio_context=context) < FEWEST_CLIPS:
        return
    progress.begin("Measuring the layers of what the student is cut from")
    live = config.training.teacher_outputs == "live"
    find = finder if live else replace(finder, pretrained=find_asleep)
    scan = scan_layers(
        load_source(config, find, first_teacher=teachers[0]).to(device_of(config)),
        config.student.model or config.teachers[0].label,
        chosen_clips(utterances, CLIPS, audio_context=context),
        audio_context=context,
        sides=sides,
        advance=lambda count: progress.advance(count * PREPARE_COST),
    )
    if scan.distances:
        recorder.store.add_layer_scan(recorder.job_id, recorder.group, scan)
        for said in choice_in_words(scan, config.student.model_dump(mode="json")):
            log.info("%s %d clips, %.1f s", said, scan.clips, scan.seconds)


def recorder_for(
    configs: Sequence[RunConfig], *, job_id: str, group: int, store: Store, runs_folder: Path, progress: Progress
) -> Recorder:
    """Return what evaluates the models of a group and stores what comes out."""
    return Recorder(
        job_id,
        store,
        runs_folder,
        configs[0],
        advance=lambda utterances: progress.advance(utterances * TRANSCRIBE_COST),
        group=group,
    )


def models_of(
    configs: Sequence[RunConfig], finder: Finder, device: torch.device
) -> tuple[tuple[Whisper, ...], Whisper]:
    """Return teachers and student of a group, on a device; teachers that the cache may spare are asleep.

    Raises:
        ModelError: If a model cannot be found, read or trusted.
        ConfigError: With every mistake that the models show.
    """
    live = configs[0].training.teacher_outputs == "live"
    teachers, student = load_models(configs[0], finder if live else replace(finder, pretrained=find_asleep))
    require_sound(configs, student=student, teachers=teachers)
    for model in (*teachers, student):
        model.to(device)
    return teachers, student


def listening_of(
    configs: Sequence[RunConfig],
    *,
    student: Whisper,
    teachers: tuple[Whisper, ...],
    pairs: tuple[LayerPair, ...],
    folder: Path,
) -> Listening:
    """Return how a group of runs hears its teachers: live, or from the cache that all jobs of a folder share."""
    first = configs[0]
    precision = heard_in(first.training, student.device)
    models = Models(teachers, student, first.freeze_below, pairs, first.evaluation, precision)
    if first.training.teacher_outputs == "live":
        return Live(models)
    of_teachers = tuple(teacher.model for teacher in first.teachers)
    logits = logits_kept(configs, alike=alike(teachers, student=student) is not None)
    names = (*of_teachers, first.student.model or of_teachers[0])
    return Kept(models, Recipes(models, names, logits, temperatures_of(configs)), Cache(folder / "cache"))


def alike(teachers: tuple[Whisper, ...], *, student: Whisper) -> Teachers | None:
    """Return the teachers that students diverge from, all counting alike, or None where token tables differ."""
    return Teachers(teachers) if all(same_tokens(student, teacher) for teacher in teachers) else None


@torch.inference_mode()
def contributions(
    learnt: Sequence[Prepared], development: Sequence[Prepared], *, teachers: Teachers, wers: Sequence[float]
) -> dict[str, float]:
    """Return what each teacher contributes to a run, as metrics that bear its number.

    ``weight``: how much it counts, a mean over the training set; ``likeliest``: share of the training utterances whose
    transcript it finds likeliest of all; ``agreement``: share of the development set's tokens at which its most likely
    token is that of all together; ``wer``: on the development set.

    Args:
        learnt: The training set, weighed.
        development: The same; empty where token tables differ, which leaves the agreement out.
        teachers: All of them.
        wers: Of each on the development set, as fractions.
    """
    values: dict[str, float] = {}
    likeliest_of = [likeliest(item) for item in learnt]
    for number, wer in enumerate(wers):
        values[f"teacher/{number}/weight"] = sum(item.weights[number] for item in learnt) / len(learnt)
        values[f"teacher/{number}/likeliest"] = sum(each[number] for each in likeliest_of) / len(learnt)
        values[f"teacher/{number}/wer"] = wer
    agreed, tokens = [0] * len(wers), 0
    for item in development:
        teaching = teachers.teaching([item])
        together = teaching.logits.argmax(dim=-1)
        tokens += len(together)
        for number, speaker in enumerate(teaching.speakers):
            agreed[number] += int((speaker.logits.argmax(dim=-1) == together).sum())
    if tokens:
        values |= {f"teacher/{number}/agreement": count / tokens for number, count in enumerate(agreed)}
    return values


def test_sets(config: RunConfig, splits: Splits) -> dict[str, Sequence[Utterance]]:
    """Return the test sets by name, the source's own first, then each extra manifest; none if they stay unread."""
    if not config.evaluation.test:
        return {}
    tests: dict[str, Sequence[Utterance]] = {"test": splits.test}
    for path in config.evaluation.extra_tests:
        tests[Path(path).stem] = read_manifest(expanded(path), transcripts="may be empty")
    return tests


def require_usable(
    config: RunConfig, splits: Splits, tests: dict[str, Sequence[Utterance]], *, student: Whisper
) -> None:
    """Check that all speech of a job can be heard and counted.

    Raises:
        ConfigError: If clips are longer than the audio context that they are read at, or decoding would cut texts.
        DataError: If texts are longer than the decoder, or have no words to count.
    """
    learnt = [*splits.train, *splits.development]
    tested = [item for items in tests.values() for item in items]
    require_fits(learnt, audio_context=config.training.audio_context, field="training.audio_context")
    require_fits(tested, audio_context=config.evaluation.audio_context, field="evaluation.audio_context")
    measured = [*splits.development, *tested]
    require_readable([*learnt, *tested], measured, student=student, normaliser=normaliser_for(config))
    sets = {"development": splits.development, **tests}
    problems = [
        problem
        for name, items in sets.items()
        for problem in cut_references(items, name=name, settings=config.evaluation, student=student)
    ]
    if problems:
        raise ConfigError("Decoding would cut texts short:", problems)
