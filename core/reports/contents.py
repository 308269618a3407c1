"""What a frozen page shows of a job, gathered from the store and the folder of runs."""

import base64
import math
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from core.config import dump_text
from core.errors import DataError, StoreError
from core.paths import no_file
from core.reports import charts
from core.reports.columns import evaluations
from core.reports.sheets import Sheet, duration, sheets
from core.runs import (
    AblationRow,
    AblationTable,
    AlignmentRecord,
    Compared,
    EvaluationRecord,
    MapPoints,
    MapRecord,
    Studio,
    word_difference,
)
from core.store.places import portable

MOST_CLIPS = 20
MOST_CLIP_BYTES = 1_500_000
MEDIA = {".flac": "audio/flac", ".wav": "audio/wav", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
LIBRARIES = ("manifold-studio", "torch", "transformers", "peft", "umap-learn", "numpy")


@dataclass(frozen=True)
class Heard:
    """What one model heard: stretches of words, each "equal", "missed" or "heard instead"."""

    who: str
    words: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Clip:
    """An utterance of the test set; `audio` is a data URI."""

    name: str
    seconds: float
    audio: str
    said: str
    heard: tuple[Heard, ...]


@dataclass(frozen=True)
class Figure:
    """A chart with its heading and the sentence under it."""

    title: str
    chart: Markup
    caption: str


@dataclass(frozen=True)
class Contents:
    """Everything that the page shows.

    Attributes:
        facts: Name and value of what the results come from.
        settings: Name, hash and YAML of each run's settings.
        expected: What whoever started the job expected; empty where nothing was said.
        notes: Paragraphs by whoever froze it.
    """

    title: str
    subtitle: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Sheet, ...]
    figures: tuple[Figure, ...]
    parameters: Sheet | None
    clips: tuple[Clip, ...]
    clips_caption: str
    settings: tuple[tuple[str, str, str], ...]
    expected: str
    notes: tuple[str, ...]


def gather(studio: Studio, job_id: str, *, notes: str, clips: int, at: datetime) -> Contents:
    """Gather what is shown of a job.

    Args:
        studio: Where the job is.
        job_id: The job.
        notes: Text of whoever freezes it; empty lines part paragraphs.
        clips: How many utterances can be heard, at most MOST_CLIPS.
        at: The moment.
    """
    table = studio.ablation(job_id)
    heard, caption = _clips(studio, table, min(clips, MOST_CLIPS))
    runs = len(table.rows)
    settings = [portable(row.run.config, studio.runs_folder, mark="") for row in table.rows]
    return Contents(
        title=table.job.name,
        subtitle=f"{'One run' if runs == 1 else f'{runs} runs'}, frozen {_moment(at)}",
        facts=tuple(_facts(table, settings[-1], at)),
        tables=tuple(sheets(table)),
        figures=tuple(_figures(studio, table)),
        parameters=_parameters(table),
        clips=tuple(heard),
        clips_caption=caption,
        settings=tuple(
            (row.run.name, row.run.config_hash, dump_text(fields))
            for row, fields in zip(table.rows, settings, strict=True)
        ),
        expected=table.job.expectation,
        notes=tuple(part for part in (" ".join(text.split()) for text in notes.split("\n\n")) if part),
    )


def _facts(table: AblationTable, config: dict[str, Any], at: datetime) -> list[tuple[str, str]]:
    job = table.job
    what, seeds = table.seeds.split(" ", 1)
    facts = [
        ("Job", f"{job.name} ({job.id}), {job.state}"),
        ("Runs", ", ".join(f"{row.run.name} ({row.run.id}, {row.run.state})" for row in table.rows)),
        ("Begun", _moment(job.started_at)),
        ("Ended", _moment(job.ended_at)),
        ("Frozen", _moment(at)),
        *((f"Notes on {row.run.name}", row.run.notes) for row in table.rows),
        ("Teacher", ", ".join(str(_named(teacher)) for teacher in config.get("teachers", []))),
        ("Data", _described(config.get("source", {}))),
        (what.capitalize(), seeds),
        ("Settings", ", ".join(f"{row.run.name}: {row.run.config_hash}" for row in table.rows)),
    ]
    for name, each in table.sets.items():
        read = next(iter(evaluations(each)), None)
        facts += [(f"Test set: {name}", f"{each.utterances} utterances, hash {read.test_set_hash}")] if read else []
    facts.append(("Versions", ", ".join(f"{name} {found}" for name in LIBRARIES if (found := _version(name)))))
    return [(name, value) for name, value in facts if value]


def _named(teacher: Any) -> str:
    return str(teacher.get("model", teacher)) if isinstance(teacher, dict) else str(teacher)


def _described(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in fields.items() if value is not None)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _figures(studio: Studio, table: AblationTable) -> list[Figure]:
    name, charted = table.charted
    found = [
        _rates(name, charted),
        _differences(name, charted),
        _development(studio, table),
        *_alignment(studio, table),
    ]
    return [figure for figure in found if figure is not None]


