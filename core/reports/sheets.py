"""An ablation table as titles, columns and cells: what terminal, Markdown, LaTeX and the frozen page all show."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from core.over_seeds import OverSeeds
from core.reports.columns import Column, Key, Line, columns, difference, evaluations, fixed, lines
from core.runs import AblationRow, AblationTable, Compared, ParameterCounts
from core.test_sets import DEVELOPMENT, TEST

LOAD = (
    "Load: share of the development set's points that each expert has; each module's experts are put in order before "
    "the mean over the modules is taken."
)

ABOUT: dict[Key, str] = {
    "kl": "KL: divergence from the teacher on reference tokens, in nats per token.",
    "layers": "Layers: encoder + decoder.",
    "memory": "MB: weights that recognising needs, all models together.",
    "real_time_factor": "RTF: time of the whole encoder and of decoding over audio time, as the machine was then.",
    "trainable": "Trainable: adapters and projections, and their share of the teacher's parameters.",
}
"""What columns are that do not say it themselves."""

VERDICT = "verdict"
"""Column of words, in which names of runs stand, too."""


@dataclass(frozen=True)
class Sheet:
    """A table whose cells are texts.

    Attributes:
        columns: The first one is of names, the others of numbers.
        rows: As many cells as there are columns.
        notes: Sentences that belong under it.
        fixed: How many rows at the top are no runs.
        groups: What stands above each column, the same over neighbours that belong together; empty without any.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    fixed: int = 0
    groups: tuple[str, ...] = ()

    @property
    def spans(self) -> list[tuple[str, int]]:
        """The groups with the number of neighbours below each."""
        return [(group, len(list(same))) for group, same in groupby(self.groups)]


def sheets(table: AblationTable) -> list[Sheet]:
    """Return the table of a job with all its test sets, kinds over seeds, mixtures, and details of each test set."""
    several = len(table.sets) > 1
    found = [_main(table)]
    for name, each in table.sets.items():
        if each.over_seeds:
            found.append(_seeds(each.over_seeds, f"Over seeds: {name}" if several else "Over seeds"))
    experts = mixtures(table)
    found += [experts] if experts else []
    return found + ([details(name, each) for name, each in table.sets.items()] if several else [])


def details(name: str, table: AblationTable) -> Sheet:
    """Return what was read on one test set: kinds of errors, divergence, and the verdicts in words.

    Args:
        name: What the test set is called.
        table: The runs on it.
    """
    read = [line for line in lines(table) if line.own.evaluation]
    shown = [Column("wer"), Column("substitutions"), Column("deletions"), Column("insertions")]
    shown += [Column("kl")] if any(line.value(Column("kl")) is not None for line in read) else []
    words = read[0].own.evaluation.words if read and read[0].own.evaluation else 0
    rows = tuple((line.name, *(cell(line, column) for column in shown), verdict(line.own)) for line in read)
    title = f"{name}: {table.utterances} utterances, {words:,} words"
    # Names and verdicts are what is read: one after the other.
    place = sum(line.subject != "student" for line in read)
    return Sheet(title, ("Run", *(column.title for column in shown), VERDICT), rows, (), place)


def verdict(row: Compared) -> str:
    """Return in words whether a model differs from the baseline by more than chance."""
    if not isinstance(row, AblationRow):
        return "" if row.difference is None else row.verdict
    waits = row.evaluation is None and row.run.state != "finished"
    if row.is_baseline or (row.difference is None and waits):
        return difference(row)
    return row.verdict


def notes(table: AblationTable) -> list[str]:
    """Return what a reader has to know about the numbers."""
    known = [row.evaluation for row in table.rows if row.evaluation] or [table.teacher] * bool(table.teacher)
    if not known or known[-1] is None:
        return ["Nothing was evaluated yet."]
    first = known[-1]
    lines = [_read(name, each) for name, each in table.sets.items()]
    lines.append(
        f"{table.seeds.capitalize()}, one run a row; {first.audio_context:g} s of audio context; normaliser "
        f"{first.normaliser}; {first.decoding}."
    )
    if any(row.significant for each in table.sets.values() for _, _, row in each.compared):
        lines.append(
            f"* p < 0.05: better or worse than '{table.against}' (single runs), whatever other seeds would give. "
            "Without *: not significant."
        )
    told = [said for key, said in ABOUT.items() if any(column.key == key for column in columns(table))]
    on = [f"KL and RTF are on {table.called}."] if len(table.sets) > 1 else []
    lines.append(" ".join([*told, *on]))
    kept = sorted({item.heldout_kl_tokens for item in evaluations(table) if item.heldout_kl_tokens})
    if kept:
        lines.append(
            f"top {', '.join(map(str, kept))}: of so many of the teacher's likeliest tokens and one class for all "
            "others, which is less than the KL of all tokens and not to be compared with it."
        )
    if table.several:
        lines.append("Rows that teach were read as teachers.")
    return lines


