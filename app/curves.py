"""Curves of a run: every term of its objective, and what is measured beside them, by step."""

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import charts, state, terms, text
from core.reports.colours import run_colour
from core.runs import RunRecord


def show(run: RunRecord) -> None:
    """Show what changed by step; live while the run trains."""
    if not run.active:
        _draw(run)
        return

    def part() -> bool:
        _draw(state.studio().store.run(run.id))
        return False

    state.live(part)


def _draw(run: RunRecord) -> None:
    frame = state.curves(run)
    if not frame["name"].str.startswith("loss/").any():
        sentence = "Curves appear with the first step." if run.active else "This run ended before its first step."
        st.info(sentence, icon=":material/show_chart:")
        return
    st.caption("By training step; one step is one batch.")
    losses = {loss["kind"]: loss for loss in run.config["method"]["losses"]}
    if (run.config["lora"].get("mixture") or {}).get("balance"):
        losses["balance"] = {}  # the term of the adapters, beside those of the method
    own = run_colour(run.position)
    palette = {text.words(kind): colour for kind, colour in charts.colours(list(losses), run=own).items()}
    # While it trains the axis is as long as the run will be: it stands still, and shows how far the run is.
    last_step = run.steps if run.active else max(map(int, frame["step"]))
    places: list[DeltaGenerator] = []

    def place() -> DeltaGenerator:
        if not places:
            places.extend(st.columns(3))
        return places.pop(0).container(border=True, height="stretch")

    for kind in ("total", *losses):
        part = frame.loc[frame["name"] == f"loss/{kind}"]
        when = terms.stage(losses[kind], run.steps) if kind in losses else ""
        name = text.words(kind)
        with place():
            _heading(f"Loss: {name}", terms.UNITS.get(kind, ""), when)
            if part.empty:
                _nothing("Not counted so far.")
                continue
            colour = palette.get(name, own)
            _curve(
                part, f"loss/{kind}", f"Loss: {name}", key=f"loss/{kind}:{run.id}", colour=colour, last_step=last_step
            )
    shares = frame.loc[frame["name"].str.startswith("share/")]
    if shares["name"].nunique() > 1:
        with place():
            _heading("Share of each term")
            _shares(shares, list(losses), palette, last_step, key=f"share/:{run.id}")
    # What is read between steps has its place before it is there: the charts after it stay where they are.
    read_later = {"development/wer", *(["load/"] if run.config["lora"].get("mixture") else [])} if run.active else ()
    for group, title, unit in (
        ("development/wer", "Word error rate, development set", "%"),
        ("load/", "Load per expert, development set", "share of the points, busiest first"),
        ("gradient_norm/", "Gradient norm before clipping", ""),
        ("learning_rate", "Learning rate", ""),
    ):
        part = frame.loc[frame["name"].str.startswith(group)]
        if part.empty and group not in read_later:
            continue
        with place():
            _heading(title, unit)
            if part.empty:
                _nothing("Not read so far.")
                continue
            _curve(part, group, title, key=f"{group}:{run.id}", colour=own, last_step=last_step)


def _nothing(sentence: str) -> None:
    """Say why there is no chart, in as much room as it will take, on a phone, too."""
    with st.container(border=False, height=charts.SMALL):
        st.caption(sentence)


def _heading(title: str, *about: str) -> None:
    st.markdown(" · ".join([f"**{title}**", *(text.plain(part) for part in about if part)]))


def _shares(frame: pd.DataFrame, kinds: list[str], palette: dict[str, str], last_step: int, *, key: str) -> None:
    """Show what each term has of the objective, in the order and the colours of the objective."""
    frame = frame.assign(kind=frame["name"].str.removeprefix("share/"))
    # A stable sort: steps stay in order within a term.
    frame = frame.sort_values("kind", key=lambda names: names.map(kinds.index), kind="stable")
    frame = frame.assign(series=frame["kind"].map(text.words))
    last = frame.groupby("series", sort=False)["value"].last()
    about = f"Share of each term by step. Last: {', '.join(f'{name} {value:.4g}' for name, value in last.items())}."
    st.altair_chart(charts.shares(frame, description=about, palette=palette, last_step=last_step), key=key)


def _curve(frame: pd.DataFrame, group: str, title: str, *, key: str, last_step: int, colour: str) -> None:
    if group == "development/wer":
        frame = frame.assign(value=100 * frame["value"])
    names = frame["name"].str.removeprefix(group)
    frame = frame.assign(series=names.map(text.words).where(names != "", title))
    last = frame.groupby("series", sort=False)["value"].last()
    ends = [f"{name} {value:.4g}" if len(last) > 1 else f"{value:.4g}" for name, value in last.items()]
    about = f"{title} by step. Last: {', '.join(ends)}."
    markers = group in ("development/wer", "load/")
    chart = charts.curve(frame, description=about, markers=markers, colour=colour, last_step=last_step)
    st.altair_chart(chart, key=key)
