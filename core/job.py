"""The work of a job: what its runs share, once; then run by run: train, keep the best, and measure.

models -> audio -> teacher and frozen layers (once) -> teacher and student before
       -> for each run: adapters -> training -> deployed student -> test set
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.companies import companies
from core.config import GeneratedSpeech, RunConfig, group_problems, groups
from core.counting import parameter_counts
from core.errors import ConfigError, ManifoldError, Stopped
from core.evaluation import Student, Together, listener_of
from core.families.whisper import Whisper
from core.lora import add_adapters, deployed
from core.mapping import Statistics
from core.memory import PeakMemory
from core.preflight import (
    all_pairs,
    device_of,
    ensembles_of,
    load_models,
    pairs_of,
    point_map_of,
    require_fits,
    require_readable,
    require_sound,
    same_tokens,
    within_budget,
)
from core.probes import ProbeSet
from core.progress import Progress
from core.pseudo_labels import PseudoLabelled, pseudo_labelled, training_set
from core.recording import Recorder
from core.scaling.work import PREPARE_BATCH
from core.side_by_side import Member, train_side_by_side
from core.sources import Splits, Utterance, prepare
from core.sources.manifest import read_manifest
from core.store import RunRecord, Store
from core.store.records import probe_folder
from core.teacher_outputs import (
    Prepared,
    Teachers,
    contributions,
    prepare_utterances,
    teacher_statistics,
    teachers_of,
    weighed,
    without_teacher_encoder,
)
from core.teachers import Finder
from core.training import Lesson, train
from core.watching import PROBE_POINTS, RunWatcher

PROBE_UTTERANCES = 16

# Relative costs of the parts of a job, per utterance, for its progress bar, guessed from Whisper tiny on a CPU.
PREPARE_COST = 0.3
STEP_COST = 0.08
TRANSCRIBE_COST = 0.15
UNKNOWN_SOURCE_SIZES = (400, 50, 50)
"""Utterances for training, development and test that the bar assumes before a manifest is read."""


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


def run_job(job_id: str, *, store: Store, runs_folder: Path, stop: Callable[[], bool]) -> None:
    """Do the whole work of a job, group by group.

    Args:
        job_id: A job whose rows exist.
        store: Where results go.
        runs_folder: Where files go.
        stop: Says whether the user asked to stop.

    Raises:
        Stopped: If the user asked to stop; what was done is stored.
        ManifoldError: If it cannot go on, or a run failed; with what to do.
    """
    runs = sorted(store.runs(job_id=job_id), key=lambda run: run.position)
    configs = [RunConfig.model_validate(run.config) for run in runs]
    problems = group_problems(configs)
    if problems:
        raise ConfigError("These runs cannot be one job:", problems)
    progress = Progress(
        total=sum(_total_cost(group) for group in groups(configs)),
        report=lambda stage, done, total, left: store.progress(job_id, stage, done, total, left),
        stop=stop,
    )
    failures: list[str] = []
    maps: list[str] = []
    finder = Finder(store, runs_folder, job_id)
    for number, group in enumerate(groups(configs)):
        recorder = Recorder(
            job_id,
            store,
            runs_folder,
            group[0],
            advance=lambda utterances: progress.advance(utterances * TRANSCRIBE_COST),
            group=number,
        )
        shared = _share(group, finder=finder, recorder=recorder, progress=progress)
        of_group = [run for run in runs if run.group == number]
        with_ranks = [within_budget(config, student=shared.student, teachers=shared.teachers) for config in group]
        for company in companies(with_ranks):
            failed, measured = _run_together(
                [(of_group[place], with_ranks[place]) for place in company],
                shared=shared,
                recorder=recorder,
                progress=progress,
            )
            failures += failed
            for config, run in measured:
                pairs = pairs_of(config, student=shared.student, teachers=shared.teachers)
                maps += [run.id] if any(pair.side == "encoder" and pair.of == 0 for pair in pairs) else []
    progress.finish()
    # Maps wait for the last run: whoever draws them would take a core from those that train.
    for run_id in maps:
        store.request_map(run_id, "encoder", None, None, None, "utterances")
    if failures:
        raise ManifoldError("\n".join(failures))


def _share(configs: Sequence[RunConfig], *, finder: Finder, recorder: Recorder, progress: Progress) -> Shared:
    """Load, check, listen once, and measure teachers, their ensembles and the student as they are."""
    config = configs[0]
    device = device_of(config)
    progress.begin("Loading the models")
    teachers, student = load_models(config, finder)
    require_sound(configs, student=student, teachers=teachers)
    for model in (*teachers, student):
        model.to(device)
    progress.begin("Preparing the speech")
    splits = prepare(config.source, recorder.runs_folder / "data", lambda done, total: progress.advance(0))
    tests = test_sets(config, splits)
    require_usable(config, splits, tests, student=student)
    pairs = all_pairs(configs, student=student, teachers=teachers)
    ensembles = ensembles_of(configs, teachers=teachers)
    wers: list[float] = []

    def listen(utterances: Sequence[Utterance], audio_context: float, *, keep_teacher_encoder: bool) -> list[Prepared]:
        progress.begin("Listening with the teacher")
        return prepare_utterances(
            utterances,
            teachers=teachers,
            student=student,
            freeze_below=config.freeze_below,
            pairs=pairs,
            audio_context=audio_context,
            keep_teacher_encoder=keep_teacher_encoder,
            batch_size=PREPARE_BATCH,
            advance=lambda count: progress.advance(count * len(teachers) * PREPARE_COST),
        )

    def listen_and_transcribe(utterances: Sequence[Utterance], audio_context: float, test_set: str) -> list[Prepared]:
        prepared = listen(utterances, audio_context, keep_teacher_encoder=True)
        progress.begin(f"Transcribing with the teacher ({test_set})")
        rates = []
        for number, (settings, model) in enumerate(zip(config.teachers, teachers, strict=True)):
            alone = Together((model,), (number,), (1.0,))
            said = recorder.evaluate(
                prepared, listener=alone, subject="teacher", label=settings.label, test_set=test_set
            )
            rates.append(said.total.wer)
        # The first set is the development set: its rates are what the teachers are weighted by.
        wers.extend([] if wers else rates)
        for ensemble in ensembles:
            progress.begin(f"Transcribing with the ensemble, {ensemble.label} ({test_set})")
            together = listener_of(ensemble, teachers, wers)
            recorder.evaluate(prepared, listener=together, subject="ensemble", label=ensemble.label, test_set=test_set)
        return without_teacher_encoder(prepared)

    context = config.training.audio_context
    with_pseudo = any(each.method.transcripts == "teacher" for each in configs)
    train_set = listen(splits.train, context, keep_teacher_encoder=with_pseudo)
    pseudo = []
    if with_pseudo:
        progress.begin("Transcribing the training set with the teacher")
        pseudo = pseudo_labelled(
            train_set,
            teachers=teachers,
            settings=config.evaluation,
            audio_context=context,
            listen=lambda utterances: listen(utterances, context, keep_teacher_encoder=False),
            advance=lambda count: progress.advance(count * TRANSCRIBE_COST),
        )
        train_set = without_teacher_encoder(train_set)
    development = listen_and_transcribe(splits.development, context, "development")
    test_context = config.evaluation.audio_context
    prepared_tests = {name: listen_and_transcribe(items, test_context, name) for name, items in tests.items()}
    # Decoder states of audio without a transcript are states of no text.
    read = [item for item in train_set if item.utterance.text] or [item.prepared for item in pseudo]
    statistics = teacher_statistics(train_set, read=read)
    probe = ProbeSet(development[:PROBE_UTTERANCES], pairs, statistics, context, config.freeze_below)
    folder = recorder.runs_folder / probe_folder(recorder.job_id, recorder.group)
    probe.save_teacher(folder, teacher=teachers[0], student=student, runs_folder=recorder.runs_folder)
    for name, prepared in (prepared_tests or {"development": development}).items():
        progress.begin(f"Transcribing with the student before training ({name})")
        recorder.evaluate(
            prepared,
            listener=Student(student, config.freeze_below),
            teachers=alike(teachers, student=student),
            subject="student_before",
            test_set=name,
        )
    return Shared(teachers, student, train_set, pseudo, development, prepared_tests, read, statistics, wers=tuple(wers))


def alike(teachers: tuple[Whisper, ...], *, student: Whisper) -> Teachers | None:
    """Return the teachers that students diverge from, all counting alike, or None where token tables differ."""
    return Teachers(teachers) if all(same_tokens(student, teacher) for teacher in teachers) else None


def _run_together(
    runs: Sequence[tuple[RunRecord, RunConfig]], *, shared: Shared, recorder: Recorder, progress: Progress
) -> tuple[list[str], list[tuple[RunConfig, RunRecord]]]:
    """Train some runs side by side, or one alone, and measure them; return what went wrong, and the others."""
    failures: dict[str, str] = {}

    def fail(run: RunRecord, error: ManifoldError) -> None:
        # One run that goes wrong does not take the others with it.
        recorder.store.run_state(run.id, "failed", str(error))
        failures[run.id] = f"{run.name}: {error}"

    members: list[tuple[RunRecord, Member, RunWatcher]] = []
    for run, config in runs:
        with _kept_apart(lambda error, run=run: fail(run, error)):
            members.append((run, *_member(run, config, shared=shared, recorder=recorder, progress=progress)))
    if members:
        progress.begin(f"Training {', '.join(run.name for run, _, _ in members)}")
    with PeakMemory(shared.student.device) as memory:
        if len(members) == 1:
            run, one, watcher = members[0]
            with _kept_apart(lambda error: fail(run, error)):
                train(one.config, student=one.student, point_map=one.point_map, lesson=one.lesson, watcher=watcher)
        elif members:
            train_side_by_side(
                [member for _, member, _ in members],
                frozen=shared.student,
                failed=lambda number, error: fail(members[number][0], error),
            )
    measured = []
    for run, member, watcher in members:
        if run.id not in failures:
            with _kept_apart(lambda error, run=run: fail(run, error)):
                recorder.store.set_peak_memory(run.id, memory.peak)
                _measure(run, member.config, watcher, shared=shared, recorder=recorder, progress=progress)
                measured.append((member.config, run))
    return list(failures.values()), measured


@contextmanager
def _kept_apart(failed: Callable[[ManifoldError], None]) -> Iterator[None]:
    """Let what goes wrong in one run end that run alone; a request to stop ends them all."""
    try:
        yield
    except Stopped:
        raise
    except ManifoldError as error:
        failed(error)


def _member(
    run: RunRecord, config: RunConfig, *, shared: Shared, recorder: Recorder, progress: Progress
) -> tuple[Member, RunWatcher]:
    """Return a run's fresh student and what it learns from, and its watcher."""
    store, device = recorder.store, shared.student.device
    store.run_state(run.id, "running")
    learnt = weighed(training_set(config.method, shared.train, shared.pseudo), config.ensemble, shared.wers)
    development = weighed(shared.development, config.ensemble, shared.wers)
    teachers, statistics = teachers_of(
        config.ensemble,
        models=shared.teachers,
        statistics=shared.statistics,
        train=shared.train,
        read=shared.read,
        wers=shared.wers,
    )
    store.add_metrics(run.id, 0, {"data/utterances": len(learnt)})
    if len(shared.teachers) > 1:
        heard = development if alike(shared.teachers, student=shared.student) else ()
        store.add_metrics(run.id, 0, contributions(learnt, heard, teachers=teachers, wers=shared.wers))
    store.set_parameters(run.id, parameter_counts(config, student=shared.student, teachers=shared.teachers))
    adapted = add_adapters(shared.student.plain, config.lora, freeze_below=config.freeze_below, seed=config.seed)
    student = shared.student.with_model(adapted)
    point_map = point_map_of(config, student=shared.student, teachers=shared.teachers, statistics=statistics)
    point_map.to(device)
    pairs = pairs_of(config, student=shared.student, teachers=shared.teachers)
    met = teachers.met(development[:PROBE_UTTERANCES])
    watcher = RunWatcher(
        run,
        config,
        student=student,
        point_map=point_map,
        development=development,
        probe=ProbeSet(met, pairs, statistics, config.training.audio_context, config.freeze_below),
        recorder=recorder,
        advance=lambda utterances: progress.advance(utterances * STEP_COST),
    )
    return Member(config, student, point_map, Lesson(learnt, pairs, teachers), watcher), watcher