def _read(name: str, table: AblationTable) -> str:
    """Return what a test set is, how often it was read, and which test its differences had."""
    item = next(iter(evaluations(table)), None)
    size = [f"{table.utterances} utterances"] * bool(table.utterances)
    size += [f"{item.words:,} words"] if item else []
    own = table.test_set in (TEST, DEVELOPMENT)
    speech = _speech(table.rows[-1].run.config["source"], table.test_set) if own else ""
    said = f"{_capital(name)}: {', '.join([*size, *([speech] if speech else [])])}; {table.reading}."
    return f"{said} {table.test}" if table.test else said


def _speech(source: dict[str, Any], test_set: str) -> str:
    """Return what the speech of a source's own sets is."""
    if source["kind"] == "generated":
        # Runs of the first version had one kind of noise and did not say which.
        noises = " or ".join(source.get("noises", ["coloured"]))
        return f"generated speech with {noises} noise at {source['signal_to_noise']:g} dB"
    if source["kind"] == "voices":
        said = "speech generated by four Kokoro voices that training does not hear"
        return f"{said}, every second clip in recording conditions" if test_set == DEVELOPMENT else said
    return "speech from a manifest" if source["kind"] == "manifest" else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def duration(seconds: float) -> str:
    """Return a length of time in the two largest units that it has."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def cell(line: Line, column: Column) -> str:
    """Return what stands in a column of a row, as text; empty where nothing is known."""
    value = line.value(column)
    if value is None:
        return ""
    if isinstance(value, ParameterCounts):
        return f"{value.trainable:,} ({100 * value.share_of_teacher:.2f} %)"
    if column.key == "kl_tokens":
        return value if isinstance(value, str) else f"top {value}"
    if column.key == "training":
        return duration(value)
    return f"{value:{FORMATS[column.key]}}" if column.key in FORMATS else str(value)


FORMATS: dict[str, str] = {
    "wer": ".1f",
    "kl": ".3f",
    "parameters": ".1f",
    "memory": ",.0f",
    "real_time_factor": ".3f",
    "time_of_teacher": ".2f",
    "step": ".3f",
}
"""How numbers are written as text."""


def _main(table: AblationTable) -> Sheet:
    shown, read = columns(table), lines(table)
    rows = tuple((line.name, *(cell(line, column) for column in shown)) for line in read)
    groups = ("", *(column.test_set for column in shown)) if len(table.sets) > 1 else ()
    title = f"{table.job.name}: word error rates{' on each test set' if groups else f', {table.called}'}"
    return Sheet(title, ("Run", *(each.title for each in shown)), rows, tuple(notes(table)), fixed(table), groups)


def _seeds(found: OverSeeds, title: str) -> Sheet:
    counted = ("Run", "seeds", "mean WER %", "SD", "range")
    columns = (*counted, "difference [95 %]", "SD of difference", "seeds better", VERDICT)
    rows = [
        (
            row.name,
            str(len(row.rates)),
            f"{100 * row.mean:.1f}",
            _points(row.spread),
            f"{100 * min(row.rates.values()):.1f} to {100 * max(row.rates.values()):.1f}",
            difference(row),
            _points(row.difference_spread),
            "" if row.is_baseline else f"{row.better} of {len(row.differences)}",
            row.verdict,
        )
        for row in found.rows
    ]
    return Sheet(title, columns, tuple(rows), (found.test,))


def _points(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f}"


def mixtures(table: AblationTable) -> Sheet | None:
    """Return what mixtures of experts store, and where their points go; None where no run has experts."""
    if not any(row.load for row in table.rows):
        return None
    rows = []
    for row in table.rows:
        counts = row.parameters
        if counts is not None:
            active = "" if counts.student_active is None else f"{counts.student_active:,}"
            load = " ".join(f"{share:.2f}" for share in row.load)
            rows.append((row.run.name, f"{counts.student:,}", active, load))
    title = "Parameters that the student stores, and that a frame or token goes through"
    return Sheet(title, ("Run", "stored", "active", "load per expert, busiest first"), tuple(rows), (LOAD,))
