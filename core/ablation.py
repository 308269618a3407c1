"""The ablation table: what the page, the terminal and the JSON show, made in one place so that they agree."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.ablation_rows import AblationRow, AblationTable, Compared, ReferenceRow, kinds_of
from core.comparison import measured_differently
from core.errors import ConfigError, NotFoundError, quoted
from core.over_seeds import Kind, KindRow, OverSeeds, but_for_seed, kind_rows, sentences
from core.silence import invented
from core.store import EvaluationRecord, RunRecord, Store, UtteranceResult
from core.test_sets import DEVELOPMENT, TEST, in_order
from core.verdicts import Family, Pair, family

__all__ = ["AblationRow", "AblationTable", "Compared", "ReferenceRow", "ablation_table"]


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
    runs = store.runs(job_id=job_id)
    if test_set is None:
        compared = [run for run in runs if run.group == runs[-1].group]
        test_set = TEST if all(run.config["evaluation"]["test"] for run in compared) else DEVELOPMENT
    names = dict.fromkeys([test_set])
    if test_set != DEVELOPMENT:
        # Whichever is asked for: all that can be read of a job are one family.
        names |= dict.fromkeys([TEST, *(record.test_set for record in store.evaluations(job_id=job_id))])
        names.pop(DEVELOPMENT, None)
    read = {name: _read(store, job_id, name, against) for name in names}
    first = read[test_set]
    chosen = against is not None and first.baseline is not first.planned
    found = family([(each.pairs, [pair for _, pair in each.kinds]) for each in read.values()], chosen=chosen)
    place, tables = 0, {}
    for name, each in read.items():
        size = len(each.pairs) + len(each.kinds)
        tables[name] = _stated(store, _judged(each, found, range(place, place + size)))
        place += size
    others = [name for name in in_order(tables, runs[-1].config) if name != TEST] if test_set == TEST else []
    return replace(tables[test_set], extra={name: tables[name] for name in others})


def _stated(store: Store, table: AblationTable) -> AblationTable:
    """Return a table that states a rate by the minute where nothing is said in its set."""
    records = {"the teacher": table.teacher, "the student before training": table.student_before}
    records |= {name: row.evaluation for name, _, row in table.compared}
    return replace(table, test=invented(store, records) or table.test)


@dataclass(frozen=True)
class _Read:
    """The runs of a job on one test set, before they are compared.

    Attributes:
        table: Rows as they were read.
        rows: All that is compared, in order.
        places: What each is compared with, by its place; None where nothing.
        pairs: What is to be tested of each row; None where there is nothing, or it is tested with its other seeds.
        kinds: Kinds of runs, and what is to be tested of them; none where no kind has several seeds.
        baseline: The run that the others are compared with.
        planned: The run that they are compared with when nobody chooses.
    """

    table: AblationTable
    rows: tuple[AblationRow | ReferenceRow, ...]
    places: tuple[int | None, ...]
    pairs: tuple[Pair | None, ...]
    kinds: tuple[tuple[KindRow, Pair | None], ...]
    baseline: RunRecord
    planned: RunRecord


def _read(store: Store, job_id: str, test_set: str, against: str | None) -> _Read:
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
    table = AblationTable(
        job=job,
        test_set=test_set,
        teacher=next(iter(teachers.values()), None) if alone else None,
        student_before=found.get(("student_before", None, "")),
        rows=tuple(rows),
        baseline=students[chosen].name,
        test="",
        utterances=utterances,
        several=tuple(several),
    )
    return _compared(store, table, baseline=len(experts) + chosen, students=students)


def _compared(store: Store, table: AblationTable, *, baseline: int, students: Sequence[RunRecord]) -> _Read:
    """Find what each row is compared with, and what is to be tested.

    Args:
        store: Where the results are.
        table: Rows as they were read.
        baseline: Place of the run that the others are compared with.
        students: The runs that are no teachers of others.
    """
    rows = (*table.rows, *table.several)
    results = [None if row.evaluation is None else store.utterance_results(row.evaluation.id) for row in rows]
    places = [_partner(rows, results, place, baseline) for place in range(len(rows))]
    kinds, together = _over_seeds(table.rows, results)
    pairs: list[Pair | None] = []
    for place, (own, other) in enumerate(zip(results, places, strict=True)):
        base = None if other is None else results[other]
        pair = Pair((own,), (base,)) if own is not None and base is not None else None
        if pair is None or not pair.comparable:
            places[place] = None
            pair = None
        pairs.append(pair)
    judged = [
        replace(row, over_seeds=True, difference=pair.differences()[0])
        if isinstance(row, AblationRow) and row.run.id in together and pair
        else row
        for row, pair in zip(rows, pairs, strict=True)
    ]
    return _Read(
        table,
        tuple(judged),
        tuple(places),
        tuple(None if row.over_seeds else pair for row, pair in zip(judged, pairs, strict=True)),
        tuple(kinds),
        table.rows[baseline].run,
        students[0],
    )


def _judged(read: _Read, found: Family, places: range) -> AblationTable:
    """Return the table of a test set with the verdicts of its rows and kinds."""
    of_rows, of_kinds = places[: len(read.rows)], places[len(read.rows) :]
    rows = [
        row if other is None else replace(row, against=_called(read.rows[other]), **found.fields[place])
        for row, other, place in zip(read.rows, read.places, of_rows, strict=True)
    ]
    kinds = tuple(replace(row, **found.fields[place]) for (row, _), place in zip(read.kinds, of_kinds, strict=True))
    test = found.sentences(of_rows, "from the baseline")
    if test and sum(isinstance(row, AblationRow) and row.is_baseline for row in rows) > 1:
        test = f"Each run is compared with the baseline's of its own seed{_otherwise(rows, read.places)}. {test}"
    if any(row.over_seeds for row in rows):
        test = " ".join(filter(None, [test, "Runs with other seeds are judged together: see over seeds."]))
    over_seeds = None
    if kinds:
        over_seeds = OverSeeds(kinds, sentences(kinds, found.sentences(of_kinds, "of the mean over seeds")))
    return replace(
        read.table,
        rows=tuple(row for row in rows if isinstance(row, AblationRow)),
        several=tuple(row for row in rows if isinstance(row, ReferenceRow)),
        test=test,
        over_seeds=over_seeds,
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


def _called(row: AblationRow | ReferenceRow) -> str:
    return row.run.name if isinstance(row, AblationRow) else row.name


def _over_seeds(
    rows: Sequence[AblationRow], results: Sequence[Sequence[UtteranceResult] | None]
) -> tuple[list[tuple[KindRow, Pair | None]], set[str]]:
    """Put the runs that were read together by kind; of two with one seed the baseline counts, else the first.

    Returns:
        The kinds with what is to be tested of them, none where all have one seed; and the runs that are tested so.
    """
    heard = dict(zip((row.run.id for row in rows), results, strict=False))
    found: list[tuple[Kind, list[AblationRow]]] = []
    for name, alike in kinds_of(rows):
        by_seed: dict[int, AblationRow] = {}
        # Of two with one seed the baseline counts, as in the table of single runs.
        for row in sorted(alike, key=lambda row: not row.is_baseline):
            if row.evaluation is not None and row.evaluation.words and heard[row.run.id] is not None:
                by_seed.setdefault(row.run.seed, row)
        if by_seed:
            rates = {seed: row.evaluation.wer for seed, row in by_seed.items() if row.evaluation}
            read = {seed: heard[row.run.id] or () for seed, row in by_seed.items()}
            found.append((Kind(name, rates, read), list(by_seed.values())))
    if max((len(kind.rates) for kind, _ in found), default=0) < 2:
        return [], set()
    baseline = next((place for place, (_, own) in enumerate(found) if any(row.is_baseline for row in own)), None)
    kinds = kind_rows([kind for kind, _ in found], baseline)
    tested = [own for (_, own), (_, pair) in zip(found, kinds, strict=True) if pair]
    return kinds, {row.run.id for own in tested for row in own}


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
