"""What is known of runs before they start: asking for it, waiting for it, and showing it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import costs, parts, state, text
from core.config import RunConfig, rows_needed
from core.errors import Problem
from core.runs import CheckRecord, Estimate, expected

ENDED = ("finished", "failed")
OF_THE_MACHINE = ("memory", "disk")
"""Where problems stand that are about the machine, not about a setting."""


@dataclass(frozen=True)
class Look:
    """What was asked about one run, and what is known.

    Attributes:
        config: The run.
        quick: The look at its models, if it was asked for.
        measured: The look with real steps, if it was asked for.
    """

    config: RunConfig
    quick: CheckRecord | None
    measured: CheckRecord | None

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.config.name

    @property
    def records(self) -> list[CheckRecord]:
        return [record for record in (self.measured, self.quick) if record is not None]

    @property
    def waits(self) -> bool:
        """Whether an answer is still to come."""
        return any(record.state not in ENDED for record in self.records)

    @property
    def result(self) -> dict[str, Any] | None:
        """The fullest answer so far; see core.checking.check."""
        return next((record.result for record in self.records if record.state == "finished"), None)

    @property
    def problems(self) -> list[Problem]:
        """What has to be corrected."""
        return [Problem(**problem) for problem in self.result["problems"]] if self.result else []

    @property
    def trouble(self) -> list[Problem]:
        """What has to be corrected, and why there is no answer, where the look itself failed."""
        return [*self.problems, *(Problem("", record.message) for record in self.records if record.state == "failed")]

    @property
    def estimate(self) -> Estimate | None:
        """What it will take, once it was measured."""
        found = self.result.get("estimate") if self.result else None
        return Estimate(**found) if found else None


def ask(configs: Sequence[RunConfig], *, measure: bool) -> None:
    """Ask the analysis worker about runs that it was not asked about yet; about all again, when it has answered."""
    known = _records()
    keys = [(config.model_dump_json(), measure) for config in configs]
    answered = all(key in known and known[key].state in ENDED for key in keys)
    for config, key in zip(configs, keys, strict=True):
        if answered or key not in known or known[key].state == "failed":
            rows = [each.model_dump(mode="json") for each in configs if each.name in rows_needed(config)]
            known[key] = state.studio().request_check(config.model_dump(mode="json"), measure=measure, rows=rows)


def looks(configs: Sequence[RunConfig]) -> list[Look]:
    """Return what this session asked about runs and what was answered; settings that changed were never asked about."""
    known = _records()
    return [
        Look(config, known.get((config.model_dump_json(), False)), known.get((config.model_dump_json(), True)))
        for config in configs
    ]


def _records() -> dict[tuple[str, bool], CheckRecord]:
    """Return the session's requests by settings and whether it is measured; those that are open are read anew."""
    records = state.kept("checks", {})
    for key, record in records.items():
        if record.state not in ENDED:
            records[key] = state.studio().store.check(record.id)
    state.keep("checks", records)
    return records


def show(configs: Sequence[RunConfig]) -> None:
    """Show what is known of runs; while answers are to come, as they come, without holding up the page."""
    found = looks(configs)
    if not any(look.records for look in found):
        if state.kept("checks"):
            st.caption("These settings were not checked yet.")
        return
    if any(look.waits for look in found):

        def part() -> bool:
            now = looks(configs)
            with st.container(border=True):
                _progress(now)
                _draw(now)
            return not any(look.waits for look in now)

        state.live(part, seconds=1.0)
        return
    with st.container(border=True):
        _draw(found)


def _progress(found: Sequence[Look]) -> None:
    asked = [(look.name, record) for look in found for record in look.records]
    ended = [record for _, record in asked if record.state in ENDED]
    working = next(((name, record) for name, record in asked if record.state == "running"), None)
    if working is None:
        said = "Waiting for the analysis worker; the first time it takes some seconds to start"
    else:
        name, record = working
        doing = "Measuring real steps of" if record.measure else "Looking at the models of"
        said = f"{doing} {text.plain(name)}"
    many = f" · {len(ended)} of {len(asked)}" if len(asked) > 1 else ""
    st.progress(len(ended) / len(asked), text=f"{said}{many}")
    if any(record.measure for _, record in asked):
        st.caption("Measuring takes half a minute or more for each run. You can go on here, or leave and come back.")


def _draw(found: Sequence[Look]) -> None:
    known = [look for look in found if look.result or look.trouble]
    if not known:
        return
    problems = _once([look.trouble for look in found], found)
    if problems:
        list_mistakes(problems)
    elif len(known) == len(found):
        many = "This run can start" if len(found) == 1 else f"These {len(found)} runs can start"
        st.markdown(f":green[:material/check_circle:] **{many}**")
    if len(found) == 1:
        _one(known[0].result or {})
    else:
        _several(found)
    _words([look.result for look in found if look.result])
    _machine(found)


def blocking(configs: Sequence[RunConfig]) -> list[Problem]:
    """Return what a check found that would end the runs before their first step; too little room is only foreseen."""
    found = looks(configs)
    return _once([[item for item in look.problems if item.where not in OF_THE_MACHINE] for look in found], found)


