"""The ablation table: what the page, the terminal and the JSON show, made in one place so that they agree."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from core.comparison import measured_differently
from core.errors import ConfigError, NotFoundError, quoted
from core.significance import Difference, holm, paired_bootstrap
from core.store import EvaluationRecord, JobRecord, ParameterCounts, RunRecord, Store
from core.store.records import Subject

DEVELOPMENT = "development"
"""Name of the set that chooses checkpoints and settings."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A model beside the baseline.

    Attributes:
        evaluation: On the table's test set, or None before it was read.
        difference: WER minus the baseline's, a fraction; negative is better. None for the baseline itself.
        interval: 95 % interval of the difference.
        p_value: Adjusted for the number of rows (Holm); None where there are too few utterances to test.
    """

    evaluation: EvaluationRecord | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance at the 5 % level, all rows considered."""
        return self.p_value is not None and self.p_value < 0.05


@dataclass(frozen=True, kw_only=True)
class AblationRow(Compared):
    """A run of the job.

    Attributes:
        parameters: None before they are known.
        teaches: Whether it is there for later runs to learn from; it was read as their teacher.
        is_baseline: Whether the others are compared with it.
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
        baseline: Name of the run that the others are compared with.
        test: What the interval is and whether it is a test, a sentence; empty when nothing is compared yet.
        utterances: Size of the test set.
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
    extra: dict[str, "AblationTable"] = field(default_factory=dict)

    @property
    def compared(self) -> list[tuple[str, str, Compared]]:
        """Every model beside the baseline, in the order of the table: what it is called, its role, and its numbers."""
        teaching = [(row.run.name, "Teacher", row) for row in self.rows if row.teaches]
        several = [(row.name, row.subject.capitalize(), row) for row in self.several]
        return [*teaching, *several, *((row.run.name, "Student", row) for row in self.rows if not row.teaches)]

    @property
    def reading(self) -> str:
        """How often the set was read, for the line under the table."""
        if self.test_set == DEVELOPMENT:
            return "it chose each run's checkpoint, so its rates flatter"
        return "read once"


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
    table = _table(store, job_id, test_set, against)
    if test_set != "test":
        return table
    names = dict.fromkeys(record.test_set for record in store.evaluations(job_id=job_id))
    extra = {name: _table(store, job_id, name, against) for name in names if name not in ("test", DEVELOPMENT)}
    return replace(table, extra=extra)


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
    _require_alike(list(found.values()), runs)
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
    rows += [
        AblationRow(run=run, evaluation=own[run.id], is_baseline=place == chosen) for place, run in enumerate(students)
    ]
    rows = [
        replace(row, parameters=store.parameters(row.run.id), load=_load(store, row.run, row.evaluation))
        for row in rows
    ]
    utterances = len(store.utterance_results(next(iter(found.values())).id)) if found else 0
    compared, test = _compare(store, [*rows, *several], baseline=len(experts) + chosen, size=utterances)
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


def _compare(
    store: Store, rows: Sequence[AblationRow | ReferenceRow], *, baseline: int, size: int
) -> tuple[Sequence[AblationRow | ReferenceRow], str]:
    """Compare each row with the baseline; return them with their differences, and what the interval is."""
    results = [None if row.evaluation is None else store.utterance_results(row.evaluation.id) for row in rows]
    # An utterance whose reference is empty has no share in a rate of words.
    base = {result.utterance_id: result for result in results[baseline] or () if result.words > 0}
    if not base:
        return rows, ""
    differences: list[Difference | None] = [None] * len(rows)
    for index, own in enumerate(results):
        if own is not None and index != baseline:
            errors = {result.utterance_id: result.errors for result in own}
            differences[index] = paired_bootstrap(
                [errors[utterance_id] for utterance_id in base],
                [result.errors for result in base.values()],
                [result.words for result in base.values()],
                clusters=[result.speaker for result in base.values()],
            )
    known = [difference for difference in differences if difference is not None]
    if not known:
        return rows, ""
    p_values = holm([None if difference is None else difference.p_value for difference in differences])
    compared = [
        row
        if difference is None
        else replace(row, difference=difference.difference, interval=(difference.low, difference.high), p_value=p_value)
        for row, difference, p_value in zip(rows, differences, p_values, strict=True)
    ]
    sentence = (
        f"95 % interval of the difference from the baseline: paired bootstrap over {known[0].units} {known[0].unit}"
    )
    tested = sum(difference.p_value is not None for difference in known)
    if not tested:
        return compared, f"{sentence}. {size} utterances are too few to test."
    return compared, f"{sentence}. p-values are adjusted for {tested} comparisons (Holm)."


def _load(store: Store, run: RunRecord, evaluation: EvaluationRecord | None) -> tuple[float, ...]:
    mixture = run.config["lora"].get("mixture")
    if mixture is None or evaluation is None:
        return ()
    # Ten experts or more are not in order by their names.
    names = [f"load/expert_{place}" for place in range(mixture["experts"])]
    found = {item.name: item.value for item in store.metrics(run.id, names) if item.step == evaluation.step}
    return tuple(found[name] for name in names if name in found)


def _require_alike(records: list[EvaluationRecord], runs: list[RunRecord]) -> None:
    names: dict[str | None, str] = {run.id: run.name for run in runs}
    who = [names.get(record.run_id) or record.subject.replace("_", " ") for record in records]
    problems = measured_differently(list(zip(who, records, strict=True)))
    if problems:
        raise ConfigError("These evaluations cannot be compared. Run them again with the same settings:", problems)
