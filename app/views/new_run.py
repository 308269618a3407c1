"""New run: what shall I try next, will it fit, what will it cost?"""

from typing import Any

import pandas as pd
import streamlit as st
import yaml

from app import parts, state, tables, text
from app.forms import settings_form
from core.config import Ablation, RunConfig, parse_run, preset_names, read_preset
from core.errors import ConfigError, Problem
from core.runs import ParameterCounts

VISIBLE = {
    "name": "Name",
    "teachers.0.model": "Teacher",
    "student.pruned.encoder_layers": "Student's encoder layers",
    "source": "Source",
    "method.losses": "Losses",
    "training.steps": "Steps",
}
"""Labels of the fields that stand in front; those without a default join them, all others are "Advanced settings"."""

HOW = {"whole": "The whole ablation", "one": "One run"}


def show() -> None:
    state.studio().refresh()
    st.title("New run")
    start = state.query("start")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        presets = preset_names()
        preset = st.selectbox(
            "Preset", presets, format_func=text.words, key="preset", persist_state="session", width=260
        )
        key = state.choice("launch", list(HOW), default="one" if start else state.kept("last launch"))
        how = st.segmented_control("Launch", list(HOW), format_func=HOW.__getitem__, key=key, required=True)
    how = state.chosen("launch", how or "whole")
    state.keep("last launch", how)
    ablation, configs = read_preset(preset)
    st.caption(text.plain(ablation.description))
    if how == "whole":
        _whole(ablation, configs)
    else:
        _one(preset, configs, start)


def _whole(ablation: Ablation, configs: tuple[RunConfig, ...]) -> None:
    base = configs[0].model_dump(mode="json")
    words = [tables.difference_in_words(base, config.model_dump(mode="json")) for config in configs]
    frame = pd.DataFrame(
        {
            "Run": [config.name for config in configs],
            "Differs from the baseline in": ["the baseline", *words[1:]],
            "Steps": [config.training.steps for config in configs],
        }
    )
    st.dataframe(frame, hide_index=True, height="content", alt="The runs of this ablation, and what each changes")
    st.caption("One job: the teacher listens once for all of them, and they train one after the other.")
    if st.button(f"Launch {len(configs)} runs", type="primary", icon=":material/rocket_launch:"):
        studio = state.studio()
        with st.spinner("Starting"):
            quick = ablation.name == "quickstart"
            job = studio.start_quick_start() if quick else studio.start(configs, name=ablation.name)
        state.go_to("run", run=studio.store.runs(job_id=job.id)[0].id)


def _one(preset: str, configs: tuple[RunConfig, ...], start: str | None) -> None:
    bases = {config.name: config.model_dump(mode="json") for config in configs}
    if start:
        run = state.studio().store.run(start)
        bases = {f"{run.name} · {run.id}": run.config, **bases}
    names = list(bases)
    default = 0 if start else max(0, len(names) - 2)
    chosen = st.selectbox(
        "Start from", names, index=default, key=f"start:{preset}:{start}", persist_state="session", width=420
    )
    # What is read from YAML replaces the form's first values; another number makes its widgets anew.
    draft, number = state.kept(f"draft:{preset}:{start}:{chosen}", (bases[chosen], 0))
    top = st.container()
    with st.container(border=True):
        filled = settings_form(RunConfig, draft, key=f"form:{preset}:{start}:{chosen}:{number}", visible=VISIBLE)
    problems: list[Problem] = []
    config = None
    try:
        config = parse_run(filled.values)
    except ConfigError as error:
        problems = error.problems or [Problem("", error.summary)]
        filled.show(problems)
        with top:
            _mistakes(problems)
    _difference(bases[configs[0].name], filled.values, configs[0].name)
    _launch(config, problems)
    _yaml(filled.values, lambda fields: state.keep(f"draft:{preset}:{start}:{chosen}", (fields, number + 1)))


def _difference(base: dict[str, Any], values: dict[str, Any], name: str) -> None:
    frame = tables.differences(base, values)
    if frame.empty:
        st.caption(f"The same settings as the baseline, {text.plain(name)}.")
        return
    st.markdown(f"**Differs from the baseline, {text.plain(name)}**")
    st.dataframe(frame, hide_index=True, height="content", alt="Settings that differ from the baseline")


