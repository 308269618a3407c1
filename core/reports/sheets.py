"""An ablation table as titles, columns and cells: what terminal, Markdown, LaTeX and the frozen page all show."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.over_seeds import KindRow, OverSeeds
from core.runs import AblationRow, AblationTable, Compared, EvaluationRecord, ParameterCounts

LOAD = (
    "Load: share of the development set's points that each expert has; each module's experts are put in order before "
    "the mean over the modules is taken."
)


@dataclass(frozen=True)
class Sheet:
    """A table whose cells are texts.

    Attributes:
        columns: The first one is of names, the others of numbers.
        rows: As many cells as there are columns.
        notes: Sentences that belong under it.
        fixed: How many rows at the top are no runs.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    fixed: int = 0


def sheets(table: AblationTable) -> list[Sheet]:
    """Return the table of a job, its kinds over seeds, what its mixtures have, and a table for every extra test set."""
    found = [_sheet(table, f"{table.job.name}: word error rate on the {table.test_set} set", notes(table))]
    found += [_seeds(table.over_seeds)] if table.over_seeds else []
    found += [_mixtures(table)] if any(row.load for row in table.rows) else []
    for name, extra in table.extra.items():
        title = f"{name}: {extra.utterances} utterances, on their own"
        found.append(_sheet(extra, title, [extra.test] if extra.test else []))
        found += [_seeds(extra.over_seeds, f"{name}, over seeds")] if extra.over_seeds else []
    return found


def notes(table: AblationTable) -> list[str]:
    """Return what a reader has to know about the numbers."""
    known = [row.evaluation for row in table.rows if row.evaluation] or [table.teacher] * bool(table.teacher)
    if not known or known[-1] is None:
        return ["Nothing was evaluated yet."]
    first, config = known[-1], table.rows[-1].run.config
    source = config["source"]
    speech = "speech from a manifest"
    if source["kind"] == "generated":
        # Runs of the first version had one kind of noise and did not say which.
        noises = " or ".join(source.get("noises", ["coloured"]))
        speech = f"generated speech with {noises} noise at {source['signal_to_noise']:g} dB"
    size = f"{table.utterances} utterances, " if table.utterances else ""
    lines = [
        f"{table.test_set.capitalize()} set: {size}{first.words} words, {speech}; {table.reading}. "
        f"{table.seeds.capitalize()}.",
        f"{first.audio_context:g} s of audio context; normaliser {first.normaliser}; {first.decoding}.",
        "KL: divergence from the teacher on reference tokens, in nats per token. RTF: time of the whole encoder and of "
        "decoding over audio time.",
    ]
    kept = sorted({item.heldout_kl_tokens for item in evaluations(table) if item.heldout_kl_tokens})
    if kept:
        lines.append(
            f"top {', '.join(map(str, kept))}: of so many of the teacher's likeliest tokens and one class for all "
            "others, which is less than the KL of all tokens and not to be compared with it."
        )
    if table.several:
        lines.append("Rows that teach were read as teachers. MB: weights that recognising needs, all models together.")
    if table.test:
        lines.append(table.test)
        if any(row.significant for _, _, row in table.compared):
            lines.append(f"* p < 0.05 against '{table.against}': of these two runs, whatever other seeds would give.")
    return lines


