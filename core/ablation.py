"""The ablation table: what the page, the terminal and the JSON show, made in one place so that they agree."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from core.comparison import measured_differently
from core.errors import ConfigError, NotFoundError, quoted
from core.over_seeds import Kind, OverSeeds, but_for_seed, kind_name, over_seeds
from core.significance import Contrast, Difference, contrasts, paired_bootstrap
from core.silence import invented
from core.store import EvaluationRecord, JobRecord, ParameterCounts, RunRecord, Store, UtteranceResult
from core.store.records import Subject

DEVELOPMENT = "development"
"""Name of the set that chooses checkpoints and settings."""


@dataclass(frozen=True, kw_only=True)
class Compared(Contrast):
    """A model beside the baseline.

    Attributes:
        evaluation: On the table's test set, or None before it was read.
        against: Name of the run that it was compared with: the baseline's of its own seed where there is one, else the
            baseline itself. None where nothing is compared, and for what others are compared with.
    """

    evaluation: EvaluationRecord | None = None
    against: str | None = None


@dataclass(frozen=True, kw_only=True)
class AblationRow(Compared):
    """A run of the job.

    Attributes:
        parameters: None before they are known.
        teaches: Whether it is there for later runs to learn from; it was read as their teacher.
        is_baseline: Whether others are compared with it: the baseline, and its runs with other seeds.
        load: Of a mixture, the share of the development set's points that each expert has, at the checkpoint that is
            shown; the busiest first, as each module's are put in order. Empty without experts.
    """

    run: RunRecord
    parameters: ParameterCounts | None = None
    teaches: bool = False
    is_baseline: bool = False
    load: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReferenceRow(Compared):
    """One of several teachers that is no run of the job, or all of them together.

    Attributes:
        name: What it is called.
        subject: "teacher" or "ensemble".
    """

    name: str
    subject: Subject


@dataclass(frozen=True)
class AblationTable:
    """The runs of a job on one test set.

    Attributes:
        teacher: Where there is one.
        several: Where there are several: those that are no runs of the job, and their ensembles; compared as runs are.
        rows: Those that teach first.
        baseline: Name of the run that the others are compared with; those of other seeds with its run of theirs.
        test: What the interval is and whether it is a test, in sentences; empty when nothing is compared yet.
        utterances: Size of the test set.
        over_seeds: Kinds of runs with all their seeds together; None where no kind has several.
        extra: The same table for every extra test set, by its name; never pooled.
    """

    job: JobRecord
    test_set: str
    teacher: EvaluationRecord | None
    student_before: EvaluationRecord | None
    rows: tuple[AblationRow, ...]
    baseline: str
    test: str
    utterances: int
    several: tuple[ReferenceRow, ...] = ()
    over_seeds: OverSeeds | None = None
    extra: dict[str, "AblationTable"] = field(default_factory=dict)

    @property
    def compared(self) -> list[tuple[str, str, Compared]]:
        """Every model beside the baseline, in the order of the table: what it is called, its role, and its numbers."""
        teaching = [(row.run.name, "Teacher", row) for row in self.rows if row.teaches]
        several = [(row.name, row.subject.capitalize(), row) for row in self.several]
        return [*teaching, *several, *((row.run.name, "Student", row) for row in self.rows if not row.teaches)]

    @property
    def kinds(self) -> list[tuple[str, list[AblationRow]]]:
        """The runs that differ in nothing but their seed and what they are called, together, with a name for them."""
        return _kinds(self.rows)

    @property
    def against(self) -> str:
        """What the others are compared with, in words: one run, or the baseline's runs; `test` says who with which."""
        seeds = [row.run.name for row in self.rows if row.is_baseline]
        return self.baseline if len(seeds) < 2 else kind_name(seeds)

    @property
    def reading(self) -> str:
        """How often the set was read, for the line under the table."""
        if self.test_set == DEVELOPMENT:
            return "it chose each run's checkpoint, so its rates flatter"
        return "read once"

    @property
    def seeds(self) -> str:
        """The seeds of the runs in words: ``seed 0``, or ``seeds 0, 1``."""
        found = sorted({row.run.seed for row in self.rows})
        return f"seed{'s' * (len(found) > 1)} {', '.join(map(str, found))}"


def ablation_table(
    store: Store, job_id: str, test_set: str | None = None, *, against: str | None = None
) -> AblationTable:
    """Compare the runs of a job; rows whose test set was not read yet are left open.

    Args:
        store: Where the job is.
        job_id: The job.
        test_set: Where they are compared; by default "test", or "development" for a job that leaves its test unread.
            On the development set, which chooses it, a run's row is its best checkpoint.
        against: Name or id of the run that the others are compared with; by default the first.

    Raises:
        NotFoundError: If there is no such job, or no such run in it.
        ConfigError: If the evaluations were not made alike, naming what differs.
    """
    if test_set is None:
        runs = store.runs(job_id=job_id)
        compared = [run for run in runs if run.group == runs[-1].group]
        test_set = "test" if all(run.config["evaluation"]["test"] for run in compared) else DEVELOPMENT
    table = _stated(store, _table(store, job_id, test_set, against))
    if test_set != "test":
        return table
    names = dict.fromkeys(record.test_set for record in store.evaluations(job_id=job_id))
    others = [name for name in names if name not in ("test", DEVELOPMENT)]
    return replace(table, extra={name: _stated(store, _table(store, job_id, name, against)) for name in others})