def _launch(config: RunConfig | None, problems: list[Problem]) -> None:
    with st.container(horizontal=True):
        launch = st.button("Launch", type="primary", icon=":material/rocket_launch:")
        check = st.button(
            "Check",
            icon=":material/fact_check:",
            help="Looks at the models: counts parameters, and finds what only they can tell.",
        )
    if (launch or check) and config is None:
        one = len(problems) == 1
        st.error(
            f"Correct {'the mistake' if one else f'the {len(problems)} mistakes'} above first. Nothing was started.",
            icon=":material/error:",
        )
        return
    studio = state.studio()
    if launch and config is not None:
        with st.spinner("Starting"):
            job = studio.start([config], name=config.name)
        state.go_to("run", run=studio.store.runs(job_id=job.id)[0].id)
    if check and config is not None:
        asked = config.model_dump(mode="json")
        state.keep("check", (studio.request_check(asked).id, asked))
    kept = state.kept("check")
    if kept is not None and config is not None:
        check_id, asked = kept
        if asked == config.model_dump(mode="json"):
            _check(check_id)
        else:
            st.caption("The settings have changed since they were checked.")


def _check(check_id: int) -> None:
    """Show what the analysis worker found; asked again every second until it has answered."""
    record = state.studio().store.check(check_id)
    if record.state in ("queued", "running"):

        def part() -> bool:
            with st.container(border=True):
                st.markdown(":material/hourglass_top: Looking at the models. The first time takes some seconds.")
            return state.studio().store.check(check_id).state in ("finished", "failed")

        state.live(part, seconds=1.0)
        return
    with st.container(border=True):
        if record.state == "failed" or record.result is None:
            st.error(text.plain(record.message), icon=":material/error:")
            return
        problems = [Problem(**problem) for problem in record.result["problems"]]
        if problems:
            _mistakes(problems)
            return
        st.markdown(":green[:material/check_circle:] **This run can start**")
        counts = ParameterCounts(
            **{name: record.result["parameters"][name] for name in ("teacher", "student", "adapters", "projections")}
        )
        about = "Parameters of teacher, student, adapters and projections, and their shares of the teacher"
        parts.table(tables.parameters(counts), alt=about, numbers=("Parameters", "Of the teacher"))
        adapted = record.result["adapted"]
        st.caption(text.plain(f"Weights from {record.result['origin']}. {len(adapted)} modules get an adapter."))


def _mistakes(problems: list[Problem]) -> None:
    count = "One mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    lines = [f"- **{text.plain(problem.where)}** {text.plain(problem.message)}" for problem in problems]
    st.error("\n".join([f"{count} to correct before it can start:", "", *lines]), icon=":material/error:")


def _yaml(values: dict[str, Any], load: Any) -> None:
    """Let the settings be taken away as YAML, and be read from it."""
    with st.expander("As a file: take these settings away, or bring some in", icon=":material/description:"):
        away, in_ = st.columns(2, gap="large")
        with away:
            written = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
            st.code(written, language="yaml", height=300)
            st.download_button("Download", written, "run.yaml", "text/yaml", icon=":material/download:")
        with in_:
            uploaded = st.file_uploader("A YAML file of a run", type=["yaml", "yml", "json"])
            typed = st.text_area("Or its text", height=200, key="yaml", persist_state="session")
            if not st.button("Read into the form", icon=":material/upload:"):
                return
            content = uploaded.getvalue().decode("utf-8", errors="replace") if uploaded else typed
            try:
                fields = yaml.safe_load(content)
                config = parse_run(fields, name="the file")
            except yaml.YAMLError as error:
                st.error(text.plain(f"This is not valid YAML: {error}"), icon=":material/error:")
            except ConfigError as error:
                _mistakes(error.problems or [Problem("", error.summary)])
            else:
                load(config.model_dump(mode="json"))
                st.rerun()


if __name__ == "__main__":
    with state.sentences():
        show()
