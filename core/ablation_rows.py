"""The rows of an ablation table, and the table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from core.over_seeds import OverSeeds, but_for_seed, kind_name
from core.significance import Contrast
from core.store import EvaluationRecord, JobRecord, ParameterCounts, RunRecord
from core.store.records import Subject
from core.test_sets import DEVELOPMENT, in_order, names


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

    @property
    def scope(self) -> str:
        """Than what it is better or worse; what other seeds would give, single runs do not know."""
        return f" than {self.against} (single runs)"


@dataclass(frozen=True, kw_only=True)
class ReferenceRow(Compared):
    """One of several teachers that is no run of the job, or all of them together.

    Attributes:
        name: What it is called.
        subject: "teacher" or "ensemble".
    """

    name: str
    subject: Subject

    @property
    def scope(self) -> str:
        """Than what it is better or worse; it was trained once, as the baseline was."""
        return f" than {self.against} (single models)"


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
        extra: The same table for every extra test set, by what its results are stored under; never pooled.
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
    def sets(self) -> dict[str, "AblationTable"]:
        """This table and those of the extra test sets by what the sets are called, real speech first; never pooled."""
        found, config = {self.test_set: self, **self.extra}, self.rows[-1].run.config
        called = names(found, config)
        return {called[name]: found[name] for name in in_order(found, config)}

    @property
    def called(self) -> str:
        """What its own test set is called."""
        return next(name for name, table in self.sets.items() if table is self)

    @property
    def charted(self) -> tuple[str, "AblationTable"]:
        """The test set that charts show, and what it is called: the first on which differences can be tested."""
        tested = ((name, table) for name, table in self.sets.items() if table.tested)
        return next(tested, (self.called, self))

    @property
    def compared(self) -> list[tuple[str, str, Compared]]:
        """Every model beside the baseline, in the order of the table: what it is called, its role, and its numbers."""
        teaching = [(row.run.name, "Teacher", row) for row in self.rows if row.teaches]
        several = [(row.name, row.subject.capitalize(), row) for row in self.several]
        return [*teaching, *several, *((row.run.name, "Student", row) for row in self.rows if not row.teaches)]

    @property
    def tested(self) -> list[tuple[str, Contrast, int | None]]:
        """All that has an interval: models, and kinds of runs that are judged over seeds.

        Each with what it is called, and the place in its job of the run, or of the kind's first; None for teachers.
        """
        first = {name: alike[0].run.position for name, alike in self.kinds}
        rows = [
            (name, row, row.run.position if isinstance(row, AblationRow) else None) for name, _, row in self.compared
        ]
        kinds = [(row.name, row, first[row.name]) for row in (self.over_seeds.rows if self.over_seeds else ())]
        return [each for each in (*rows, *kinds) if each[1].interval is not None]

    @property
    def kinds(self) -> list[tuple[str, list[AblationRow]]]:
        """The runs that differ in nothing but their seed and what they are called, together, with a name for them."""
        return kinds_of(self.rows)

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


def kinds_of(rows: Sequence[AblationRow]) -> list[tuple[str, list[AblationRow]]]:
    """Return runs that differ in nothing but their seed and what they are called, together, with a name for them."""
    kinds: dict[str, list[AblationRow]] = {}
    for row in rows:
        kinds.setdefault(but_for_seed(row.run.config), []).append(row)
    return [(kind_name([row.run.name for row in alike]), alike) for alike in kinds.values()]