def _stated(store: Store, table: AblationTable) -> AblationTable:
    """Return a table that states a rate by the minute where nothing is said in its set."""
    records = {"the teacher": table.teacher, "the student before training": table.student_before}
    records |= {name: row.evaluation for name, _, row in table.compared}
    return replace(table, test=invented(store, records) or table.test)


def _table(store: Store, job_id: str, test_set: str, against: str | None) -> AblationTable:
    job = store.job(job_id)
    runs = store.runs(job_id=job_id)
    if not runs:
        raise NotFoundError(f"The job '{job_id}' has no runs.")
    last = runs[-1].group
    # Each group has test sets of its own; those that teach were read again, as teachers, on the last one's.
    records = [record for record in store.evaluations(job_id=job_id, test_set=test_set) if record.group == last]
    if test_set == DEVELOPMENT:
        # Read at several steps; the kept checkpoint has the fewest errors, the later one of two alike.
        records.sort(key=lambda record: (-record.wer, record.step or 0))
    found = {(record.subject, record.run_id, record.label): record for record in records}
    _require_alike(store, list(found.values()), runs)
    students = [run for run in runs if run.group == last]
    experts = [run for run in runs if run.group != last]
    chosen = _baseline(students, against)
    own = {run.id: found.get(("student", run.id, "")) for run in students}
    own |= {run.id: found.get(("teacher", None, run.name)) for run in experts}
    teachers = {label: record for (subject, _, label), record in found.items() if subject == "teacher"}
    ensembles = {label: record for (subject, _, label), record in found.items() if subject == "ensemble"}
    alone = len(runs[-1].config["teachers"]) == 1
    several: list[ReferenceRow] = []
    if not alone:
        named = {run.name for run in experts}
        several = [
            ReferenceRow(name=label, subject="teacher", evaluation=record)
            for label, record in teachers.items()
            if label not in named
        ]
        several += [
            ReferenceRow(name=f"ensemble, {label}", subject="ensemble", evaluation=record)
            for label, record in ensembles.items()
        ]
    rows = [AblationRow(run=run, evaluation=own[run.id], teaches=True) for run in experts]
    baselines = _baselines(students, chosen)
    rows += [AblationRow(run=run, evaluation=own[run.id], is_baseline=run.id in baselines) for run in students]
    rows = [
        replace(row, parameters=store.parameters(row.run.id), load=_load(store, row.run, row.evaluation))
        for row in rows
    ]
    utterances = len(store.utterance_results(next(iter(found.values())).id)) if found else 0
    everything = [*rows, *several]
    results = [None if row.evaluation is None else store.utterance_results(row.evaluation.id) for row in everything]
    compared, test = _compare(everything, results, baseline=len(experts) + chosen, size=utterances)
    return AblationTable(
        job=job,
        test_set=test_set,
        teacher=next(iter(teachers.values()), None) if alone else None,
        student_before=found.get(("student_before", None, "")),
        rows=tuple(row for row in compared if isinstance(row, AblationRow)),
        baseline=students[chosen].name,
        test=test,
        utterances=utterances,
        several=tuple(row for row in compared if isinstance(row, ReferenceRow)),
        over_seeds=_over_seeds(rows, results),
    )


def _baseline(students: Sequence[RunRecord], against: str | None) -> int:
    """Return the place of the run that the others are compared with."""
    if against is None:
        return 0
    for place, run in enumerate(students):
        if against in (run.id, run.name):
            return place
    names = ", ".join(f"'{run.name}'" for run in students)
    raise NotFoundError(f"There is no run {quoted(against)} to compare with. Choose one of {names}.")


def _baselines(students: Sequence[RunRecord], chosen: int) -> set[str]:
    """Return the ids of the baseline and, for every other seed, of the first run that has the baseline's settings."""
    baseline = students[chosen]
    found = {baseline.seed: baseline.id}
    for run in students:
        if but_for_seed(run.config) == but_for_seed(baseline.config):
            found.setdefault(run.seed, run.id)
    return set(found.values())


def _compare(
    rows: Sequence[AblationRow | ReferenceRow],
    results: Sequence[Sequence[UtteranceResult] | None],
    *,
    baseline: int,
    size: int,
) -> tuple[Sequence[AblationRow | ReferenceRow], str]:
    """Compare each row with the baseline; return them with their differences, and what the interval is."""
    places = [_partner(rows, results, place, baseline) for place in range(len(rows))]
    differences = [
        None if other is None else _difference(own, results[other]) for own, other in zip(results, places, strict=True)
    ]
    known = [difference for difference in differences if difference is not None]
    if not known:
        return rows, ""
    compared = [
        replace(row, against=_called(rows[place]), **fields) if fields and place is not None else row
        for row, place, fields in zip(rows, places, contrasts(differences), strict=True)
    ]
    sentence = (
        f"95 % interval of the difference from the baseline: paired bootstrap over {known[0].units} {known[0].unit}"
    )
    if sum(isinstance(row, AblationRow) and row.is_baseline for row in rows) > 1:
        sentence = f"Each run is compared with the baseline's of its own seed{_otherwise(rows, places)}. {sentence}"
    tested = sum(difference.p_value is not None for difference in known)
    if not tested:
        return compared, f"{sentence}. {size} utterances are too few to test."
    return compared, f"{sentence}. p-values are adjusted for {tested} comparisons (Holm)."


