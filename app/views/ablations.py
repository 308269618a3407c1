"""Ablations: which part of the method matters, and is the difference real?"""

from typing import Any

import streamlit as st

from app import ablation_tables, charts, cut, parts, phases, state, tables, text, tradeoffs
from core.errors import NotFoundError
from core.reports.columns import Key, columns, lines
from core.reports.csv_file import ablation_csv
from core.reports.latex import ablation_latex
from core.reports.markdown import ablation_markdown
from core.reports.sheets import mixtures, notes
from core.runs import AblationTable, mean_angle


def show() -> None:
    studio = state.studio()
    studio.refresh()
    st.title("Ablations")
    jobs = {job.id: job for job in studio.store.jobs(limit=200)}
    if not jobs:
        parts.nothing_yet("No runs yet", "A table of word error rates, one row per run, will be here.")
        return
    wanted = state.query("job")
    if wanted and wanted not in jobs:
        try:
            jobs[wanted] = studio.store.job(wanted)
        except NotFoundError:
            parts.not_here("job", [wanted])
    finished = next((job.id for job in jobs.values() if job.state == "finished"), None)
    key = state.choice("job", list(jobs), default=state.kept("last job") or finished)
    value = st.selectbox(
        "Job",
        list(jobs),
        format_func=parts.job_names(jobs.values()).__getitem__,
        key=key,
        width=420,
    )
    state.keep("last job", value)
    job = jobs[state.chosen("job", value)]
    if job.active:
        _live(job.id)
    else:
        parts.tab_title(phases.of_job(job, ()), job.name, job)
    parts.expectation(job)
    table = state.ablation(job.id)
    cut.line(job.id, table.rows[-1].run)
    if table.test_set != tables.TEST:
        st.caption(f"On the {text.plain(table.test_set)} set: this job leaves its test set unread.")
    _table(table)


def _live(job_id: str) -> None:
    """Show how far the job is; the page is drawn anew with every row that arrives."""
    drawn = len(state.studio().store.evaluations(job_id=job_id))

    def strip() -> bool:
        store = state.studio().store
        job = store.job(job_id)
        parts.tab_title(phases.of_job(job, store.runs(job_id=job_id)), job.name, job)
        with st.container(border=True):
            parts.progress(job)
        return not job.active or len(store.evaluations(job_id=job_id)) != drawn

    state.live(strip)


def _table(table: AblationTable) -> None:
    """Show all test sets side by side, real speech first; what was read on each stands in its details."""
    frame, said = ablation_tables.ablation(table), notes(table)
    sets = list(table.sets)
    on = f"on {', '.join(sets)}, in this order" if len(sets) > 1 else f"on {sets[0]}"
    # By place: two test sets have columns of the same name. The first place is the hidden index.
    shown: dict[Any, Any] = {1: _MODEL, **{place: _COLUMNS[each.key] for place, each in enumerate(columns(table), 2)}}
    st.dataframe(
        frame,
        hide_index=True,
        placeholder=text.NOTHING,
        height="content",
        column_config=shown,
        alt=f"Word error rates of the teacher, the student before training, and every run, and their differences {on}",
    )
    if not any(each.evaluation for line in lines(table) for each in line.on.values()):
        st.caption("Nothing has been read yet. Rows fill as the job gets to them.")
        return
    st.caption("  \n".join(text.plain(note) for note in said))
    _downloads(table)
    for name, each in table.sets.items():
        with st.expander(f"Errors and verdicts: {text.plain(name)}"):
            _details(name, each)
    name, charted = table.charted
    _charts(name, charted)
    for called, each in table.sets.items():
        _seeds(f"Over seeds: {called}" if len(sets) > 1 else "Over seeds", each)
    _mixtures(table)
    _tradeoffs(name, charted)