def _measure(
    run: RunRecord, config: RunConfig, watcher: RunWatcher, *, shared: Shared, recorder: Recorder, progress: Progress
) -> None:
    """Measure what is deployed on the test sets: adapters merged into the weights, or a mixture beside them."""
    best = deployed(shared.student.plain, recorder.runs_folder / run.id / "adapters" / "best")
    healed = shared.student.with_model(best.eval()).to(shared.student.device)
    for name, prepared in shared.tests.items():
        progress.begin(f"Transcribing with {run.name} ({name})")
        recorder.evaluate(
            prepared,
            listener=Student(healed, config.freeze_below),
            teachers=alike(shared.teachers, student=shared.student),
            subject="student",
            test_set=name,
            run_id=run.id,
            step=watcher.best_step,
        )
    recorder.store.run_state(run.id, "finished")


def test_sets(config: RunConfig, splits: Splits) -> dict[str, Sequence[Utterance]]:
    """Return the test sets by name, the source's own first, then each extra manifest; none if they stay unread."""
    if not config.evaluation.test:
        return {}
    tests: dict[str, Sequence[Utterance]] = {"test": splits.test}
    for path in config.evaluation.extra_tests:
        tests[Path(path).stem] = read_manifest(Path(path))
    return tests


def require_usable(
    config: RunConfig, splits: Splits, tests: dict[str, Sequence[Utterance]], *, student: Whisper
) -> None:
    """Check that all speech of a job can be heard and counted.

    Raises:
        ConfigError: If clips are longer than the audio context that they are read at.
        DataError: If texts are longer than the decoder, or have no words to count.
    """
    learnt = [*splits.train, *splits.development]
    tested = [item for items in tests.values() for item in items]
    require_fits(learnt, audio_context=config.training.audio_context, field="training.audio_context")
    require_fits(tested, audio_context=config.evaluation.audio_context, field="evaluation.audio_context")
    require_readable([*learnt, *tested], [*splits.development, *tested], student=student)


def _total_cost(configs: Sequence[RunConfig]) -> float:
    """Return the cost of a job in the units of its parts."""
    source = configs[0].source
    sizes = UNKNOWN_SOURCE_SIZES
    if isinstance(source, GeneratedSpeech):
        sizes = (source.train, source.development, source.test)
    training, development, test = sizes
    if not configs[0].evaluation.test:
        test = 0
    teachers = len(configs[0].teachers)
    ensembles = len({config.ensemble.label for config in configs} - {"single"}) if teachers > 1 else 0
    total = (training + development + test) * teachers * PREPARE_COST
    total += ((development + test) * (teachers + ensembles) + test) * TRANSCRIBE_COST
    if any(config.method.transcripts == "teacher" for config in configs):
        total += training * (teachers * PREPARE_COST + TRANSCRIBE_COST)
    for config in configs:
        total += config.training.steps * config.training.batch_size * STEP_COST
        probed = PROBE_POINTS * min(PROBE_UTTERANCES, development) / 4
        total += (config.training.evaluations * development + test + probed) * TRANSCRIBE_COST
    return total
