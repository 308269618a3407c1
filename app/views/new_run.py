"""New run: what shall I try next, will it fit, what will it cost?"""

from typing import Any

import pandas as pd
import streamlit as st
import yaml

from app import parts, state, text
from app.forms import settings_form
from core.config import RunConfig, dump_run, parse_run, preset_names, read_preset
from core.errors import ConfigError
from core.runs import ParameterCounts

VISIBLE = (
    "name",
    "method.losses",
    "training.steps",
    "training.learning_rate",
    "training.batch_size",
    "lora.rank",
    "source.kind",
)
"""Fields that stand in front; all others are under "Advanced settings"."""


def show() -> None:
    state.studio().refresh()
    st.title("New run")
    preset = st.selectbox("Preset", preset_names(), format_func=text.words)
    ablation, configs = read_preset(preset)
    st.caption(text.plain(ablation.description))
    whole, one = st.tabs([f"The whole ablation ({len(configs)} runs)", "One run"])
    with whole:
        _whole(ablation.name, configs)
    with one:
        _one(configs)


def _whole(name: str, configs: tuple[RunConfig, ...]) -> None:
    base = configs[0]
    st.dataframe(
        pd.DataFrame(
            {
                "Run": [config.name for config in configs],
                "Differs from the baseline in": ["baseline", *(_differences(base, config) for config in configs[1:])],
            }
        ),
        hide_index=True,
    )
    st.caption("One job: the teacher listens once for all of them, and they train one after the other.")
    if st.button(f"Launch {len(configs)} runs", type="primary", icon=":material/rocket_launch:"):
        studio = state.studio()
        job = studio.start_quick_start() if name == "quickstart" else studio.start(configs, name=name)
        state.go("run", run=studio.store.runs(job_id=job.id)[0].id)


def _one(configs: tuple[RunConfig, ...]) -> None:
    names = [config.name for config in configs]
    start = st.selectbox("Start from", names, index=len(names) - 2 if len(names) > 1 else 0)
    base = next(config for config in configs if config.name == start)
    how = st.segmented_control("Write it as", ["Form", "YAML"], default="Form", required=True)
    summary = st.container()
    if how == "YAML":
        typed = st.text_area("Run as YAML", value=dump_run(base), height=420, key=f"yaml:{start}")
        fields, show = _parsed(typed), None
    else:
        filled = settings_form(RunConfig, base.model_dump(mode="json"), key=f"form:{start}", visible=VISIBLE)
        fields, show = filled.values, filled.show
    config = None
    try:
        config = parse_run(fields)
    except ConfigError as error:
        if show:
            show(error.problems)
        with summary:
            _mistakes([(problem.where, problem.message) for problem in error.problems] or [("", str(error))])
    if config is not None:
        st.caption(f"Differs from the baseline in: {text.plain(_differences(configs[0], config))}")
    check, launch, download = st.columns(3)
    if check.button("Check", icon=":material/rule:", disabled=config is None, width="stretch") and config:
        state.keep("check", state.studio().request_check(config.model_dump(mode="json")).id)
    if launch.button(
        "Launch", type="primary", icon=":material/rocket_launch:", disabled=config is None, width="stretch"
    ):
        assert config is not None
        studio = state.studio()
        job = studio.start([config], name=config.name)
        state.go("run", run=studio.store.runs(job_id=job.id)[0].id)
    download.download_button(
        "YAML",
        dump_run(config) if config else "",
        file_name="run.yaml",
        mime="text/yaml",
        icon=":material/download:",
        disabled=config is None,
        width="stretch",
    )
    if state.kept("check") is not None:
        _check(state.kept("check"))


def _parsed(typed: str) -> Any:
    try:
        return yaml.safe_load(typed)
    except yaml.YAMLError as error:
        st.error(text.plain(f"This is not valid YAML: {error}"), icon=":material/error:")
        return {}


def _mistakes(mistakes: list[tuple[str, str]]) -> None:
    lines = [f"- **{text.plain(where)}** {text.plain(message)}" for where, message in mistakes]
    st.error("\n".join(["Correct these before it can be launched:", *lines]), icon=":material/error:")


@st.fragment(run_every=1)
def _check(check_id: int) -> None:
    """Show what the analysis worker found; polled until it has answered."""
    studio = state.studio()
    studio.refresh()
    record = studio.store.check(check_id)
    with st.container(border=True):
        if record.state in ("queued", "running"):
            st.markdown("Looking at the models …")
            return
        if record.state == "failed" or record.result is None:
            st.error(text.plain(record.message), icon=":material/error:")
            return
        problems = record.result["problems"]
        if problems:
            _mistakes([(problem["where"], problem["message"]) for problem in problems])
            return
        st.success("This run can start.", icon=":material/check_circle:")
        counts = {name: value for name, value in record.result["parameters"].items() if name != "share_of_teacher"}
        parts.parameters(ParameterCounts(**counts))
        adapted = record.result["adapted"]
        st.caption(text.plain(f"Weights from {record.result['origin']}. {len(adapted)} modules get an adapter."))


def _differences(base: RunConfig, config: RunConfig) -> str:
    """Return the fields in which a run differs from another, but for its name."""
    mine, theirs = _flat(config.model_dump(mode="json")), _flat(base.model_dump(mode="json"))
    changed = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
    shown = [
        f"{key} = {mine[key]}" if key in mine else f"no {key}" for key in changed if key not in ("name", "method.name")
    ]
    return "; ".join(shown) or "nothing"


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, list) and value and isinstance(value[0], dict) and "kind" in value[0]:
            value = {item["kind"]: {k: v for k, v in item.items() if k != "kind"} for item in value}
        if isinstance(value, dict):
            result.update(_flat(value, f"{prefix}{key}."))
        else:
            result[f"{prefix}{key}"] = value
    return result
