"""The work of a job: what its runs share, once; then run by run: train, keep the best, and measure.

models -> audio -> teacher and frozen layers (once) -> teacher and student before
       -> for each run: adapters -> training -> deployed student -> test set
          (on several devices at once: core.spread; one run on several: core.parts)
"""

import logging
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

from core.boot import uptime
from core.checkpoints import adapters_step
from core.companies import companies
from core.config import Manifest, RunConfig, group_problems, groups
from core.counting import parameter_counts
from core.errors import ConfigError, ManifoldError, SomeRunsFailed, Stopped, StoreError
from core.evaluation import Student
from core.handover import handed_over
from core.layer_cuts import CLIPS, sides_cut
from core.lora import add_adapters, deployed
from core.mapping import Statistics
from core.memory import PeakMemory
from core.pacing import Unseen
from core.parts import train_in_parts
from core.paths import expanded
from core.precision import product_type
from core.preflight import device_of, devices_of, pairs_of, point_map_of, within_budget
from core.probes import ProbeSet
from core.processes import Company, Duty, Outcome, at_work
from core.progress import Progress
from core.pseudo_labels import training_set
from core.recording import Recorder
from core.scaling.work import PROBE_POINTS, PROBE_UTTERANCES
from core.shared import (
    PREPARE_COST,
    STEP_COST,
    TRANSCRIBE_COST,
    Shared,
    alike,
    contributions,
    recorder_for,
    share,
)
from core.side_by_side import Member, train_side_by_side
from core.sources.manifest import row_count
from core.spread import spread
from core.store import RunRecord, Store
from core.teacher_outputs import teachers_of, weighed
from core.teachers import Finder
from core.team import ALONE, Team
from core.training import Lesson, train
from core.watching import RunWatcher

log = logging.getLogger(__name__)

LIBRARIES = ("manifold-studio", "torch", "transformers", "peft")
"""Whose versions the log has."""

SETTLE_SECONDS = 5.0
"""How often a job that waits for the database looks whether it shall stop."""


def run_job(job_id: str, *, store: Store, runs_folder: Path, stop: Callable[[], bool]) -> None:
    """Do the whole work of a job, group by group.

    Args:
        job_id: A job whose rows exist.
        store: Where results go.
        runs_folder: Where files go.
        stop: Says whether the user asked to stop.

    Raises:
        Stopped: If the user asked to stop; what was done is stored.
        SomeRunsFailed: If some runs failed, and others finished.
        ManifoldError: If it cannot go on, or every run failed; with what to do.
    """
    runs = sorted(store.runs(job_id=job_id), key=lambda run: run.position)
    configs = [RunConfig.model_validate(run.config) for run in runs]
    problems = group_problems(configs)
    if problems:
        raise ConfigError("These runs cannot be one job:", problems)
    log.info(_machine(configs[0]))
    progress = Progress(
        total=sum(_total_cost(group) for group in groups(configs)),
        report=lambda stage, done, total, left: store.progress(job_id, stage, done, total, left),
        stop=stop,
        advanced=lambda: store.advanced(job_id, (), uptime()),
    )
    failures: list[str] = []
    maps: list[str] = []
    finder = Finder(store, runs_folder, job_id)
    for number, group in enumerate(groups(configs)):
        if number:
            _settle(store, progress)
        recorder = recorder_for(
            group, job_id=job_id, group=number, store=store, runs_folder=runs_folder, progress=progress
        )
        shared = share(group, finder=finder, recorder=recorder, progress=progress)
        of_group = [run for run in runs if run.group == number]
        with_ranks = [within_budget(config, student=shared.student, teachers=shared.teachers) for config in group]
        devices = devices_of(group[0])
        work = [
            [(of_group[place], with_ranks[place]) for place in company]
            for company in companies(with_ranks, len(devices))
        ]
        # Companies leave no device without work, so where there is but one, it is a single run.
        several = len(work) > 1
        processes = min(len(devices), len(work) if several else parts_of(with_ranks[0], shared))
        if processes > 1:
            duty = Duty(group, job_id, number, store.url, runs_folder, progress.total, run_together)
            trained = spread if several else train_in_parts
            with handed_over(shared, runs_folder) as handed:
                del shared
                outcomes = trained(work, devices[:processes], duty=duty, handed=handed, store=store, progress=progress)
        else:
            outcomes = []
            for each in work:
                with at_work(each, job_id=job_id, store=store, progress=progress):
                    outcomes.append(run_together(each, shared=shared, recorder=recorder, progress=progress))
        failures += [failure for outcome in outcomes for failure in outcome.failures]
        maps += [run_id for outcome in outcomes for run_id in outcome.mapped]
    progress.finish()
    # Maps wait for the last run: whoever draws them would take a core from those that train.
    for run_id in maps:
        store.request_first_analysis(run_id)
    if len(failures) == len(runs):
        raise ManifoldError("\n".join(failures))
    if failures:
        raise SomeRunsFailed("\n".join([f"{len(failures)} of {len(runs)} runs failed.", *failures]))


