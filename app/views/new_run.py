"""New run: what shall I try next, will it fit, what will it cost?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app import checks, launching, parts, starts, state, tables, teachers, text
from app.forms import settings_form
from app.widgets import several_values
from core.config import (
    LOSSES,
    Ablation,
    Lora,
    RunConfig,
    Training,
    dump_text,
    parse_run,
    parse_text,
    preset_names,
    read_preset,
)
from core.errors import ConfigError, NotFoundError, Problem
from core.first_look import manifest_in_words
from core.runs import RunRecord, layer_problems

FIRST_PRESET = "quickstart"

VISIBLE = {
    "name": "Name",
    "teachers.0.model": "Teacher",
    **{f"teachers.{number}.model": f"Teacher {number + 1}" for number in range(1, 6)},
    "ensemble.combine": "Teachers together",
    "student.pruned.encoder_layers": "Student's encoder layers",
    "source": "Source",
    "method.losses": "Losses",
    "training.steps": "Steps",
}
"""Labels of the fields that stand in front; those without a default join them, all others are "Advanced settings"."""

SCHEDULE, LISTS = "When it counts, and how its weight changes", "Layers one by one"
FOLDED = {
    **{f"method.losses.*.{name}": SCHEDULE for name in ("begins", "ends", "warmup", "final")},
    "method.mapping.*_list": LISTS,
}
"""Settings that few runs change, by what they are folded under."""

ALIGNING = {loss.model_fields["kind"].default for loss in LOSSES if "states" in loss.reads}

ASKED = {
    "method.mapping": lambda method: any(loss.get("kind") in ALIGNING for loss in method["losses"]),
    "method.mapping.hidden_width": lambda mapping: mapping["projection"] == "hidden",
    "method.mapping.projection_rank": lambda mapping: mapping["projection"] == "low_rank",
    "method.mapping.directions": lambda mapping: mapping["states"] == "whitened",
    "method.mapping.common_width": lambda mapping: mapping["basis"] != "identity",
    "ensemble": lambda run: len(run.get("teachers") or ()) > 1,
    "ensemble.temperature": lambda ensemble: ensemble["combine"] == "weighted",
    "source.voices.share": lambda source: bool(source["conditions"]),
    "source.voices.seed": lambda source: bool(source["conditions"]),
    "source.voices.lowest_signal_to_noise": lambda source: "noise" in source["conditions"],
    "source.voices.highest_signal_to_noise": lambda source: "noise" in source["conditions"],
    "method.largest_wer": lambda method: method["transcripts"] == "teacher",
}
"""Settings that mean nothing unless another one is so."""

MANIFESTS = ("source.manifest.train", "source.manifest.development", "source.manifest.test", "evaluation.extra_tests")
"""Fields that hold paths of manifests."""

RANKS, RATES = ("4", "8", "16", "32", "64"), ("0.0003", "0.001", "0.003")

HOW = {"whole": "An ablation", "grid": "A grid", "one": "One run", "file": "A file"}


def show() -> None:
    state.studio().refresh()
    # On its way to a run Streamlit puts its parameter into this address, too, and there the browser's Back finds it.
    state.set_query(run=None)
    st.title("New run")
    start = _start()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        key = state.choice("launch", list(HOW), default="one" if start else state.kept("last launch"))
        how = st.segmented_control("Launch", list(HOW), format_func=HOW.__getitem__, key=key, required=True)
        how = state.chosen("launch", how or "whole")
        state.keep("last launch", how)
        preset = "" if how == "file" else _preset()
    if how == "file":
        _file()
        return
    ablation, configs = read_preset(preset)
    st.caption(text.plain(ablation.description))
    if how == "whole":
        # The quick start has recorded speech as an extra test, where there is some.
        _whole(ablation, state.studio().quick_start()[1] if preset == FIRST_PRESET else configs)
    elif how == "grid":
        _grid(ablation)
    else:
        _one(preset, ablation, configs, start)


def _start() -> RunRecord | None:
    """Return the run that the address names to begin from."""
    start = state.query("start")
    if not start:
        return None
    try:
        return state.studio().store.run(start)
    except NotFoundError:
        parts.not_here("run", [start])
        return None


def _preset() -> str:
    presets = sorted(preset_names(), key=lambda name: (name != FIRST_PRESET, name))
    key = state.choice("preset", presets, default=state.kept("last preset"))
    preset = state.chosen("preset", st.selectbox("Preset", presets, format_func=_titled, key=key, width=260))
    state.keep("last preset", preset)
    return preset


def _titled(preset: str) -> str:
    return text.words(preset.replace("-", "_"))


def _whole(ablation: Ablation, configs: tuple[RunConfig, ...]) -> None:
    """Offer the rows of a preset: all of them, or those that are chosen."""
    labels = {config.name: _grouped(config) for config in configs}
    chosen = st.multiselect(
        "Rows",
        list(labels),
        format_func=labels.__getitem__,
        placeholder=f"All {len(configs)} rows",
        help="Choose some to launch only those. The first of them is the baseline of the table.",
        key=f"rows:{ablation.name}",
        persist_state="session",
    )
    runs = [config for config in configs if not chosen or config.name in chosen]
    _listed(runs)
    launching.show(runs, name=ablation.name, all_of_it=_all_of(runs))
    rows = tuple(row for row in ablation.rows if not chosen or row.label in chosen)
    _taken_away(ablation.model_copy(update={"rows": rows}))


def _grouped(config: RunConfig) -> str:
    group = starts.group(config)
    return f"{group} · {config.name}" if group else config.name


def _grid(ablation: Ablation) -> None:
    """Offer every chosen method with every seed, rank and learning rate."""
    left, right = st.columns([3, 1], gap="medium")
    methods = left.multiselect(
        "Methods",
        list(starts.METHODS),
        default=[starts.BASELINE, "kd", "manifold"],
        format_func=lambda key: starts.label(starts.METHODS[key]),
        help="Each is laid over the preset's base. The first is the baseline of the table.",
        key="grid methods",
        persist_state="session",
    )
    seeds = right.number_input(
        "Seeds", 1, 20, value=2, help="Runs of each method, with the seeds from 0.", key="grid seeds"
    )
    left, right = st.columns(2, gap="medium")
    with left:
        about = "Of the adapters; alpha / rank stays as it is, and no budget decides."
        ranks, not_ranks = several_values("Ranks", RANKS, Lora.model_fields["rank"], about)
    with right:
        rates, not_rates = several_values(
            "Learning rates", RATES, Training.model_fields["learning_rate"], "Peak rate of AdamW."
        )
    if not methods:
        st.info("Choose at least one method.", icon=":material/info:")
        return
    try:
        grid, runs = starts.grid(ablation, methods=methods, seeds=int(seeds), ranks=ranks, learning_rates=rates)
    except ConfigError as error:
        checks.list_mistakes(error.problems or [Problem("", error.summary)])
        return
    _listed(runs)
    axes = {"method": len(methods), "rank": len(ranks), "learning rate": len(rates), "seed": int(seeds)}
    said = " × ".join(f"{count} {noun}{'s' if count > 1 else ''}" for noun, count in axes.items() if count)
    steps = sum(config.training.steps for config in runs)
    st.caption(f"{said}: {len(runs)} runs, {text.count(steps)} steps in all.")
    launching.show(runs, name=grid.name, all_of_it=_all_of(runs), problems=not_ranks + not_rates)
    _taken_away(grid)


def _file() -> None:
    """Offer what a file says: a run, or an ablation."""
    left, right = st.columns(2, gap="large")
    uploaded = left.file_uploader(
        "A YAML or JSON file of a run or an ablation", type=["yaml", "yml", "json"], max_upload_size=1
    )
    typed = right.text_area("Or its text", height=200, key="file", persist_state="session")
    content = uploaded.getvalue().decode("utf-8", errors="replace") if uploaded else typed
    if not content.strip():
        st.info("Its runs will be listed here, to be checked and launched.", icon=":material/info:")
        return
    try:
        name, runs = starts.read(content)
    except ConfigError as error:
        checks.list_mistakes(error.problems or [Problem("", error.summary)])
        return
    _listed(runs)
    launching.show(runs, name=name, all_of_it=_all_of(runs))


def _all_of(runs: Sequence[RunConfig]) -> str:
    return f"Launch {len(runs)} runs" if len(runs) > 1 else "Launch one run"


def _taken_away(ablation: Ablation) -> None:
    with st.expander("Take these runs away: YAML", icon=":material/description:"):
        written = starts.written(ablation)
        st.code(written, language=None, height=300)
        name = f"{ablation.name}.yaml"
        parts.download("Download", written, name, "application/yaml", key="take runs")


def _listed(runs: Sequence[RunConfig]) -> None:
    """Show which runs a job would have, by family of method, and what each changes."""
    fields = [config.model_dump(mode="json") for config in runs]
    words = [tables.difference_in_words(fields[0], other) for other in fields[1:]]
    frame = pd.DataFrame(
        {
            "Family": [starts.group(config) or text.NOTHING for config in runs],
            "Run": [config.name for config in runs],
            "Differs from the baseline in": ["the baseline", *words],
            "Steps": [config.training.steps for config in runs],
        }
    )
    height = "content" if len(runs) <= 12 else 460
    st.dataframe(frame, hide_index=True, height=height, alt="The runs of this job, and what each changes")
    if len(runs) > 1:
        st.caption("One job: the teacher listens once for all of them.")


def _one(preset: str, ablation: Ablation, configs: tuple[RunConfig, ...], run: RunRecord | None) -> None:
    offered = starts.starts(ablation, configs)
    if run:
        offered = {"clone": starts.Start(f"As before · {run.name} · {run.id}", None, run.config), **offered}
    key = state.choice("method", list(offered), default="clone" if run else "manifold")
    chosen = st.selectbox(
        "Method",
        list(offered),
        format_func=lambda name: offered[name].label,
        help="By family. Type to search.",
        key=key,
        width=420,
    )
    chosen = state.chosen("method", chosen)
    base, of_base = offered[starts.BASELINE].fields, f"{starts.METHODS[starts.BASELINE].name}, on this preset's base"
    if run and chosen == "clone":
        base, of_base = offered["clone"].fields, f"the run {run.id}"
    if method := offered[chosen].method:
        with st.container(border=True):
            st.markdown(f"**{text.plain(method.meaning)}**")
            st.code(method.formula, language=None, wrap_lines=True)
            st.caption(f"Source: {text.plain(method.source)}")
    # What is read from YAML replaces the form's first values; another number makes its widgets anew.
    place = f"{preset}:{run.id if run else None}:{chosen}"
    draft, number = state.kept(f"draft:{place}", (offered[chosen].fields, 0))
    with st.container(border=True):
        filled = settings_form(
            RunConfig,
            draft,
            key=f"form:{place}:{number}",
            visible=VISIBLE,
            folded=FOLDED,
            asked=ASKED,
            offered={"teachers.*.model": _teachers(draft)},
            noted=dict.fromkeys(MANIFESTS, manifest_in_words),
        )
        if len(filled.values["teachers"]) > 1:
            said = teachers.share(filled.values["ensemble"], len(filled.values["teachers"]))
            st.caption(text.plain(f"{len(filled.values['teachers'])} teachers. {said}"))
    problems: list[Problem] = []
    config = None
    try:
        config = parse_run(filled.values)
    except ConfigError as error:
        # A layer that is no number does not hide one that the teacher lacks.
        problems = [*error.problems, *layer_problems(filled.values)] or [Problem("", error.summary)]
    tried = f"tried:{place}:{number}"
    # What nobody has filled in yet is no mistake of theirs before they try to go on.
    missing = [] if state.kept(tried) else filled.missing(problems)
    problems = [problem for problem in problems if problem not in missing]
    filled.show(problems)
    # Below the form: what grows while somebody types must not push away the field that is typed in.
    _differences(filled.values, base=base, of_base=of_base)
    if problems:
        checks.list_mistakes(filled.named(problems))
    launching.show(
        [config] if config else [],
        name=config.name if config else "",
        problems=problems,
        missing=missing,
        tried=lambda: state.keep(tried, True),
        filled=filled,
    )
    _yaml(filled.values, lambda fields: state.keep(f"draft:{place}", (fields, number + 1)))


def _teachers(draft: Mapping[str, Any]) -> dict[str, str]:
    """Return the models that may teach: those that the settings name, and the students of finished runs."""
    named = [teacher["model"] for teacher in draft.get("teachers") or [] if teacher.get("model")]
    usual = RunConfig.model_fields["teachers"].default[0].model
    runs = state.studio().store.runs(limit=100)
    return {**{name: name for name in (*named, usual)}, **teachers.offered(runs)}


def _differences(values: Mapping[str, Any], *, base: Mapping[str, Any], of_base: str) -> None:
    """Show what a run changes against a baseline: the transcripts alone, or what it repeats."""
    frame = tables.differences(base, values)
    if frame.empty:
        st.caption(f"The same settings as the baseline, {text.plain(of_base)}.")
        return
    st.markdown("**Differs from the baseline in**")
    frame = frame.rename(columns={"Baseline": f"Baseline, {of_base.split(', on')[0]}"})
    st.dataframe(frame, hide_index=True, height="content", alt="Settings that differ from the baseline")


def _yaml(values: Mapping[str, Any], load: Callable[[dict[str, Any]], None]) -> None:
    """Let the settings be taken away as YAML, and be read from it."""
    with st.expander("As a file: take these settings away, or bring some in", icon=":material/description:"):
        away, in_ = st.columns(2, gap="large")
        with away:
            written = dump_text(values)
            st.code(written, language=None, height=300)
            parts.download("Download", written, "run.yaml", "application/yaml", key="take run")
        with in_:
            uploaded = st.file_uploader("A YAML file of a run", type=["yaml", "yml", "json"], max_upload_size=1)
            typed = st.text_area("Or its text", height=200, key="yaml", persist_state="session")
            if not st.button("Read into the form", icon=":material/upload:"):
                return
            content = uploaded.getvalue().decode("utf-8", errors="replace") if uploaded else typed
            try:
                config = parse_run(parse_text(content), name="the file")
            except ConfigError as error:
                checks.list_mistakes(error.problems or [Problem("", error.summary)])
            else:
                load(config.model_dump(mode="json"))
                st.rerun()


if __name__ == "__main__":
    with state.sentences():
        show()
