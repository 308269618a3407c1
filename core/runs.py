"""The front door that the app and the command line share: start, watch, stop and compare runs."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import reduce
from operator import add
from pathlib import Path

from core.ablation import AblationRow, AblationTable, Compared, ReferenceRow, ablation_table
from core.access import OWNER, Access
from core.alignment.map_files import NEIGHBOURS, MapPoints
from core.analysis_requests import AnalysisRequests
from core.boot import uptime
from core.comparison import ComparedRun, Comparison, compare, how_measured, mean_angle
from core.config import RunConfig, group_problems, groups, read_preset
from core.errors import (
    ConfigError,
    DatabaseGoneError,
    JobError,
    ManifoldError,
    Problem,
    StoreError,
    UnwritableError,
)
from core.first_look import first_look, layer_problems
from core.launchers.liveness import (
    GRACE_SECONDS,
    end_by_force,
    interrupt_dead_jobs,
    kill_overdue_jobs,
    process_of,
    stalls,
)
from core.launchers.local import LocalLauncher
from core.launchers.process import terminate
from core.leftovers import remove_unfinished
from core.model_sources import unavailable_models
from core.paths import expanded, resolved
from core.run_files import ProbeUtterance, log_tail, probe_utterances
from core.scaling.fit import read_calibration
from core.scaling.plan import Plan, Size, plan
from core.scaling.rows import last_group
from core.storage_problems import storage_problems
from core.store import (
    ACTIVE,
    AlignmentRecord,
    CheckRecord,
    ComparisonRecord,
    Estimate,
    EvaluationRecord,
    JobEstimate,
    JobRecord,
    LayerScan,
    MapRecord,
    Metric,
    ParameterCounts,
    RunRecord,
    RunSummary,
    Store,
    UtteranceResult,
)
from core.store.database import identity
from core.store.files import make_folder_private
from core.wer import WordChange, word_difference

__all__ = [
    "ACTIVE",
    "GRACE_SECONDS",
    "NEIGHBOURS",
    "AblationRow",
    "AblationTable",
    "AlignmentRecord",
    "CheckRecord",
    "Compared",
    "ComparedRun",
    "Comparison",
    "ComparisonRecord",
    "Estimate",
    "EvaluationRecord",
    "JobEstimate",
    "JobRecord",
    "LayerScan",
    "MapPoints",
    "MapRecord",
    "Metric",
    "ParameterCounts",
    "Plan",
    "ProbeUtterance",
    "ReferenceRow",
    "RunRecord",
    "RunSummary",
    "Size",
    "Studio",
    "UtteranceResult",
    "WordChange",
    "expected",
    "how_measured",
    "layer_problems",
    "mean_angle",
    "word_difference",
]

NOW_SECONDS = 10.0
"""A job that is killed at once is killed by others, too, where whoever asked for it did not get so far."""

REFRESH_SECONDS = 0.5
"""So long a look at the state of things waits for a writer; what cannot be written then is written at a later one."""


class Studio(AnalysisRequests):
    """Runs in one database and one folder.

    Safe to share between threads. Closing it, or the end of its process, stops nothing: workers are processes of
    their own, and the database is the truth about them.

    Attributes:
        store: The database, for everything that is only read.
        runs_folder: Where runs keep their files, absolute.
        access: What whoever uses this studio may do; each action looks at it.
    """

    def __init__(
        self,
        database_url: str,
        runs_folder: Path,
        *,
        launcher: LocalLauncher | None = None,
        access: Access = OWNER,
    ) -> None:
        """Open the database and make the folder.

        Args:
            database_url: Of the database; see Store.open.
            runs_folder: Made if it is not there.
            launcher: What starts workers.
            access: What may be done. Whoever can write the database's file may do everything, as the command line;
                whoever comes by the network is given what their token allows.

        Raises:
            StoreError: If either cannot be used.
        """
        self.runs_folder = resolved(expanded(runs_folder))
        try:
            self.runs_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The folder {self.runs_folder} cannot be made ({error.strerror}). Give another one with --runs."
            ) from error
        self._folder_identity = identity(self.runs_folder)
        self._private = make_folder_private(self.runs_folder)
        self._refused = ""
        super().__init__(Store.open(database_url), self.runs_folder, access, launcher or LocalLauncher())
        with suppress(UnwritableError):
            self._look_after_jobs()
        remove_unfinished(self.runs_folder, self.store)

    def close(self) -> None:
        """Close the database; runs go on."""
        self.store.close()

    def start(self, configs: Sequence[RunConfig], *, name: str, expectation: str = "") -> JobRecord:
        """Store runs as one job, then start its worker, which waits for its turn.

        Args:
            configs: One per run; the first is the baseline. See core.config.group_problems for what they share.
            name: What the job is called in lists.
            expectation: What its starter expects of it, in their words; kept, and shown beside what happened.

        Returns:
            The job; it is failed, with a sentence, when no worker could be started.

        Raises:
            ConfigError: If the runs cannot be one job, or a first look finds what would end them before they begin.
        """
        self.access.require("start")
        _require_one_job(configs)
        self._require_folder()
        problems = [*first_look(configs, runs_folder=self.runs_folder), *self.unavailable_models(configs)]
        if problems:
            raise ConfigError("These runs cannot start; nothing was started:", problems)
        job = self.store.create_job(name, configs, launcher=self._launcher.name, expectation=expectation)
        for run in self.store.runs(job_id=job.id):
            # What was measured of the same settings is kept with the run, to stand beside what happens.
            estimate = self.store.newest_estimate(run.config_hash)
            if estimate is not None:
                self.store.set_estimate(run.id, estimate)
        log = self.log_path(job.id)
        self.store.set_log_path(job.id, str(log))
        try:
            process = self._launcher.submit(job.id, database_url=self.store.url, runs_folder=self.runs_folder, log=log)
        except ManifoldError as error:
            self.store.job_state(job.id, "failed", str(error))
        else:
            # The worker says the same once it runs; said here, one that dies before is noticed as well.
            self.store.job_started(job.id, process.pid, process.boot_id, process.started)
        return self.store.job(job.id)

    def unavailable_models(self, configs: Sequence[RunConfig]) -> list[Problem]:
        """Return which models of a job's runs cannot be had, with what to do; see core.model_sources."""
        return unavailable_models(configs, store=self.store, runs_folder=self.runs_folder)

    def start_quick_start(self) -> JobRecord:
        """Start the ablation that ships with the project."""
        self.access.require("start")
        name, configs = self.quick_start()
        return self.start(configs, name=name)

    def quick_start(self) -> tuple[str, tuple[RunConfig, ...]]:
        """Return name and runs of the quick start, with the recorded speech that is on this machine as extra tests."""
        from core.sources import quick_start_tests

        ablation, configs = read_preset("quickstart")
        extra = tuple(map(str, quick_start_tests(self.runs_folder / "data")))
        return ablation.name, tuple(
            config.model_copy(
                update={
                    "evaluation": config.evaluation.model_copy(
                        update={"extra_tests": (*extra, *config.evaluation.extra_tests)}
                    )
                }
            )
            for config in configs
        )

    def stop(self, job_id: str, *, now: bool = False, grace_seconds: float = GRACE_SECONDS) -> JobRecord:
        """Stop a job: a waiting one at once, a working one at its next step, which keeps what it has.

        Args:
            job_id: The job; one that has ended stays as it is.
            now: Do not wait: kill its process and all that it started.
            grace_seconds: After this long the same happens to a job that has not reached its next step, at the next
                `refresh` of any studio; `manifold serve` and `manifold stop` refresh all the time.
        """
        self.access.require("stop")
        # With a little time before others would end it, too.
        self.store.request_stop(job_id, stop_by=uptime() + (NOW_SECONDS if now else grace_seconds))
        job = self.store.job(job_id)
        process = process_of(job)
        if now and process is not None:
            message = "Stopped at once: what it was doing is lost, what was stored is kept."
            end_by_force(self.store, self.runs_folder, job, process, message)
        elif now:
            self.store.job_state(job_id, "stopped", "Stopped at once, before its worker began.")
        elif process is not None and job.active:
            terminate(process)
        return self.store.job(job_id)

    def stalls(self) -> dict[str, str]:
        """Return a sentence for each job and run that works but has got on with nothing for long, by their ids."""
        return stalls(self.store)

    def change_tags(self, run_ids: Sequence[str], *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Give tags to runs and take others away; see core.store.Labels."""
        self.access.require("label")
        self.store.change_tags(run_ids, add=add, remove=remove)

    def set_notes(self, run_id: str, notes: str) -> None:
        """Replace what is written about a run; see core.store.Labels."""
        self.access.require("label")
        self.store.set_notes(run_id, notes)

    def put_in_bin(self, run_ids: Sequence[str]) -> None:
        """Put runs that have ended in the bin; see core.store.Labels."""
        self.access.require("delete")
        self.store.put_in_bin(run_ids)

    def restore(self, run_ids: Sequence[str]) -> None:
        """Take runs out of the bin."""
        self.access.require("delete")
        self.store.restore(run_ids)

    def refresh(self) -> None:
        """Look after jobs: what dead workers left is stored, and what does not stop in its time is killed.

        Jobs of dead workers become interrupted, and an analysis worker that is needed is started again. A database that
        somebody else is writing to is left for the next time.

        Raises:
            StoreError: If the database or the folder of the runs is gone.
        """
        self._require_folder()
        self._refused = ""
        try:
            self._look_after_jobs()
            if self.store.requests_open():
                self._ensure_analysis_worker()
        except (UnwritableError, JobError) as error:
            # What is there can still be looked at; `trouble` says it.
            self._refused = str(error)

    def trouble(self) -> list[str]:
        """Return what is wrong with where runs are kept, a sentence each; see core.storage_problems."""
        return storage_problems(self.store, self.runs_folder, folder_is_private=self._private, refused=self._refused)

    def _look_after_jobs(self) -> None:
        hasty = self.store.waiting(REFRESH_SECONDS)
        try:
            ended = kill_overdue_jobs(hasty, self.runs_folder) + interrupt_dead_jobs(hasty, self.runs_folder)
            if ended:
                remove_unfinished(self.runs_folder, self.store)
        except (DatabaseGoneError, UnwritableError):
            raise
        except StoreError:
            pass  # the next look may get through

    def _require_folder(self) -> None:
        """Refuse to go on where the files of all runs are gone; the folder is not made anew, as if it had been empty.

        Raises:
            StoreError: If it was deleted or moved.
        """
        if identity(self.runs_folder) != self._folder_identity:
            raise StoreError(
                f"The folder of the runs, {self.runs_folder}, was deleted or moved while the studio was open. Put it "
                "back, or start the studio again."
            )

    def ablation(self, job_id: str, test_set: str | None = None, *, against: str | None = None) -> AblationTable:
        """Compare the runs of a job; see core.ablation.ablation_table."""
        return ablation_table(self.store, job_id, test_set, against=against)

    def compare(self, run_ids: Sequence[str]) -> Comparison:
        """Put runs of any jobs side by side; see core.comparison.compare."""
        return compare(self.store, run_ids)

    def log_path(self, job_id: str) -> Path:
        """Return where a job's output goes."""
        return self.runs_folder / "jobs" / job_id / "log.txt"

    def log_tail(self, job_id: str, lines: int = 40) -> str:
        """Return the last lines of a job's output; empty before there is any."""
        return log_tail(self.log_path(job_id), lines)

    def probe(self, job_id: str, group: int = 0) -> list[ProbeUtterance]:
        """Return the utterances whose states a group of a job's runs stores; see core.run_files."""
        return probe_utterances(self.runs_folder, job_id, group)

    def plan(self, configs: Sequence[RunConfig], size: Size) -> Plan | None:
        """Predict what a job of any size takes; None where the parts of this machine were not measured yet.

        Args:
            configs: Of which its students are made in turn; see core.scaling.plan.
            size: How large it is to be.

        Raises:
            ConfigError: With every number that cannot be, and every model whose shape is not known.
            StoreError: If what was measured cannot be read.
        """
        calibration = read_calibration(self.runs_folder)
        if calibration is None:
            return None
        last, rows = last_group(configs)
        return plan(last, size, calibration, rows=rows)

    def wait(self, job_id: str) -> JobRecord:
        """Wait until a job has ended, and return it; see `refresh`."""
        while (job := self.store.job(job_id)).active:
            time.sleep(0.5)
            self.refresh()
        return job

    def wait_for_maps(
        self, job_id: str, *, timeout_seconds: float, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> list[MapRecord]:
        """Wait until every map that was asked for of a job's runs is made or has failed, and return them.

        Args:
            job_id: Of which job.
            timeout_seconds: Return what there is after this long.
            progress: Called with the number of maps done and in all.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            maps = [record for run in self.store.runs(job_id=job_id) for record in self.store.maps(run.id)]
            done = sum(record.state in ("finished", "failed") for record in maps)
            progress(done, len(maps))
            if done == len(maps) or time.monotonic() > deadline:
                return maps
            self.refresh()
            time.sleep(0.5)


def expected(configs: Sequence[RunConfig], estimates: Sequence[Estimate | None]) -> JobEstimate | None:
    """Return what a job will take: its groups one after the other; None where nothing was measured.

    Args:
        configs: The runs.
        estimates: Of each, as far as they were measured.
    """
    jobs: list[JobEstimate] = []
    waiting = list(estimates)
    for group in groups(configs):
        known = [estimate for estimate in waiting[: len(group)] if estimate is not None]
        jobs += [JobEstimate.of(known)] if known else []
        del waiting[: len(group)]
    return reduce(add, jobs) if jobs else None


def _require_one_job(configs: Sequence[RunConfig]) -> None:
    if not configs:
        raise ConfigError("There is nothing to run. Give at least one run.")
    if problems := group_problems(configs):
        raise ConfigError("These runs cannot be one job. Start them separately, or make them agree:", problems)