def _settle(store: Store, progress: Progress) -> None:
    """Wait until the database knows which runs have finished: the next group may learn from their students.

    Raises:
        Stopped: If the user asked to stop meanwhile.
    """
    while not store.flush(SETTLE_SECONDS):
        progress.begin("Waiting for the database")
        progress.advance(0)


def parts_of(config: RunConfig, shared: Shared) -> int:
    """Return into how many parts the batches of a run can be taken: one utterance each."""
    try:
        learnt = training_set(config.method, shared.train, shared.pseudo)
    except ConfigError:  # said where the run begins
        return 1
    return min(config.training.batch_size, len(learnt))


def run_together(
    company: Company, *, shared: Shared, recorder: Recorder, progress: Progress, team: Team = ALONE
) -> Outcome:
    """Train some runs side by side, or one alone, and measure them; return what became of them.

    Args:
        company: The runs; one, where a team trains it.
        shared: What they share.
        recorder: Stores what comes out.
        progress: Of the job.
        team: All but its first process train along and do nothing else.

    Raises:
        Stopped: If the user asked to stop.
    """
    failures: dict[str, str] = {}

    def fail(run: RunRecord, error: ManifoldError) -> None:
        # One run that goes wrong does not take the others with it.
        said = f"{error}{_kept(recorder.runs_folder / run.id)}"
        recorder.store.run_state(run.id, "failed", said)
        failures[run.id] = f"{run.name}: {said}"
        log.info("%s failed: %s", run.name, said)

    if team.number:
        ((run, config),) = company
        # What goes wrong in all of them is said by whoever is first.
        with _kept_apart(lambda error: fail(run, error)):
            _train_one(_member(config, shared=shared)[0], team)
        return Outcome(list(failures.values()))
    members: list[tuple[RunRecord, Member, RunWatcher]] = []
    for run, config in company:
        with _kept_apart(lambda error, run=run: fail(run, error)):
            members.append((run, *_watched(run, config, shared=shared, recorder=recorder, progress=progress)))
    if members:
        progress.begin(f"Training {', '.join(run.name for run, _, _ in members)}")
    with PeakMemory(shared.student.device) as memory:
        if len(members) == 1:
            run, one, _ = members[0]
            with _kept_apart(lambda error: fail(run, error)):
                _train_one(one, team)
        elif members:
            train_side_by_side(
                [member for _, member, _ in members],
                frozen=shared.student,
                failed=lambda number, error: fail(members[number][0], error),
            )
    mapped = []
    for run, member, watcher in members:
        if run.id not in failures:
            with _kept_apart(lambda error, run=run: fail(run, error)):
                recorder.store.set_peak_memory(run.id, memory.peak)
                _measure(run, member.config, watcher, shared=shared, recorder=recorder, progress=progress)
                pairs = pairs_of(member.config, student=shared.student, teachers=shared.teachers)
                mapped += [run.id] if any(pair.side == "encoder" and pair.of == 0 for pair in pairs) else []
    return Outcome(list(failures.values()), mapped)


@contextmanager
def _kept_apart(failed: Callable[[ManifoldError], None]) -> Iterator[None]:
    """Let what goes wrong in one run end that run alone; a request to stop ends them all."""
    try:
        yield
    except Stopped:
        raise
    except ManifoldError as error:
        failed(error)


def _kept(folder: Path) -> str:
    """Return which adapters of a run that failed there are, a sentence behind another one; nothing where none are."""
    best = adapters_step(folder / "adapters", "best")
    return "" if best is None else f" Its best adapters, of step {best}, are kept."


def _member(config: RunConfig, *, shared: Shared) -> tuple[Member, tuple[Statistics, ...]]:
    """Return a run's fresh student and what it learns from, unwatched; and statistics of what it is aligned with."""
    learnt = weighed(training_set(config.method, shared.train, shared.pseudo), config.ensemble, shared.wers)
    teachers, statistics = teachers_of(
        config.ensemble,
        models=shared.teachers,
        statistics=shared.statistics,
        train=shared.train,
        read=shared.read,
        wers=shared.wers,
    )
    adapted = add_adapters(shared.student.plain, config.lora, freeze_below=config.freeze_below, seed=config.seed)
    student = shared.student.with_model(adapted)
    point_map = point_map_of(config, student=shared.student, teachers=shared.teachers, statistics=statistics)
    point_map.to(shared.student.device)
    pairs = pairs_of(config, student=shared.student, teachers=shared.teachers)
    return Member(config, student, point_map, Lesson(learnt, pairs, teachers), Unseen()), statistics


