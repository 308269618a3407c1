"""Everything that can be said of runs before they start: mistakes, what is adapted and trained, and what it will take.

``python -m core.checking --runs FOLDER`` reads one run's settings as JSON, measures it in a process of its own, whose
memory holds nothing else, and prints the result as JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from core.audio import SAMPLE_RATE, write_flac
from core.batch_points import few_points_problems
from core.config import Manifest, RunConfig, group_problems, groups, parse_run
from core.counting import parameter_counts
from core.errors import ConfigError, DataError, ManifoldError, ModelError, Problem
from core.estimates import all_terms_at_once, measure
from core.evaluation import normaliser_for
from core.families.whisper import Whisper
from core.first_look import speech_problems
from core.lora import adapted_modules, add_adapters
from core.mixture import expert_rank
from core.normalisers import note_on
from core.preflight import (
    all_pairs,
    device_of,
    linear_modules,
    load_models,
    model_problems,
    pairs_of,
    point_map_of,
    within_budget,
)
from core.sample import Sample, take_sample
from core.shared import require_usable, test_sets
from core.sources import Splits, Utterance, prepare
from core.store import Estimate, JobEstimate, Store
from core.teacher_outputs import prepare_utterances, teacher_statistics, teachers_of, weighed
from core.teachers import Finder, Rehearsal
from core.training import Lesson, train

NOISE_SECONDS = 2.0
NOISE_CLIPS = 2

Result = dict[str, Any]


def check(
    configs: Sequence[RunConfig],
    *,
    runs_folder: Path,
    measured: bool,
    find: Finder | None = None,
    tell: Callable[[str], None] = lambda said: None,
) -> list[Result]:
    """Look at the runs of one job, and find all mistakes of all of them.

    Args:
        configs: The runs; rows that later ones learn from stand in with their students before training.
        runs_folder: Where they will be kept; only read.
        measured: Whether to take real steps on the real speech for time and memory. Without, manifests are read, and
            one step on two short clips of noise shows the gradients' paths.
        find: Finds the students of finished runs.
        tell: Called with what is done next, in words.

    Returns:
        One result per run: ``problems`` (list of where and message), ``normaliser`` (name of what makes the words that
        are counted), ``notes`` (what is to be known of it), and as far as they could be had ``origin`` (where
        the teachers' weights are), ``tokens`` (entries of the first teacher's and the student's table and how many they
        share), ``parameters`` (see ParameterCounts, and shares), ``rank``, ``experts`` (of a mixture: ``number`` and
        ``rank``), ``adapted`` (module paths), ``gradients`` (terms and adapters that have one), ``estimate`` (see
        Estimate).
    """
    results: list[Result] = [{"problems": [], **_words(config)} for config in configs]
    problems = group_problems(configs)
    for result in results:
        result["problems"] += problems
    first = 0
    for group in groups(configs):
        own = results[first : first + len(group)]
        rehearsal = Rehearsal(find, configs[:first])
        _check_group(group, own, runs_folder=runs_folder, measured=measured, find=rehearsal, tell=tell)
        first += len(group)
    return _plain(results)


def _check_group(
    configs: Sequence[RunConfig],
    results: list[Result],
    *,
    runs_folder: Path,
    measured: bool,
    find: Rehearsal,
    tell: Callable[[str], None] = lambda said: None,
) -> None:
    """Look at runs that share what is computed once, and add what is found to their results."""
    first = configs[0]
    extra = first.evaluation.extra_tests if first.evaluation.test else ()
    speech = speech_problems(first.source, extra, runs_folder=runs_folder)
    tell("Reading the models")
    began = time.perf_counter()
    try:
        teachers, student = load_models(configs[0], find)
        load_seconds = time.perf_counter() - began
        device = device_of(configs[0])
    except ManifoldError as error:
        _note(results, error)
        _add(results, speech)
        return
    origins = ", ".join(dict.fromkeys(teacher.loaded.origin for teacher in teachers))
    for config, result in zip(configs, results, strict=True):
        result["problems"] += model_problems(config, student=student, teachers=teachers)
        result |= {"origin": origins, "tokens": _tokens(student=student, teacher=teachers[0])}
        if not result["problems"]:
            result["problems"] += few_points_problems(config, student=student, teachers=teachers)
        if not result["problems"]:
            result |= _counted(config, student=student, teachers=teachers)
    _add(results, speech)
    sound = [(config, result) for config, result in zip(configs, results, strict=True) if not result["problems"]]
    if not speech and not (measured and sound):
        # Measuring reads it anyway.
        learnt: list[Utterance] = []
        _attempt(results, lambda: learnt.extend(_read_speech(configs[0], student=student, runs_folder=runs_folder)))
        for config, result in sound if learnt else ():
            result["problems"] += few_points_problems(config, student=student, teachers=teachers, learnt=learnt)
        sound = [(config, result) for config, result in sound if not result["problems"]]
    if not sound:
        return
    for model in (*teachers, student):
        model.to(device)
    with tempfile.TemporaryDirectory() as folder:
        if measured:
            _measure(sound, student, teachers, runs_folder, Path(folder), load_seconds, tell)
        else:
            tell("Looking where gradients flow, on one step each")
            _try_one_step(sound, student, teachers, Path(folder))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the run on standard input; return 0 also when it has mistakes, which the result tells."""
    parser = argparse.ArgumentParser(prog="python -m core.checking", description="Measure one run.")
    parser.add_argument("--runs", required=True, type=Path)
    parser.add_argument("--database-url", help="Where the runs are that may teach.")
    options = parser.parse_args(arguments)
    find = Finder(Store.open(options.database_url), options.runs) if options.database_url else None
    print(json.dumps(check_fields(json.load(sys.stdin), runs_folder=options.runs, measured=True, find=find)))
    return 0


