"""Whether the models that runs name can be had, told before anything is started. Nothing is loaded; no torch here."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from core.config import ROW, RUN, RunConfig
from core.errors import ManifoldError, ModelError, Problem
from core.paths import is_folder
from core.store import ACTIVE, RunRecord, Store
from core.weights import Hub, require_available

Check = Callable[[str, str | None], str | None]
"""Returns why a model, of a name and a revision, cannot be had; None where it can."""


def unavailable_models(
    configs: Sequence[RunConfig], *, store: Store, runs_folder: Path, hub: Hub | None = None
) -> list[Problem]:
    """Return which teachers and students cannot be had, each once, with what to do.

    A folder must hold a model, a finished run its adapters and what its student was cut from, and a Hub id must be in
    an installed package, in the cache, or on the Hub, which is asked last and waited for a few seconds at most.

    Args:
        configs: The runs of one job; `row:NAME` names an earlier one of them.
        store: Where other runs are.
        runs_folder: Where their adapters are.
        hub: Which Hub to ask; the usual one by default.
    """
    known: dict[tuple[str, str | None], str | None] = {}

    def why_not(model: str, revision: str | None) -> str | None:
        if (model, revision) not in known:
            known[model, revision] = _why_not(model, revision, store=store, runs_folder=runs_folder, hub=hub)
        return known[model, revision]

    found: dict[Problem, None] = {}
    for number, config in enumerate(configs):
        rows = {each.name for each in configs[:number]}
        for where, model, revision in _named(config):
            if model.startswith(ROW):
                name = model.removeprefix(ROW)
                reason = None if name in rows else no_row(name)
            else:
                reason = why_not(model, revision)
            if reason is not None:
                found[Problem(where, reason)] = None
    return list(found)


def require_taught(run: RunRecord, *, runs_folder: Path) -> Path:
    """Return the adapters of a run whose student can teach.

    Raises:
        ModelError: If it has not finished, or its adapters are gone.
    """
    if run.state != "finished":
        remedy = "Wait until it has finished" if run.state in ACTIVE else "Start it again, or name another run"
        raise ModelError(
            f"The run {run.id} ({run.name}) is {run.state}: only a finished run's student can teach. {remedy}."
        )
    adapters = runs_folder / run.id / "adapters" / "best"
    if not is_folder(adapters):
        raise ModelError(
            f"The adapters of the run {run.id} ({run.name}) are gone from {adapters}. Put them back, start the run "
            "again, or name another one."
        )
    return adapters


def no_row(name: str) -> str:
    """Return what to do where a row is named that is not there."""
    return (
        f"There is no earlier row '{name}' to learn from. Rows know each other within one ablation: look at it as a "
        "whole, or name a finished run (run:ID)."
    )


def _named(config: RunConfig) -> Iterator[tuple[str, str, str | None]]:
    """Yield field, name and revision of each model of a run."""
    for number, teacher in enumerate(config.teachers):
        yield f"teachers.{number}.model", teacher.model, teacher.revision
    if config.student.model is not None:
        yield "student.model", config.student.model, getattr(config.student, "revision", None)


def _why_not(model: str, revision: str | None, *, store: Store, runs_folder: Path, hub: Hub | None) -> str | None:
    try:
        if not model.startswith(RUN):
            require_available(model, revision, hub=hub)
            return None
        run = store.run(model.removeprefix(RUN))
        require_taught(run, runs_folder=runs_folder)
    except ManifoldError as error:
        return str(error)
    config = RunConfig.model_validate(run.config)
    base, first = config.student.model, config.teachers[0]
    source = (first.model, first.revision) if base is None else (base, getattr(config.student, "revision", None))
    if source[0].startswith(ROW):
        of_job = {each.name: each.id for each in store.runs(job_id=run.job_id)}
        name = source[0].removeprefix(ROW)
        if name not in of_job:
            return no_row(name)
        source = f"{RUN}{of_job[name]}", None
    reason = _why_not(*source, store=store, runs_folder=runs_folder, hub=hub)
    return reason and f"The student of the run {run.id} ({run.name}) was made from {source[0]}. {reason}"
