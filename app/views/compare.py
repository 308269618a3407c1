"""Compare: up to fifty runs side by side, differences only."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from app import charts, parts, state, tables, text
from core.errors import NotFoundError
from core.reports.colours import run_colours
from core.reports.csv_file import comparison_csv
from core.runs import Comparison, RunSummary

USUAL, TOTAL = "development/wer", "loss/total"
"""The curve that is drawn when nobody chose any, and the one that means something else in every objective."""
HEIGHT = 300
SHORT = {"development": "dev."}


def show() -> None:
    studio = state.studio()
    studio.refresh()
    st.title("Compare")
    known = {run.id: run for run in studio.store.summaries()}
    asked = list(dict.fromkeys(filter(None, (state.query("runs") or "").split(","))))
    if not known and not asked:
        parts.nothing_yet("No runs yet", "Runs side by side, with what sets them apart, will be here.")
        return
    chosen = _chosen(known, asked)
    if len(chosen) < 2:
        st.info("Choose at least two runs here, or tick them in the list of runs.", icon=":material/info:")
        return
    comparison = studio.compare(chosen)
    active = any(row.run.active for row in comparison.rows)
    if active:
        _live(comparison)
    else:
        # As deep as what is live, so that nothing is built anew when the last run ends.
        with st.container():
            _numbers(comparison)
    _settings(comparison)
    _curves(comparison, active=active)
    # Compared anew when it is pressed: runs at work go on.
    parts.download(
        "CSV", lambda: comparison_csv(studio.compare(chosen)).encode(), "runs.csv", "text/csv", key="csv:compared"
    )


def _chosen(known: dict[str, RunSummary], asked: list[str]) -> list[str]:
    """Let runs be chosen; those in the address may be in the bin, and those that do not exist are left out."""
    named = {run.id: f"{run.name} · {run.job} · {run.id}" for run in known.values()}
    missing = []
    for run_id in asked:
        if run_id in named:
            continue
        try:
            run = state.studio().store.run(run_id)
            named[run.id] = f"{run.name} · {'in the bin · ' if run.deleted_at else ''}{run.id}"
        except NotFoundError:
            missing.append(run_id)
    if missing:
        parts.not_here("run", missing)
    if len(asked) > parts.MOST_COMPARED:
        st.warning(
            f"The address names {len(asked)} runs. The first {parts.MOST_COMPARED} are shown.",
            icon=":material/warning:",
        )
        state.set_query(runs=",".join(asked[: parts.MOST_COMPARED]))
    key = state.several("runs", list(named))
    chosen = st.multiselect(
        "Runs",
        list(named),
        format_func=named.__getitem__,
        key=key,
        max_selections=parts.MOST_COMPARED,
        placeholder="Type to search",
        help=f"Up to {parts.MOST_COMPARED}. The first one is what the others are compared with.",
    )
    state.chosen_several("runs", chosen)
    return chosen


def _live(drawn: Comparison) -> None:
    """Show the numbers as they come; another state of a run, or a curve that none had, draws the page anew."""
    before = [row.run.state for row in drawn.rows]

    def part() -> bool:
        now = state.studio().compare([row.run.id for row in drawn.rows])
        _numbers(now)
        return [row.run.state for row in now.rows] != before or _curve_names(now) != _curve_names(drawn)

    state.live(part)


def _numbers(comparison: Comparison) -> None:
    if comparison.problems:
        lines = [f"- **{text.plain(problem.where)}** {text.plain(problem.message)}" for problem in comparison.problems]
        said = "These word error rates are not put side by side: they were measured in different ways."
        st.error("\n".join([said, "", *lines]), icon=":material/balance:")
    frame = tables.compared(comparison, state.preparing())
    rates = {
        # In full, the longest name would push the last column out of a window of 1280 pixels.
        test_set: st.column_config.NumberColumn(
            f"WER % ↓, {SHORT.get(test_set, test_set)}", format="%.1f", help=f"On the {text.plain(test_set)} set."
        )
        for test_set in comparison.test_sets
    }
    st.dataframe(
        frame,
        hide_index=True,
        placeholder=text.NOTHING,
        height="content",
        column_config={
            **rates,
            "Run": st.column_config.TextColumn(pinned=True, width=parts.NAME_WIDTH),
            "Parameters": st.column_config.TextColumn("Trained", alignment="right", help="Adapters and projections."),
            "Trainable": st.column_config.NumberColumn("Trained %", format="%.2f", help="Of the teacher's parameters."),
            "Training": st.column_config.TextColumn(alignment="right"),
            "Angle": st.column_config.TextColumn(
                "Angle, mean of layer pairs ↓",
                # Narrower than its title, which would push the last column out of a window of 1280 pixels.
                width=88,
                alignment="right",
                help="Between paired states in the run's mapping: mean over the probe's points, then over layer pairs.",
            ),
            "CKA": st.column_config.TextColumn(
                "Debiased CKA ↑",
                width=76,
                alignment="right",
                help="Linear, mean over the layer pairs, at the last probe.",
            ),
        },
        alt="Word error rates, trained parameters, training time and alignment of the runs",
    )
    records = [record for row in comparison.rows for record in row.evaluations.values()]
    if not records:
        st.caption("None of them has been read yet.")
    else:
        how = dict.fromkeys(f"{record.normaliser}; {record.decoding}" for record in records)
        sizes = {record.test_set: record.words for record in records}
        words = ", ".join(f"{text.words(name)} set: {count} words" for name, count in sizes.items())
        st.caption(
            text.plain(
                f"{words}. {' | '.join(how)}. One run per row; whether a difference is more than chance, "
                "the ablation table of a job says."
            )
        )


def _settings(comparison: Comparison) -> None:
    st.header("Settings that differ")
    frame = tables.settings_apart([row.run.config for row in comparison.rows], tables.labels(comparison.rows))
    if frame.empty:
        st.caption("None: these runs have the same settings.")
        return
    columns = {"Setting": st.column_config.TextColumn(pinned=True, width=parts.NAME_WIDTH)}
    st.dataframe(frame, hide_index=True, height="content", column_config=columns, alt="Settings that differ, by run")


def _curve_names(comparison: Comparison) -> list[str]:
    names = list(comparison.curve_names)
    # What is read between steps has its place before it is there.
    later = names and USUAL not in names and any(row.run.active for row in comparison.rows)
    return sorted([*names, USUAL]) if later else names


def _curves(comparison: Comparison, *, active: bool) -> None:
    st.header("Curves")
    names = _curve_names(comparison)
    if not names:
        st.caption("None of these runs has made a step yet.")
        return
    key = state.several("curves", names, default=[USUAL if USUAL in names else names[0]])
    shown = st.multiselect("Curves", names, format_func=text.words, key=key, label_visibility="collapsed")
    state.chosen_several("curves", shown)
    runs = [row.run for row in comparison.rows]
    labels = dict(zip((run.id for run in runs), tables.labels(comparison.rows), strict=True))
    palette = run_colours([run.position for run in runs])
    last_step = max((run.steps for run in runs), default=None)
    apart = any(run.config["method"]["losses"] != runs[0].config["method"]["losses"] for run in runs)
    made: dict[str, tuple[pd.DataFrame, charts.Layers]] = {}

    def draw(frame: pd.DataFrame) -> None:
        columns = st.columns(2, gap="medium")
        for place, name in enumerate(shown):
            part = frame.loc[frame["name"] == name].reset_index(drop=True)
            if name not in made or not part.equals(made[name][0]):
                made[name] = (part, _chart(part, name, labels, palette, last_step))
            with columns[place % 2].container(border=True):
                st.markdown(f"**{text.plain(text.words(name))}**{' · %' if name.endswith('/wer') else ''}")
                st.altair_chart(made[name][1], key=f"compared:{name}")
                if name == TOTAL and apart:
                    st.caption("These runs have different objectives: the height of one says nothing about another.")

    def part() -> bool:
        # Not by the cache, which knows steps: between two of them the development set is read.
        store = state.studio().store
        draw(tables.curves_of(store.curves(list(labels), shown, most=charts.most_points(len(runs)))))
        return False

    if active:
        state.live(part)
    else:
        with st.container():
            draw(state.compared_curves(runs, shown))


def _chart(
    part: pd.DataFrame, name: str, labels: Mapping[str, str], palette: Sequence[str], last_step: int | None
) -> charts.Layers:
    rate = name.endswith("/wer")
    part = part.assign(value=part["value"] * (100 if rate else 1), series=part["run"].map(labels.__getitem__))
    ends = part.groupby("series", sort=False)["value"].last()
    said = ", ".join(f"{label} {value:.4g}" for label, value in ends.items())
    return charts.curve(
        part,
        description=f"{text.words(name)} by step. Last: {said or 'nothing so far'}.",
        height=HEIGHT,
        markers=rate,
        last_step=last_step,
        series=list(labels.values()),
        palette=palette,
    )


if __name__ == "__main__":
    with state.sentences():
        show()