def check_fields(fields: Any, *, runs_folder: Path, measured: bool, find: Finder | None = None) -> Result:
    """Look at one run that is given as plain dictionaries, with its ``rows``; see `check` and CheckRecord."""
    try:
        rows = [parse_run(row) for row in fields.get("rows", ())]
        config = parse_run({name: value for name, value in fields.items() if name != "rows"})
    except ConfigError as error:
        return {"problems": [vars(problem) for problem in _problems(error)]}
    result: Result = {"problems": [], **_words(config)}
    _check_group([config], [result], runs_folder=runs_folder, measured=measured, find=Rehearsal(find, rows))
    return _plain([result])[0]


def _plain(results: Sequence[Result]) -> list[Result]:
    return [{**result, "problems": [vars(problem) for problem in result["problems"]]} for result in results]


def _words(config: RunConfig) -> Result:
    note = note_on(config.evaluation.normaliser, config.language)
    return {"normaliser": normaliser_for(config).name, "notes": [note] if note else []}


def _counted(config: RunConfig, *, student: Whisper, teachers: Sequence[Whisper]) -> Result:
    counts = parameter_counts(config, student=student, teachers=teachers)
    names = ("student", "adapters", "projections", "trainable")
    shares = {name: counts.shares(getattr(counts, name)) for name in names}
    lora = within_budget(config, student=student, teachers=teachers).lora
    experts = None
    if lora.mixture is not None:
        experts = {"number": lora.mixture.experts, "rank": expert_rank(lora, linear_modules(config, student))}
    return {
        "parameters": {**asdict(counts), "share_of_teacher": counts.share_of_teacher, "shares": shares},
        "rank": lora.rank,
        "experts": experts,
        "adapted": adapted_modules(student.model, config.lora, freeze_below=config.freeze_below),
    }


def _tokens(*, student: Whisper, teacher: Whisper) -> dict[str, int]:
    mine, theirs = (side.loaded.vocabulary for side in (student, teacher))
    return {"student": len(mine), "teacher": len(theirs), "shared": len(mine.items() & theirs.items())}


def _measure(
    sound: list[tuple[RunConfig, Result]],
    student: Whisper,
    teachers: tuple[Whisper, ...],
    runs_folder: Path,
    folder: Path,
    load_seconds: float,
    tell: Callable[[str], None],
) -> None:
    """Add the estimate of each run, and what the machine lacks for all of them."""
    results = [result for _, result in sound]
    configs = [config for config, _ in sound]
    samples: list[Sample] = []
    tell("Listening with the teachers to some of the speech")
    _attempt(
        results,
        lambda: samples.append(
            take_sample(configs, student=student, teachers=teachers, runs_folder=runs_folder, folder=folder)
        ),
    )
    estimates: list[Estimate] = []
    for number, (config, result) in enumerate(sound if samples else (), start=1):
        tell(f"Measuring real steps of {config.name}, run {number} of {len(sound)}")
        estimate = _attempt(
            [result],
            lambda config=config: measure(
                config, samples[0], runs_folder=runs_folder, folder=folder, load_seconds=load_seconds
            ),
        )
        if estimate is not None:
            estimates.append(estimate)
            result |= {"estimate": asdict(estimate), "gradients": _gradients(config, result)}
    if estimates:
        for result in results:
            result["problems"] += lacks(JobEstimate.of(estimates), runs_folder=runs_folder)