def duration(seconds: float) -> str:
    """Return a length of time in the two largest units that it has."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"


def difference(row: Compared | KindRow) -> str:
    """Return how far a model is from the baseline, in points, its interval, and * where it is more than chance."""
    if row.difference is None:
        return "baseline" if isinstance(row, AblationRow | KindRow) and row.is_baseline else ""
    said = f"{100 * row.difference:+.1f}"
    if row.interval is None:
        return said
    low, high = row.interval
    return f"{said} [{100 * low:+.1f}, {100 * high:+.1f}]{' *' if row.significant else ''}"


def _sheet(table: AblationTable, title: str, said: Sequence[str]) -> Sheet:
    context = next((item.audio_context for item in evaluations(table)), 30.0)
    counted = (f"WER % ({context:g} s)", "S", "D", "I")
    memory = ("MB",) if table.several else ()
    columns = ("Run", *counted, "difference [95 %]", "KL", "RTF", *memory, "trainable", "step s", "training")
    subjects = (("teacher", table.teacher), ("student before", table.student_before))
    references = [(name, Compared(evaluation=item)) for name, item in subjects if item]
    taught = [_run(row, len(columns), memory=bool(memory)) for row in table.rows if not row.teaches]
    teaching = [_run(row, len(columns), memory=bool(memory)) for row in table.rows if row.teaches]
    several = [(row.name, row) for row in table.several if row.evaluation is not None]
    fixed = [
        *(_reference(*each, memory=bool(memory)) for each in references),
        *teaching,
        *(_reference(*each, memory=bool(memory)) for each in several),
    ]
    return Sheet(title, columns, (*fixed, *taught), tuple(said), len(fixed))


def _reference(name: str, row: Compared, *, memory: bool) -> tuple[str, ...]:
    """Return the cells of what is no run: nothing of it was trained."""
    item = row.evaluation
    assert item is not None
    return (name, *_counts(item), difference(row), *_costs(item, memory=memory), "", "", "")


def _run(row: AblationRow, width: int, *, memory: bool) -> tuple[str, ...]:
    item, run = row.evaluation, row.run
    if item is None:
        return (run.name, run.state, *[""] * (width - 2))
    cells = (*_counts(item), difference(row), *_costs(item, memory=memory), _trainable(row.parameters))
    step = "" if run.step_seconds is None else f"{run.step_seconds:.3f}"
    return (run.name, *cells, step, "" if run.seconds is None else duration(run.seconds))


def _costs(item: EvaluationRecord, *, memory: bool) -> tuple[str, ...]:
    """Return the divergence, the real-time factor and, where it is a column, the megabytes of weights."""
    size = "" if item.memory is None else f"{item.memory / 1e6:,.0f}"
    return (_divergence(item), f"{item.real_time_factor:.3f}", *([size] if memory else []))


def _seeds(found: OverSeeds, title: str = "Over seeds") -> Sheet:
    counted = ("Run", "seeds", "mean WER %", "SD", "range")
    columns = (*counted, "difference [95 %]", "SD of difference", "seeds better", "verdict")
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


def _mixtures(table: AblationTable) -> Sheet:
    rows = []
    for row in table.rows:
        counts = row.parameters
        if counts is not None:
            active = "" if counts.student_active is None else f"{counts.student_active:,}"
            load = " ".join(f"{share:.2f}" for share in row.load)
            rows.append((row.run.name, f"{counts.student:,}", active, load))
    title = "Parameters that the student stores, and that a frame or token goes through"
    return Sheet(title, ("Run", "stored", "active", "load per expert, busiest first"), tuple(rows), (LOAD,))


def evaluations(table: AblationTable) -> list[EvaluationRecord]:
    """Return the evaluations of a table, the teacher's first."""
    found = [table.teacher, table.student_before, *(row.evaluation for row in (*table.several, *table.rows))]
    return [item for item in found if item is not None]


def _counts(item: EvaluationRecord) -> tuple[str, ...]:
    return (
        f"{100 * item.wer:.1f}" if item.words else "",
        str(item.substitutions),
        str(item.deletions),
        str(item.insertions),
    )


def _divergence(item: EvaluationRecord) -> str:
    kept = f" (top {item.heldout_kl_tokens})" if item.heldout_kl_tokens else ""
    return "" if item.heldout_kl is None else f"{item.heldout_kl:.3f}{kept}"


def _trainable(counts: ParameterCounts | None) -> str:
    return "" if counts is None else f"{counts.trainable:,} ({100 * counts.share_of_teacher:.2f} %)"