def _rates(called: str, table: AblationTable) -> Figure | None:
    rows = [charts.Dot("Teacher", 100 * table.teacher.wer, kind="teacher")] if table.teacher else []
    rows += [
        charts.Dot(
            name, 100 * row.evaluation.wer, kind="student" if role == "Student" else "teacher", place=_place_in_job(row)
        )
        for name, role, row in table.compared
        if row.evaluation
    ]
    if not any(row.kind == "student" for row in rows) or not all(item.words for item in evaluations(table)):
        return None
    before = table.student_before
    outside = f" Outside the picture: the student before training, {100 * before.wer:.1f} %." if before else ""
    label = f"Word error rates in percent, {called}"
    told = f"Circle: {'teachers and ensembles' if table.several else 'teacher'}. Diamond: student.{outside}"
    return Figure(f"Word error rate, {called}", charts.dots(rows, label=label, unit="WER, %, lower is better"), told)


def _differences(called: str, table: AblationTable) -> Figure | None:
    rows = [
        charts.Dot(
            name,
            100 * row.difference,
            low=100 * row.interval[0],
            high=100 * row.interval[1],
            hollow=not row.significant,
            place=place,
        )
        for name, row, place in table.tested
        if row.difference is not None and row.interval is not None
    ]
    if not rows:
        return None
    label = f"Differences from {table.against} in points, {called}"
    chart = charts.dots(rows, label=label, unit="points of WER, negative is better", signed=True)
    caption = f"Bars: 95 % intervals. Filled: more than chance. Hollow: not significant. {table.test}"
    return Figure(f"Against {table.against}, {called}", chart, caption)


def _development(studio: Studio, table: AblationTable) -> Figure | None:
    series: dict[str, list[charts.Point]] = {}
    for row in table.rows:
        read = studio.store.evaluations(run_id=row.run.id, test_set="development")
        series[_distinct(row, table)] = sorted((float(each.step or 0), 100 * each.wer) for each in read)
    if not any(len(points) > 1 for points in series.values()):
        return None
    label, places = "Word error rate on the development set over the steps", _places(table)
    chart = charts.lines(series, label=label, unit="WER, %", places=places)
    return Figure("While it learned", chart, "The development set, which chooses each run's checkpoint.")


def _alignment(studio: Studio, table: AblationTable) -> list[Figure | None]:
    """Return how alike the layers became, and the map of the best run that has one."""
    records = {row.run.id: studio.store.alignments(row.run.id) for row in table.rows}
    places = [_place(record) for each in records.values() for record in each]
    if not places:
        return [_map(studio, table)]
    # The pair that most runs have; the encoder's before the decoder's, the upper layers before the lower.
    place = max(dict.fromkeys(places), key=lambda each: (places.count(each), each[0] == "encoder", each[1]))
    series = {
        _distinct(row, table): [(float(r.step), r.linear_cka) for r in records[row.run.id] if _place(r) == place]
        for row in table.rows
    }
    if not any(len(points) > 1 for points in series.values()):
        return [_map(studio, table)]
    label = (
        f"Debiased linear CKA of the {place[0]}'s student layer {place[1]} and teacher layer {place[2]} over the steps"
    )
    chart = charts.lines(series, label=label, unit="CKA", most=1.0, places=_places(table))
    return [Figure("How alike the states became", chart, f"{label}."), _map(studio, table)]


def _map(studio: Studio, table: AblationTable) -> Figure | None:
    ranked = sorted(
        (row for row in table.rows if row.evaluation and not row.teaches), key=lambda row: _wer(row.evaluation)
    )
    for row in ranked:
        maps = studio.store.maps(row.run.id)
        drawn = [record for record in maps if record.state == "finished" and not record.teacher_number]
        for record in sorted(drawn, key=_worth, reverse=True):
            try:
                # Of aligned maps the last step's, of the upper layers.
                there = studio.map_places(record)
                place = max(there, key=lambda each: (each[2], each[0]), default=None)
                points = studio.map_points(record, place)
            except StoreError:
                continue
            mine, theirs, step = place or (record.student_layer, record.teacher_layer, record.step)
            label = (
                f"Map of {row.run.name} at step {step}: {record.side} states of student layer {mine} and teacher "
                f"layer {theirs}"
            )
            chart, shown = charts.alignment_map(points.student, points.teacher, label=label)
            return Figure("Where the states lie", chart, f"{label}. {_map_caption(record, points, shown)}")
    return None


def _worth(record: MapRecord) -> tuple[bool, float, bool]:
    """Return what a map is chosen by: the encoder's, of the last step or of all, of points."""
    return record.side == "encoder", math.inf if record.step is None else record.step, record.level == "points"


def _map_caption(record: MapRecord, points: MapPoints, shown: int) -> str:
    # That of the picture; a record of several maps has their mean.
    trust = record.trustworthiness if points.trustworthiness is None else points.trustworthiness
    kept = "" if trust is None else f" Its trustworthiness is {trust:.2f}."
    return (
        f"UMAP of both sides together, in one space by {record.how}. Circle: teacher. Diamond: student; a line joins "
        f"the two states of a point. {shown:,} of {record.points_total:,} {record.level} shown, evenly spread.{kept}"
    )