def lacks(job: JobEstimate, *, runs_folder: Path) -> list[Problem]:
    """Return what the machine has too little of for a job."""
    problems = []
    if job.memory > job.memory_free:
        problems.append(
            Problem(
                "memory",
                f"needs {_gib(job.memory)}, and {_gib(job.memory_free)} are free: lower training.batch_size or "
                "training.audio_context, or use a smaller source",
            )
        )
    if job.disk > job.disk_free:
        problems.append(
            Problem("disk", f"needs {_gib(job.disk)} in {runs_folder}, and {_gib(job.disk_free)} are free: make room")
        )
    return problems


def _read_speech(config: RunConfig, *, student: Whisper, runs_folder: Path) -> Sequence[Utterance]:
    """Read the manifests that a job will read and return the training set; speech that is made here has no mistakes.

    Raises:
        ManifoldError: With every row that cannot be used.
    """
    splits = Splits((), (), ())
    if isinstance(config.source, Manifest):
        splits = prepare(config.source, runs_folder / "data", lambda done, total: None)
    require_usable(config, splits, test_sets(config, splits), student=student)
    return splits.train


def _try_one_step(
    sound: list[tuple[RunConfig, Result]], student: Whisper, teachers: tuple[Whisper, ...], folder: Path
) -> None:
    """Show that every term and every adapter has a gradient, by one step of each run on noise."""
    first = sound[0][0]
    prepared = prepare_utterances(
        _noise(folder, seconds=min(NOISE_SECONDS, first.training.audio_context)),
        teachers=teachers,
        student=student,
        freeze_below=first.freeze_below,
        pairs=all_pairs([config for config, _ in sound], student=student, teachers=teachers),
        audio_context=first.training.audio_context,
        keep_teacher_encoder=False,
        batch_size=NOISE_CLIPS,
        advance=lambda count: None,
    )
    of_teachers = teacher_statistics(prepared)

    def step(config: RunConfig) -> None:
        config = within_budget(config, student=student, teachers=teachers)
        adapted = add_adapters(student.plain, config.lora, freeze_below=config.freeze_below, seed=config.seed)
        even = [0.0] * len(teachers)
        own, of_states = teachers_of(
            config.ensemble, models=teachers, statistics=of_teachers, train=prepared, read=prepared, wers=even
        )
        point_map = point_map_of(config, student=student, teachers=teachers, statistics=of_states)
        point_map.to(student.device)
        pairs = pairs_of(config, student=student, teachers=teachers)
        lesson = Lesson(weighed(prepared, config.ensemble, even), pairs, own)
        short = all_terms_at_once(config, steps=1)
        train(short, student=student.with_model(adapted), point_map=point_map, lesson=lesson, watcher=_Nobody())

    for config, result in sound:
        before = len(result["problems"])
        _attempt([result], lambda config=config: step(config))
        if len(result["problems"]) == before:
            result["gradients"] = _gradients(config, result)


def _noise(folder: Path, *, seconds: float) -> list[Utterance]:
    draw = np.random.default_rng(0)
    clips = []
    for number in range(NOISE_CLIPS):
        path = folder / f"noise-{number}.flac"
        write_flac(path, (0.1 * draw.normal(size=round(seconds * SAMPLE_RATE))).clip(-1, 1).astype(np.float32))
        clips.append(Utterance(path.stem, path, "Some words that stand in for a transcript.", None, seconds))
    return clips


def _gradients(config: RunConfig, result: Result) -> dict[str, Any]:
    terms = [loss.kind for loss in config.method.losses if loss.reaches_student]
    return {"terms": terms, "adapters": len(result["adapted"])}


def _attempt(results: Sequence[Result], work: Callable[[], Any]) -> Any:
    """Return what the work returns, or None once its mistakes are noted with every result that it concerns."""
    try:
        return work()
    except ManifoldError as error:
        _note(results, error)
        return None


def _note(results: Sequence[Result], error: ManifoldError) -> None:
    for result in results:
        result["problems"] += _problems(error)


def _add(results: Sequence[Result], problems: Sequence[Problem]) -> None:
    for result in results:
        result["problems"] += problems


def _problems(error: ManifoldError) -> list[Problem]:
    if isinstance(error, ConfigError | DataError):
        return error.problems or [Problem("", error.summary)]
    return [Problem("teachers" if isinstance(error, ModelError) else "", str(error))]


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


class _Nobody:
    """Watches nothing."""

    def step(self, step: int, values: dict[str, float], seconds: float) -> None:
        """Let the step be."""

    def pause(self, step: int) -> None:
        """Let it go on."""


if __name__ == "__main__":
    sys.exit(main())