_MODEL = st.column_config.TextColumn("Model", pinned=True, width=parts.NAME_WIDTH)
_COLUMNS: dict[Key, Any] = {
    "wer": st.column_config.NumberColumn("WER % ↓", format="%.1f"),
    "difference": st.column_config.TextColumn(
        "Points [95 %]",
        alignment="right",
        help="WER minus the baseline's, negative is better, with its interval. * p < 0.05, adjusted for all "
        "comparisons of the table as the interval is; it is of single runs: other seeds may differ otherwise.",
    ),
    "substitutions": st.column_config.NumberColumn("S", help="Substitutions", width=56),
    "deletions": st.column_config.NumberColumn("D", help="Deletions", width=56),
    "insertions": st.column_config.NumberColumn("I", help="Insertions", width=56),
    "kl": st.column_config.NumberColumn(
        "KL ↓", format="%.3f", help="KL(teacher || student) at T = 1, nats per reference token of the test set."
    ),
    "kl_tokens": st.column_config.TextColumn("KL of", help=tables.ABOUT_KEPT),
    "layers": st.column_config.TextColumn("Layers", alignment="right", help="Of the encoder + of the decoder."),
    "parameters": st.column_config.NumberColumn(
        "Parameters, M", format="%.1f", help="Millions of parameters of the model as it is deployed."
    ),
    "memory": st.column_config.NumberColumn(
        "MB", format="%.0f", help="Weights that it needs; of an ensemble those of all its teachers."
    ),
    "real_time_factor": st.column_config.NumberColumn(
        "RTF ↓", format="%.3f", help="Real-time factor: time of the encoder, whole, and of the decoder over audio."
    ),
    "time_of_teacher": st.column_config.NumberColumn(
        "RTF / teacher ↓",
        format="%.2f",
        help="Real-time factor over the teacher's. Both are as the machine was then: other work beside counts.",
    ),
    "trainable": st.column_config.NumberColumn(
        "Trained %", format="%.2f", help="Adapters and projections, of the teacher's parameters."
    ),
    "step": st.column_config.NumberColumn("s / step", format="%.3f", help="Training time of one step."),
    "training": st.column_config.TextColumn("Training", alignment="right"),
}


def _details(name: str, table: AblationTable) -> None:
    st.dataframe(
        ablation_tables.details(table),
        hide_index=True,
        placeholder=text.NOTHING,
        height="content",
        column_config={
            "Model": _MODEL,
            "WER": _COLUMNS["wer"],
            "S": _COLUMNS["substitutions"],
            "D": _COLUMNS["deletions"],
            "I": _COLUMNS["insertions"],
            "Held-out KL": _COLUMNS["kl"],
            "Real-time factor": _COLUMNS["real_time_factor"],
        },
        alt=f"Substitutions, deletions and insertions on {name}",
    )
    # As text, which a phone shows whole.
    st.markdown(
        "\n".join(f"- **{text.plain(who)}**: {text.plain(said)}" for who, said in ablation_tables.verdicts(table))
    )


def _mixtures(table: AblationTable) -> None:
    found = mixtures(table)
    if found is None:
        return
    st.header("Experts")
    st.dataframe(ablation_tables.sheet(found), hide_index=True, height="content", alt=found.title)
    st.caption("  \n".join(text.plain(note) for note in (f"{found.title}.", *found.notes)))


def _downloads(table: AblationTable) -> None:
    """Offer the table, all its test sets in each file."""
    files = [
        ("CSV", ".csv", ablation_csv(table), "text/csv"),
        ("Markdown", ".md", ablation_markdown(table), "text/markdown"),
        ("LaTeX", ".tex", ablation_latex(table), "application/x-tex"),
    ]
    with st.container(horizontal=True, vertical_alignment="center"):
        for label, suffix, content, kind in files:
            parts.download(label, content, f"{table.job.name}{suffix}", kind, key=f"{label}:{table.job.name}")
        if not table.job.active:
            state.link("reports", "Freeze it into a page", ":material/ac_unit:", job=table.job.id)


def _charts(name: str, table: AblationTable) -> None:
    """Draw rates and differences on one test set."""
    rates, outside = ablation_tables.rates(table)
    contrasts = ablation_tables.contrasts(table)
    if len(rates) < 2:
        return
    left, right = st.columns(2, gap="large")
    with left:
        st.header(f"Word error rate, {text.plain(name)}")
        about = "Word error rates: " + ", ".join(
            f"{name} {wer:.1f} %" for name, wer in zip(rates["name"], rates["wer"], strict=True)
        )
        st.altair_chart(charts.rates(rates, description=about), key=f"rates:{table.job.id}")
        if outside:
            st.caption(text.plain(outside))
    with right:
        if contrasts.empty:
            return
        st.header(f"Against {text.plain(table.against)}")
        about = f"Differences from the baseline in points, {name}: " + ", ".join(
            f"{name} {difference:+.1f}"
            for name, difference in zip(contrasts["name"], contrasts["difference"], strict=True)
        )
        st.altair_chart(charts.contrasts(contrasts, description=about), key=f"contrasts:{table.job.id}")
        st.caption(f"On {text.plain(name)}. Filled: more than chance. Hollow: not significant.")


