"""Which columns an ablation table has, and what stands in its rows: for pages, terminal and files alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from core.over_seeds import KindRow
from core.runs import AblationRow, AblationTable, Compared, EvaluationRecord

Key = Literal[
    "wer",
    "difference",
    "substitutions",
    "deletions",
    "insertions",
    "kl",
    "kl_tokens",
    "layers",
    "parameters",
    "memory",
    "real_time_factor",
    "time_of_teacher",
    "trainable",
    "step",
    "training",
]
OF_MODELS: tuple[Key, ...] = get_args(Key)[5:]
"""Those that are of a model, not of a test set; divergence and real-time factor are measured on the source's own."""

TITLES: dict[Key, str] = {
    "wer": "WER %",
    "difference": "difference [95 %]",
    "substitutions": "S",
    "deletions": "D",
    "insertions": "I",
    "kl": "KL",
    "kl_tokens": "KL of",
    "layers": "layers",
    "parameters": "parameters M",
    "memory": "MB",
    "real_time_factor": "RTF",
    "time_of_teacher": "RTF / teacher",
    "trainable": "trainable",
    "step": "step s",
    "training": "training",
}


@dataclass(frozen=True)
class Column:
    """One column beside the models.

    Attributes:
        key: What it shows.
        test_set: What the test set is called that it is of; empty where that is the table's own, or none.
    """

    key: Key
    test_set: str = ""

    @property
    def title(self) -> str:
        """What stands above it, without its test set."""
        return TITLES[self.key]


@dataclass(frozen=True)
class Line:
    """One model, on every test set.

    Attributes:
        name: What it is called.
        subject: "teacher", "ensemble", "student_before" or "student".
        own: Its numbers on the table's own test set.
        on: Its numbers by what the test sets are called.
        fields: What it is and costs, whatever it reads; None where not known.
    """

    name: str
    subject: str
    own: Compared
    on: Mapping[str, Compared]
    fields: Mapping[Key, Any]

    @property
    def run(self) -> AblationRow | None:
        """The run whose student it is; None of teachers, ensembles, and the student before training."""
        return self.own if isinstance(self.own, AblationRow) else None

    def at(self, column: Column) -> Compared:
        """Return its numbers on the test set of a column."""
        return self.on.get(column.test_set, Compared()) if column.test_set else self.own

    def value(self, column: Column) -> Any:
        """Return what stands in a column: rates in percent, parameters in millions, weights in megabytes.

        A difference is a text, as `difference` says it; None where there is nothing.
        """
        here = self.at(column)
        item = here.evaluation
        if column.key == "difference":
            return difference(here) or None
        if column.key == "wer":
            return 100 * item.wer if item and item.words else None
        if column.key in ("substitutions", "deletions", "insertions"):
            return getattr(item, column.key, None)
        return self.fields.get(column.key)


def columns(table: AblationTable) -> list[Column]:
    """Return the columns: rate and difference on each test set, real speech first, then what a model is and costs.

    The kinds of errors are beside the rate where there is one test set; of several each has them in its details. What
    is known of no model is left out.
    """
    sets = list(table.sets)
    found = [Column(key, name if len(sets) > 1 else "") for name in sets for key in ("wer", "difference")]
    if len(sets) == 1:
        found[1:1] = [Column("substitutions"), Column("deletions"), Column("insertions")]
    known = lines(table)
    kept = any(item.heldout_kl_tokens for item in evaluations(table))
    return [
        *found,
        *(
            Column(key)
            for key in OF_MODELS
            if any(line.fields.get(key) is not None for line in known) and (kept or key != "kl_tokens")
        ),
    ]


def lines(table: AblationTable) -> list[Line]:
    """Return the rows: the teacher, the student before training, other teachers and ensembles, the runs."""
    sets = table.sets
    found = []
    for subject, name in (("teacher", "teacher"), ("student_before", "student before training")):
        item: EvaluationRecord | None = getattr(table, subject)
        on = {called: Compared(evaluation=getattr(each, subject)) for called, each in sets.items()}
        if any(each.evaluation for each in on.values()):
            found.append(Line(name, subject, Compared(evaluation=item), on, _fields(table, item, subject)))
    for place, (name, role, own) in enumerate(table.compared):
        # Every test set has the runs in one order; an ensemble may not have read all of them.
        on = {called: _same(each, place, name) for called, each in sets.items()}
        found.append(Line(name, role.lower(), own, on, _fields(table, own.evaluation, role.lower(), own)))
    return found


def fixed(table: AblationTable) -> int:
    """Return how many rows at the top are no students that were trained."""
    return sum(line.subject != "student" for line in lines(table))


def difference(row: Compared | KindRow) -> str:
    """Return how far a model is from the baseline, in points, its interval, and * where it is more than chance.

    Where nothing is compared: that it is the baseline, or the state of a run that was not read.
    """
    if row.difference is None:
        said = ["baseline"] if isinstance(row, AblationRow | KindRow) and row.is_baseline else []
        if isinstance(row, AblationRow) and row.evaluation is None and row.run.state != "finished":
            said.append(row.run.state)
        return ", ".join(said)
    said = f"{100 * row.difference:+.1f}"
    if row.interval is None:
        return said
    low, high = row.interval
    return f"{said} [{100 * low:+.1f}, {100 * high:+.1f}]{' *' if row.significant else ''}"


def evaluations(table: AblationTable) -> list[EvaluationRecord]:
    """Return the evaluations of a table on its own test set, the teacher's first."""
    found = [table.teacher, table.student_before, *(row.evaluation for row in (*table.several, *table.rows))]
    return [item for item in found if item is not None]


def _same(table: AblationTable, place: int, name: str) -> Compared:
    there = table.compared
    if place < len(there) and there[place][0] == name:
        return there[place][2]
    return next((row for other, _, row in there if other == name), Compared())


def _fields(
    table: AblationTable, item: EvaluationRecord | None, subject: str, own: Compared | None = None
) -> dict[Key, Any]:
    """Return what a model is and costs."""
    row = own if isinstance(own, AblationRow) else None
    fields: dict[Key, Any] = {}
    if item is not None:
        teacher = table.teacher.real_time_factor if table.teacher else None
        layers = (item.encoder_layers, item.decoder_layers)
        fields |= {
            "kl": item.heldout_kl,
            "kl_tokens": None if item.heldout_kl is None else item.heldout_kl_tokens or "all",
            "layers": None if None in layers else f"{layers[0]} + {layers[1]}",
            "parameters": _parameters(table, subject, row),
            "memory": None if item.memory is None else item.memory / 1e6,
            "real_time_factor": item.real_time_factor,
            "time_of_teacher": item.real_time_factor / teacher if teacher and subject != "teacher" else None,
        }
    if row is not None:
        fields |= {"trainable": row.parameters, "step": row.run.step_seconds, "training": row.run.seconds}
    return fields


def _parameters(table: AblationTable, subject: str, row: AblationRow | None) -> float | None:
    """Return how many parameters a model has as it is deployed, in millions."""
    if row is not None:
        return row.parameters.student / 1e6 if row.parameters else None
    plain = [each for each in table.rows if each.parameters and not each.run.config["lora"].get("mixture")]
    if not plain or table.teacher is None or subject not in ("teacher", "student_before"):
        return None
    counts = plain[0].parameters
    assert counts is not None
    return (counts.teacher if subject == "teacher" else counts.student) / 1e6
