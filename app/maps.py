"""Maps of states as they were drawn, each read once as long as it is not drawn again."""

import plotly.graph_objects as go
import streamlit as st

from app import map_charts, map_tables, state
from core.runs import MapPoints, MapRecord, RunRecord, Studio

Place = tuple[int, int, int]
"""Student layer, teacher layer and step of a map."""


@st.cache_data(max_entries=64, show_spinner=False)
def _points(_studio: Studio, folder: str, _record: MapRecord, path: str, made: float, place: Place) -> MapPoints:
    return _studio.map_points(_record, place)


def points(record: MapRecord, place: Place) -> MapPoints:
    """Return a map's points."""
    return _points(state.studio(), str(state.studio().runs_folder), record, record.path, _made(record), place)


@st.cache_data(max_entries=64, show_spinner=False)
def _places(_studio: Studio, folder: str, _record: MapRecord, path: str, made: float) -> list[Place]:
    return _studio.map_places(_record)


def places(record: MapRecord) -> list[Place]:
    """Return of which layers and steps a map has pictures."""
    return _places(state.studio(), str(state.studio().runs_folder), record, record.path, _made(record))


def _made(record: MapRecord) -> float:
    made = state.studio().map_made_at(record)
    return made.timestamp() if made else 0.0


@st.cache_data(max_entries=32, show_spinner=False)
def _labels(folder: str, path: str, made: float, level: str, _shown: MapPoints, _run: RunRecord) -> list[str]:
    return map_tables.labels(_shown, state.studio().probe(_run.job_id, _run.group), level)


def labels(record: MapRecord, shown: MapPoints, run: RunRecord) -> list[str]:
    """Return the names of a map's points."""
    return _labels(str(state.studio().runs_folder), record.path, _made(record), record.level, shown, run)


@st.cache_resource(max_entries=32, show_spinner=False)
def _figure(folder: str, path: str, made: float, place: Place, _record: MapRecord, _run: RunRecord) -> go.Figure:
    shown = points(_record, place)
    return map_charts.alignment_map(
        student=shown.student,
        teacher=shown.teacher,
        apart=shown.angle,
        labels=labels(_record, shown, _run),
        extent=shown.extent,
        what="utterance" if _record.level == "utterances" else "point",
    )


def figure(record: MapRecord, place: Place, run: RunRecord) -> go.Figure:
    """Return a map's figure, the same to the byte at every rerun, so that zoom survives a choice in the table."""
    return _figure(str(state.studio().runs_folder), record.path, _made(record), place, record, run)