def _place(record: AlignmentRecord) -> tuple[str, int, int]:
    return record.side, record.student_layer, record.teacher_layer


def _distinct(row: AblationRow, table: AblationTable) -> str:
    """Return a run's name, with its place where another run is called the same."""
    same = sum(other.run.name == row.run.name for other in table.rows)
    return row.run.name if same == 1 else f"{row.run.name} ({row.run.position + 1})"


def _place_in_job(row: Compared) -> int | None:
    return row.run.position if isinstance(row, AblationRow) else None


def _places(table: AblationTable) -> dict[str, int]:
    """Return the place of each run in the job, by what it is called in the charts."""
    return {_distinct(row, table): row.run.position for row in table.rows}


def _wer(record: EvaluationRecord | None) -> float:
    return float("inf") if record is None else record.wer


def _parameters(table: AblationTable) -> Sheet | None:
    rows = []
    for row in table.rows:
        counts = row.parameters
        if counts is not None:
            share = f"{100 * counts.share_of_teacher:.2f} %"
            numbers = (counts.teacher, counts.student, counts.adapters, counts.projections)
            memory = "" if row.run.peak_memory is None else f"{row.run.peak_memory / 1e9:.2f} GB"
            time = "" if row.run.seconds is None else duration(row.run.seconds)
            precision = row.run.precision or ""
            rows.append((row.run.name, *(f"{number:,}" for number in numbers), share, precision, memory, time))
    if not rows:
        return None
    counted = ("teacher", "student", "adapters", "projections", "trained share")
    columns = ("Run", *counted, "precision", "peak memory", "training")
    note = "Each storage counts once. Projections are trained and discarded; adapters are merged into the student."
    return Sheet("Parameters", columns, tuple(rows), (note,))


def _clips(studio: Studio, table: AblationTable, most: int) -> tuple[list[Clip], str]:
    """Return clips that are evenly spread over the test set, and a sentence that says which they are."""
    models = _models(table)
    if not models or not most:
        return [], ""
    texts = [(who, studio.store.utterance_results(record.id)) for who, record in models]
    heard = [(who, {result.utterance_id: result for result in results}) for who, results in texts]
    there = [result for result in texts[0][1] if _playable(studio.runs_folder / result.audio_path)]
    count = min(most, len(there))
    chosen = [there[round(place * (len(there) - 1) / max(1, count - 1))] for place in range(count)]
    clips = [
        Clip(
            name=result.utterance_id,
            seconds=result.duration,
            audio=_data_uri(studio.runs_folder / result.audio_path),
            said=result.reference,
            heard=tuple(
                Heard(who, _words(result.reference, own[result.utterance_id].hypothesis, models[0][1].normaliser))
                for who, own in heard
                if result.utterance_id in own
            ),
        )
        for result in chosen
    ]
    caption = f"{count} of {table.utterances} utterances of {table.called}, evenly spread, not chosen."
    return clips, caption if clips else ""


def _models(table: AblationTable) -> list[tuple[str, EvaluationRecord]]:
    """Return whose texts are shown: the teacher's, the baseline's, and the best run's."""
    found: list[tuple[str, EvaluationRecord]] = [("Teacher", table.teacher)] if table.teacher else []
    ensembles = [row for row in table.several if row.subject == "ensemble" and row.evaluation]
    strongest = min(ensembles, key=lambda row: _wer(row.evaluation), default=None)
    if strongest and strongest.evaluation:
        found.append((f"Teachers: {strongest.name}", strongest.evaluation))
    read = [row for row in table.rows if row.evaluation and not row.teaches]
    best = min(read, key=lambda row: _wer(row.evaluation), default=None)
    # Of a baseline with several seeds, the run that gave it its name.
    baseline = next((row for row in read if row.is_baseline and row.run.name == table.baseline), None)
    for row in read:
        if row.evaluation and (row is baseline or row is best):
            role = ", ".join(["baseline"] * (row is baseline) + ["best"] * (row is best))
            found.append((f"{row.run.name} ({role})", row.evaluation))
    return found


def _playable(path: Path) -> bool:
    return no_file(path, "clip") is None and path.suffix.lower() in MEDIA and path.stat().st_size <= MOST_CLIP_BYTES


def _data_uri(path: Path) -> str:
    return f"data:{MEDIA[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _words(reference: str, hypothesis: str, normaliser: str) -> tuple[tuple[str, str], ...]:
    try:
        changes = word_difference(reference, hypothesis, normaliser)
    except DataError:
        return (("equal", hypothesis),)
    pieces: list[tuple[str, str]] = []
    for operation, said, heard in changes:
        if operation == "equal":
            pieces.append(("equal", " ".join(heard)))
        else:
            pieces += [("missed", " ".join(said))] if said else []
            pieces += [("instead", " ".join(heard))] if heard else []
    return tuple(pieces)


def _moment(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
