"""Maps, comparisons and looks at settings: asked for here, and made by the analysis worker, a process of its own."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.access import Access
from core.alignment.map_files import MapPoints, map_places, read_map
from core.alignment.results import has_spread
from core.launchers.local import LocalLauncher
from core.launchers.slots import ANALYSIS, analysis_slots, slot_taken
from core.paths import is_file
from core.store import CheckRecord, ComparisonRecord, MapRecord, RunRecord, Store
from core.store.records import Level, Side, teacher_states

START_SECONDS = 10.0


class AnalysisRequests:
    """The part of the studio that asks the analysis worker and reads what it made.

    Attributes:
        store: The database, for everything that is only read.
        runs_folder: Where runs keep their files, absolute.
        access: What whoever uses this studio may do; each action looks at it.
    """

    def __init__(self, store: Store, runs_folder: Path, access: Access, launcher: LocalLauncher) -> None:
        """Take what the studio opened."""
        self.store, self.runs_folder, self.access = store, runs_folder, access
        self._launcher = launcher
        self._analysis_started = -START_SECONDS

    def request_map(
        self,
        run_id: str,
        side: Side,
        student_layer: int | None,
        teacher_layer: int | None,
        step: int | None,
        level: Level,
        *,
        teacher_number: int = 0,
        again: bool = False,
    ) -> MapRecord:
        """Ask for a map, or with None for aligned maps of all layers and steps; its record says when it is there.

        One that is there is drawn `again` on demand only; until then its picture stays.
        """
        self.access.require("measure")
        record = self.store.request_map(
            run_id, side, student_layer, teacher_layer, step, level, teacher_number=teacher_number, again=again
        )
        if record.state in ("queued", "running"):
            self._ensure_analysis_worker()
        return record

    def request_comparison(self, run_id: str, side: Side, step: int, *, teacher_number: int = 0) -> ComparisonRecord:
        """Ask how alike both sides are at a step, anew if an older version said it; its record says when it is done."""
        self.access.require("measure")
        record = self.store.request_comparison(run_id, side, step, teacher_number=teacher_number)
        if record.result is not None and not has_spread(record.result):
            record = self.store.request_comparison(run_id, side, step, teacher_number=teacher_number, again=True)
        if record.state in ("queued", "running"):
            self._ensure_analysis_worker()
        return record

    def has_states(self, run: RunRecord, teacher_number: int) -> bool:
        """Return whether a teacher's states are stored; once those of the first were only."""
        return is_file(self.runs_folder / run.probe_folder / teacher_states(teacher_number))

    def map_points(self, record: MapRecord, place: tuple[int, int, int] | None = None) -> MapPoints:
        """Read a finished map.

        Args:
            record: Of the map.
            place: Student layer, teacher layer and step, where the record is of all of them; None takes the first.

        Raises:
            StoreError: If its file is gone, cannot be read, or has no such place.
        """
        return read_map(self.runs_folder / record.path, place)

    def map_places(self, record: MapRecord) -> list[tuple[int, int, int]]:
        """Return of which layer pairs and steps a finished map has pictures; raises as `map_points` does."""
        return map_places(self.runs_folder / record.path)

    def map_made_at(self, record: MapRecord) -> datetime | None:
        """Return when the picture that a map has now was made; None before there is one."""
        path = self.runs_folder / record.path
        return datetime.fromtimestamp(path.stat().st_mtime, UTC) if record.path and is_file(path) else None

    def request_check(
        self, config: dict[str, Any], *, measure: bool = False, rows: Sequence[dict[str, Any]] = ()
    ) -> CheckRecord:
        """Ask for a look at settings that needs torch; its record says when it is done.

        Args:
            config: A RunConfig as plain dictionaries.
            measure: Take some real steps, too, for time and memory. A run of these settings that is started afterwards
                keeps what was found as its `estimate`.
            rows: The runs that it learns from, where these are earlier rows of the same ablation.
        """
        self.access.require("measure")
        record = self.store.request_check(config, measure=measure, rows=rows)
        self._ensure_analysis_worker()
        return record

    def _ensure_analysis_worker(self) -> None:
        # One that was just started has not taken its slot yet, and one that cannot start should not be started forever.
        waited = time.monotonic() - self._analysis_started
        if waited < START_SECONDS or slot_taken(analysis_slots(self.runs_folder), ANALYSIS):
            return
        self._analysis_started = time.monotonic()
        self._launcher.submit_analysis(
            database_url=self.store.url,
            runs_folder=self.runs_folder,
            log=self.runs_folder / "analysis" / "log.txt",
        )