def _seeds(title: str, table: AblationTable) -> None:
    if table.over_seeds is None:
        return
    st.header(text.plain(title))
    frame = ablation_tables.over_seeds(table)
    about = "Mean and spread of word error rates over seeds, and differences from the baseline's runs with these seeds"
    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        column_config={
            **{name: st.column_config.TextColumn(alignment="right") for name in frame.columns},
            "Model": st.column_config.TextColumn(pinned=True, width=parts.NAME_WIDTH),
            "Mean WER": st.column_config.TextColumn("Mean WER ↓", alignment="right"),
            "SD": st.column_config.TextColumn(alignment="right", help="Standard deviation over seeds, in points."),
            "Difference": st.column_config.TextColumn(
                "Points",
                alignment="right",
                help="Mean WER minus the baseline's, of the same seeds; negative is better.",
            ),
            "95 % interval": st.column_config.TextColumn(
                alignment="right", help="Of the difference: what other seeds and other utterances would change."
            ),
            "Verdict": st.column_config.TextColumn(
                width=240,
                help="From three seeds on: whether the difference is more than the chance of seeds and utterances; p "
                "is adjusted for all comparisons of the table.",
            ),
            "SD of difference": st.column_config.TextColumn(
                alignment="right", help="Standard deviation of the difference over seeds, in points."
            ),
            "Seeds better": st.column_config.TextColumn(
                alignment="right", help="With how many of the seeds it beats the baseline."
            ),
        },
        alt=about,
    )
    st.caption(text.plain(table.over_seeds.test))


def _tradeoffs(name: str, table: AblationTable) -> None:
    """Show what error rates cost, and whether they go with the alignment."""
    frame = tradeoffs.costs(table)
    aligned = state.studio().store.last_alignments([row.run.id for row in table.rows])
    angles = tradeoffs.alignment(table, {run_id: mean_angle(records) for run_id, records in aligned.items()})
    if len(frame) < 2:
        return
    st.header("What it costs, and does closer mean better?")
    st.caption(f"Word error rates are on {text.plain(name)}.")
    first, second, third = st.columns(3, gap="large")
    for column, cost, title, digits in (
        (first, "parameters", "Trained parameters", "~s"),
        (second, "minutes", "Training time, minutes", ".3~g"),
    ):
        with column:
            shown = tradeoffs.with_front(frame, cost)
            front = tradeoffs.front_in_words(shown)
            st.markdown(f"**WER ↓ against {title[:1].lower()}{title[1:]} ↓**")
            about = f"WER against {title}. Front: {front}."
            chart = charts.tradeoff(shown, x=cost, title=title, description=about, digits=digits)
            st.altair_chart(chart, key=f"{cost}:{table.job.id}")
            said = f"Filled: none is both cheaper and lower in its rate, untested. From the cheapest: {front}."
            st.caption(text.plain(tradeoffs.with_numbers(said, charts.numbered(shown, cost))))
    with third:
        st.markdown("**WER ↓ against the angle to the teacher ↓**")
        said, numbers = tradeoffs.does_closer_mean_better(angles), {}
        if len(angles) > 1:
            numbers = charts.numbered(angles, "angle")
            chart = charts.tradeoff(
                angles,
                x="angle",
                title="Angle, mean of layer pairs, degrees",
                description=f"WER against the angle, mean of layer pairs. {said}",
            )
            st.altair_chart(chart, key=f"angle:{table.job.id}")
        said = f"{said} The angle is between paired states, mean of layer pairs, at the last probe."
        st.caption(text.plain(tradeoffs.with_numbers(said, numbers)))
    spread = max(frame["runs"].tolist())
    if spread > 1:
        st.caption(f"Dots are means over up to {spread} seeds; lines reach from the lowest to the highest of them.")


if __name__ == "__main__":
    with state.sentences():
        show()