def _watched(
    run: RunRecord, config: RunConfig, *, shared: Shared, recorder: Recorder, progress: Progress
) -> tuple[Member, RunWatcher]:
    """Begin a run: return its fresh student and what it learns from, and its watcher."""
    store = recorder.store
    store.run_state(run.id, "running")
    # `auto` is another precision on another device: what it was here belongs to the run.
    store.set_precision(run.id, str(product_type(config.training, shared.student.device)).removeprefix("torch."))
    member, statistics = _member(config, shared=shared)
    learnt, pairs, teachers = member.lesson.prepared, member.lesson.pairs, member.lesson.teachers
    development = weighed(shared.development, config.ensemble, shared.wers)
    store.add_metrics(run.id, 0, {"data/utterances": len(learnt), **shared.kept})
    if len(shared.teachers) > 1:
        heard = development if alike(shared.teachers, student=shared.student) else ()
        store.add_metrics(run.id, 0, contributions(learnt, heard, teachers=teachers, wers=shared.wers))
    store.set_parameters(run.id, parameter_counts(config, student=shared.student, teachers=shared.teachers))
    met = teachers.met(development[:PROBE_UTTERANCES])
    watcher = RunWatcher(
        run,
        config,
        student=member.student,
        point_map=member.point_map,
        development=development,
        probe=ProbeSet(met, pairs, statistics, config.training.audio_context, config.freeze_below),
        recorder=recorder,
        advance=lambda utterances: progress.advance(utterances * STEP_COST),
    )
    return replace(member, watcher=watcher), watcher


def _train_one(member: Member, team: Team) -> None:
    train(
        member.config,
        student=member.student,
        point_map=member.point_map,
        lesson=member.lesson,
        watcher=member.watcher,
        team=team,
    )


def _measure(
    run: RunRecord, config: RunConfig, watcher: RunWatcher, *, shared: Shared, recorder: Recorder, progress: Progress
) -> None:
    """Measure what is deployed on the test sets: adapters merged into the weights, or a mixture beside them."""
    _require_adapters(recorder.runs_folder, run)
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
    _require_adapters(recorder.runs_folder, run)
    recorder.store.run_state(run.id, "finished")


def _require_adapters(runs_folder: Path, run: RunRecord) -> None:
    """Check that what a run has trained is still there.

    Raises:
        StoreError: If its folder, or the folder of all runs, was deleted under it.
    """
    adapters = runs_folder / run.id / "adapters" / "best"
    if not adapters.is_dir():
        raise StoreError(
            f"The adapters of the run are gone: {adapters} was deleted or moved while it worked. Start the run again."
        )


def _machine(config: RunConfig) -> str:
    """Return on what the work is done: device, threads and versions."""
    device = device_of(config)
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    threads = torch.get_num_threads()
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in LIBRARIES)]
    return f"On {named}, {threads} thread{'' if threads == 1 else 's'}: {', '.join(versions)}"


def set_sizes(config: RunConfig) -> tuple[int, int, int]:
    """Return how many utterances are learnt from, choose the checkpoint, and are tested on, before they are read.

    Raises:
        DataError: If a manifest is not there or has no rows.
    """
    source, paths = config.source, config.evaluation.extra_tests
    names = ("train", "development", "test")
    if isinstance(source, Manifest):
        training, development, test = (row_count(expanded(getattr(source, name))) for name in names)
    else:
        training, development, test = (getattr(source, name) for name in names)
    tested = test + sum(row_count(expanded(path)) for path in paths) if config.evaluation.test else 0
    return training, development, tested


def _total_cost(configs: Sequence[RunConfig]) -> float:
    """Return the cost of a job in the units of its parts."""
    training, development, test = set_sizes(configs[0])
    teachers = len(configs[0].teachers)
    ensembles = len({config.ensemble.label for config in configs} - {"single"}) if teachers > 1 else 0
    total = (training + development + test) * teachers * PREPARE_COST
    total += min(CLIPS, training) * PREPARE_COST if sides_cut(configs[0].student) else 0
    total += ((development + test) * (teachers + ensembles) + test) * TRANSCRIBE_COST
    if any(config.method.transcripts == "teacher" for config in configs):
        total += training * (teachers * PREPARE_COST + TRANSCRIBE_COST)
    for config in configs:
        total += config.training.steps * config.training.batch_size * STEP_COST
        probed = PROBE_POINTS * min(PROBE_UTTERANCES, development) / 4
        total += (config.training.evaluations * development + test + probed) * TRANSCRIBE_COST
    return total