def _once(problems: Sequence[Sequence[Problem]], found: Sequence[Look]) -> list[Problem]:
    """Return each mistake once, with the runs that make it where not all of them do.

    Args:
        problems: Of each run.
        found: The runs.
    """
    runs: dict[Problem, list[str]] = {}
    for wrong, look in zip(problems, found, strict=True):
        for problem in wrong:
            runs.setdefault(problem, []).append(look.name)
    return [
        Problem(
            problem.where, problem.message if len(names) == len(found) else f"{problem.message} ({', '.join(names)})"
        )
        for problem, names in runs.items()
    ]


def list_mistakes(problems: Sequence[Problem]) -> None:
    """Show mistakes, all at once."""
    count = "One mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    lines = [
        f"- **{text.plain(problem.where)}** {text.plain(problem.message)}"
        if problem.where
        else f"- {text.plain(problem.message)}"
        for problem in problems
    ]
    st.error("\n".join([f"{count} to correct before it can start:", "", *lines]), icon=":material/error:")


def _one(result: Mapping[str, Any]) -> None:
    if "parameters" not in result:
        return
    counts = costs.counts_of(result["parameters"])
    parts.costs(counts)
    st.caption(text.plain(costs.adapted(result["adapted"], result["rank"], result.get("experts"))))
    _sources(result)


def _several(found: Sequence[Look]) -> None:
    frame = costs.checked([look.name for look in found], [look.result for look in found])
    numbers = [name for name in frame.columns if name not in ("Run", "Check")]
    empty = [name for name in numbers if set(frame[name]) == {text.NOTHING}]
    about = "Check, adapted modules, rank, parameters, time and memory of each run"
    parts.table(frame.drop(columns=empty), alt=about, numbers=numbers)
    first = next((look.result for look in found if look.result and "parameters" in look.result), None)
    if first is None:
        return
    counts = costs.counts_of(first["parameters"])
    lines = [f"Teacher: {text.count(counts.teacher)} parameters. Student: {text.count(counts.student)}"]
    lines[0] += f" ({text.percent(counts.student / counts.teacher)} of the teacher)."
    if counts.teacher_flops and counts.student_flops:
        flops = (counts.teacher_flops / 1e9, counts.student_flops / 1e9)
        lines.append(f"The teacher computes {flops[0]:.2f} GFLOP per second of audio, the student {flops[1]:.2f}.")
    st.caption(text.plain(" ".join(lines)))
    _sources(first)


def _sources(result: Mapping[str, Any]) -> None:
    tokens = result["tokens"]
    same = tokens["shared"] == tokens["student"] == tokens["teacher"]
    tables = f"token tables that share {text.count(tokens['shared'])} of {text.count(tokens['teacher'])} tokens"
    lines = [f"Weights from {result['origin']}."]
    lines.append(f"Teacher and student have {'one token table' if same else tables}.")
    if "gradients" in result:
        lines.append("Every term and every adapter has a gradient.")
    st.caption(text.plain(" ".join(lines)))


def _words(results: Sequence[Mapping[str, Any]]) -> None:
    """Say what makes the words that are counted, and what is to be known of it."""
    names = dict.fromkeys(result["normaliser"] for result in results if "normaliser" in result)
    if names:
        st.caption(text.plain(f"Words are counted by {'; '.join(names)}."))
    for note in dict.fromkeys(note for result in results for note in result.get("notes", ())):
        st.info(text.plain(f"{note[0].upper()}{note[1:]}."), icon=":material/translate:")


def _machine(found: Sequence[Look]) -> None:
    """Show time, memory and disk against what is free, as far as they were measured."""
    estimates = [look.estimate for look in found if look.estimate is not None]
    if not estimates:
        return
    if len(estimates) < len(found):
        st.caption(f"{len(estimates)} of {len(found)} runs were measured; the whole job is told once all are.")
        return
    job = expected([look.config for look in found], [look.estimate for look in found])
    assert job is not None
    longest = max(estimate.training_seconds for estimate in estimates)
    with st.container(horizontal=True):
        label = "Training time" if len(found) == 1 else "Training, longest run"
        st.metric(label, text.duration(longest), border=True)
        st.metric("The whole job", text.duration(job.seconds), border=True)
        _against("Peak memory", job.memory, job.memory_free)
        _against("Disk", job.disk, job.disk_free)
    first = estimates[0]
    said = [f"Measured on {first.device}: the median of {first.steps} steps is {first.step_seconds:.2f} s."]
    said.append(f"Transcribing an utterance takes {first.transcribe_seconds:.2f} s.")
    if any(estimate.busy for estimate in estimates):
        said.append("The machine had other work meanwhile: the times are too long.")
    st.caption(text.plain(" ".join(said)))


def _against(label: str, needed: int, free: int) -> None:
    short = needed > free
    about = f"{'more than' if short else 'of'} {text.size(free)} free"
    st.metric(
        label,
        text.size(needed),
        delta=about,
        delta_color="inverse" if short else "off",
        delta_arrow="off",
        border=True,
    )