def _otherwise(rows: Sequence[AblationRow | ReferenceRow], places: Sequence[int | None]) -> str:
    """Name the runs that are compared with a baseline of another seed, as that of theirs was not read."""
    found = []
    for row, place in zip(rows, places, strict=True):
        other = None if place is None else rows[place]
        if isinstance(row, AblationRow) and isinstance(other, AblationRow) and row.run.seed != other.run.seed:
            found += [f"'{row.run.name}' with '{other.run.name}'"] if row.evaluation else []
    return f", but {', '.join(found)}" if found else ""


def _partner(
    rows: Sequence[AblationRow | ReferenceRow],
    results: Sequence[Sequence[UtteranceResult] | None],
    place: int,
    baseline: int,
) -> int | None:
    """Return the place of what a row is compared with; None where it is what others are compared with."""
    row = rows[place]
    if not isinstance(row, AblationRow):
        return baseline
    if row.is_baseline:
        return None
    own = (
        other
        for other, candidate in enumerate(rows)
        if isinstance(candidate, AblationRow) and candidate.is_baseline and candidate.run.seed == row.run.seed
    )
    return next((other for other in own if results[other] is not None), baseline)


def _difference(own: Sequence[UtteranceResult] | None, baseline: Sequence[UtteranceResult] | None) -> Difference | None:
    """Compare what two models made of the same utterances; None before both were read."""
    # An utterance whose reference is empty has no share in a rate of words.
    base = {result.utterance_id: result for result in baseline or () if result.words > 0}
    if own is None or not base:
        return None
    errors = {result.utterance_id: result.errors for result in own}
    return paired_bootstrap(
        [errors[utterance_id] for utterance_id in base],
        [result.errors for result in base.values()],
        [result.words for result in base.values()],
        clusters=[result.speaker for result in base.values()],
    )


def _called(row: AblationRow | ReferenceRow) -> str:
    return row.run.name if isinstance(row, AblationRow) else row.name


def _kinds(rows: Sequence[AblationRow]) -> list[tuple[str, list[AblationRow]]]:
    kinds: dict[str, list[AblationRow]] = {}
    for row in rows:
        kinds.setdefault(but_for_seed(row.run.config), []).append(row)
    return [(kind_name([row.run.name for row in alike]), alike) for alike in kinds.values()]


def _over_seeds(rows: Sequence[AblationRow], results: Sequence[Sequence[UtteranceResult] | None]) -> OverSeeds | None:
    """Put the runs that were read together by kind; of those with one seed the baseline counts, else the first."""
    heard = dict(zip((row.run.id for row in rows), results, strict=False))
    found: list[tuple[Kind, bool]] = []
    for name, alike in _kinds(rows):
        by_seed: dict[int, tuple[float, Sequence[UtteranceResult]]] = {}
        # Of two with one seed the baseline counts, as in the table of single runs.
        for row in sorted(alike, key=lambda row: not row.is_baseline):
            if row.evaluation is not None and (each := heard[row.run.id]) is not None:
                by_seed.setdefault(row.run.seed, (row.evaluation.wer, each))
        if by_seed:
            rates = {seed: rate for seed, (rate, _) in by_seed.items()}
            read = {seed: each for seed, (_, each) in by_seed.items()}
            found.append((Kind(name, rates, read), any(row.is_baseline for row in alike)))
    baseline = next((place for place, (_, is_baseline) in enumerate(found) if is_baseline), None)
    return over_seeds([kind for kind, _ in found], baseline)


def _load(store: Store, run: RunRecord, evaluation: EvaluationRecord | None) -> tuple[float, ...]:
    mixture = run.config["lora"].get("mixture")
    if mixture is None or evaluation is None:
        return ()
    # Ten experts or more are not in order by their names.
    names = [f"load/expert_{place}" for place in range(mixture["experts"])]
    found = {item.name: item.value for item in store.metrics(run.id, names) if item.step == evaluation.step}
    return tuple(found[name] for name in names if name in found)


def _require_alike(store: Store, records: list[EvaluationRecord], runs: list[RunRecord]) -> None:
    names: dict[str | None, str] = {run.id: run.name for run in runs}
    who = [names.get(record.run_id) or record.subject.replace("_", " ") for record in records]
    problems = measured_differently(
        list(zip(who, records, strict=True)), count=lambda each: len(store.utterance_results(each.id))
    )
    if problems:
        raise ConfigError("These evaluations cannot be compared. Run them again with the same settings:", problems)
