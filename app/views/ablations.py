"""Ablations: which part of the method matters, and is the difference real?"""

import pandas as pd
import streamlit as st

from app import charts, state, text
from core.runs import AblationRow, AblationTable, EvaluationRecord

SIGNIFICANCE_LEVEL = 0.05


def show() -> None:
    st.title("Ablations")
    studio = state.studio()
    studio.refresh()
    jobs = studio.store.jobs(limit=200)
    if not jobs:
        st.info("A table of word error rates appears here with the first runs.", icon=":material/table:")
        state.link("runs", "To the quick start", ":material/list:")
        return
    job = state.chosen_job(jobs)
    table = studio.ablation(job.id)
    if table.teacher is None:
        st.info("The test set has not been read yet; rows appear one by one.", icon=":material/hourglass_top:")
    _table(table)
    for name, extra in table.extra.items():
        st.subheader(text.plain(text.words(name)))
        st.caption("Reported on its own, never pooled with the test set.")
        _table(extra)


def _table(table: AblationTable) -> None:
    frame = table_frame(table)
    st.dataframe(
        frame,
        hide_index=True,
        column_config={
            "WER": st.column_config.NumberColumn("WER ↓ %", format="%.1f"),
            "Difference": st.column_config.TextColumn(help="Points of WER, run minus baseline; negative is better."),
            "Held-out KL": st.column_config.NumberColumn(
                "Held-out KL ↓", format="%.3f", help="KL(teacher || student) at T = 1, nats per valid reference token."
            ),
            "Trainable": st.column_config.NumberColumn("Trainable %", format="%.2f", help="Share of the teacher."),
        },
        alt="Word error rates of the teacher, the student before training, and every run",
    )
    for note in notes(table):
        st.caption(text.plain(note))
    _chart(table)
    left, right = st.columns(2)
    stem = f"{table.job.name}-{table.test_set}"
    left.download_button(
        "CSV",
        _inert(frame).to_csv(index=False),
        f"{stem}.csv",
        "text/csv",
        icon=":material/download:",
        key=f"csv:{stem}",
    )
    right.download_button(
        "Markdown",
        markdown(frame, table),
        f"{stem}.md",
        "text/markdown",
        icon=":material/download:",
        key=f"markdown:{stem}",
    )


def table_frame(table: AblationTable) -> pd.DataFrame:
    """Return the table as shown: teacher, student before, then each run."""
    fixed = [("Teacher", table.teacher), ("Student before", table.student_before)]
    rows = [_row(name, record, None, table) for name, record in fixed if record is not None]
    rows += [_row(row.run.name, row.evaluation, row, table) for row in table.rows]
    return pd.DataFrame(rows)


def _row(
    name: str, record: EvaluationRecord | None, row: AblationRow | None, table: AblationTable
) -> dict[str, object]:
    parameters = row.parameters if row else None
    return {
        "Model": name,
        "WER": 100 * record.wer if record else None,
        "S": record.substitutions if record else None,
        "D": record.deletions if record else None,
        "I": record.insertions if record else None,
        "Difference": difference(row, table) if row else "",
        "Held-out KL": record.heldout_kl if record else None,
        "Trainable": 100 * parameters.share_of_teacher if parameters else None,
        "Training": text.duration(row.run.seconds) if row else "",
    }


def difference(row: AblationRow, table: AblationTable) -> str:
    """Return the difference from the baseline with its interval, and whether it is more than chance, in words."""
    if row.run.name == table.baseline:
        return "baseline"
    if row.difference is None or row.interval is None:
        return text.NOTHING if row.run.state == "finished" else row.run.state
    low, high = row.interval
    span = f"{text.points(row.difference)} [{text.points(low)}, {text.points(high)}]"
    if row.p_value is None:
        return f"{span} too few to test"
    return f"{span} p {'< 0.001' if row.p_value < 0.001 else f'= {row.p_value:.3f}'}" + (
        "" if row.p_value < SIGNIFICANCE_LEVEL else " not significant"
    )


def notes(table: AblationTable) -> list[str]:
    """Return what must stand under every table: sizes, seed, how it was measured."""
    record = table.teacher or next((row.evaluation for row in table.rows if row.evaluation), None)
    if record is None:
        return []
    seeds = sorted({row.run.seed for row in table.rows})
    return [
        f"{table.utterances} utterances, {record.words} words, read once; one run per row, seed "
        f"{', '.join(map(str, seeds))}; {record.audio_context:g} s of audio context. {table.test}",
        f"Normaliser {record.normaliser}; {record.decoding}.",
    ]


def markdown(frame: pd.DataFrame, table: AblationTable) -> str:
    """Return the table in Markdown with its notes."""
    cells = frame.map(
        lambda value: "" if pd.isna(value) else f"{value:.2f}" if isinstance(value, float) else str(value)
    )
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * len(frame.columns)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells.to_numpy()]
    return "\n".join([*lines, "", *notes(table), ""])


def _inert(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep a spreadsheet from running a name as a formula."""
    return frame.map(lambda value: f"'{value}" if isinstance(value, str) and value[:1] in "=+-@" else value)


def _chart(table: AblationTable) -> None:
    rows = []
    if table.teacher:
        rows.append(("Teacher", "Teacher", table.teacher.wer, None))
    rows += [(row.run.name, "Student", row.evaluation.wer, row) for row in table.rows if row.evaluation]
    baseline = next(
        (row.evaluation.wer for row in table.rows if row.evaluation and row.run.name == table.baseline), None
    )
    frame = pd.DataFrame(
        [
            {
                "name": name,
                "role": role,
                "wer": 100 * wer,
                "low": 100 * (baseline + row.interval[0]) if row and row.interval and baseline is not None else None,
                "high": 100 * (baseline + row.interval[1]) if row and row.interval and baseline is not None else None,
            }
            for name, role, wer, row in rows
        ]
    )
    if len(frame) > 1:
        about = "Word error rate of each model"
        st.altair_chart(charts.rates(frame, description=about), key=f"rates:{table.job.id}:{table.test_set}")
        st.caption("Whiskers: the interval of the difference from the baseline, drawn around the baseline's rate.")
