"""What the app asks of the analysis worker: maps, and checks of settings that need torch."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table, insert, or_, select, update

from core.errors import NotFoundError
from core.store.costs import Estimate
from core.store.reads import Reads
from core.store.records import CheckRecord, Level, MapRecord, Side, config_hash
from core.store.tables import checks, maps

MOST_ATTEMPTS = 2
"""A request whose worker dies this often is given up, so that it cannot kill one worker after the other."""


class Requests(Reads):
    """The side of the store that holds requests and their answers."""

    def request_map(
        self, run_id: str, side: Side, student_layer: int, teacher_layer: int, step: int, level: Level
    ) -> MapRecord:
        """Ask for a map; one that was asked for before is returned as it is, unless it failed."""
        place = {
            "run_id": run_id,
            "side": side,
            "student_layer": student_layer,
            "teacher_layer": teacher_layer,
            "step": step,
            "level": level,
        }
        self.run(run_id)
        with self._write() as connection:
            same = [maps.c[name] == value for name, value in place.items()]
            map_id = connection.execute(select(maps.c.id).where(*same)).scalar()
            if map_id is None:
                query = insert(maps).values(**place, state="queued", created_at=datetime.now(UTC))
                map_id = connection.execute(query).lastrowid
            else:
                again = update(maps).where(maps.c.id == map_id, maps.c.state == "failed")
                connection.execute(again.values(state="queued", message="", attempts=0))
        return self.map(map_id)

    def map(self, map_id: int) -> MapRecord:
        """Return one map."""
        return MapRecord(**self._one(maps, map_id, "map"))

    def maps(self, run_id: str) -> list[MapRecord]:
        """Return the maps of a run, oldest first."""
        return [MapRecord(**row) for row in self._rows(select(maps).where(maps.c.run_id == run_id).order_by(maps.c.id))]

    def claim_map(self) -> MapRecord | None:
        """Take the oldest map that waits, or None."""
        claimed = self._claim(maps)
        return None if claimed is None else self.map(claimed)

    def finish_map(
        self,
        map_id: int,
        *,
        path: str,
        trustworthiness: float | None,
        points: int,
        points_total: int,
        how: str,
        seconds: float,
    ) -> None:
        """Store where a map is and what it is worth; see MapRecord."""
        fields = {name: value for name, value in locals().items() if name not in ("self", "map_id")}
        self._set(maps, map_id, state="finished", message="", **fields)

    def fail_map(self, map_id: int, message: str) -> None:
        """Say why there is no map, in a sentence."""
        self._set(maps, map_id, state="failed", message=message)

    def request_check(
        self, config: dict[str, Any], *, measure: bool = False, rows: Sequence[dict[str, Any]] = ()
    ) -> CheckRecord:
        """Ask for a look at settings.

        Args:
            config: A run.
            measure: Ask for time and memory, too.
            rows: The runs that it learns from, where these are earlier rows of the same ablation.
        """
        return self._add_check(config, rows=rows, measure=measure, state="queued")

    def add_check(self, config: dict[str, Any], result: dict[str, Any], *, measure: bool) -> CheckRecord:
        """Store a look at settings that was taken elsewhere."""
        return self._add_check(config, measure=measure, state="finished", result=result)

    def newest_estimate(self, config_hash: str) -> Estimate | None:
        """Return what was measured last for settings, or None where nothing was."""
        query = select(checks.c.result).where(
            checks.c.config_hash == config_hash, checks.c.state == "finished", checks.c.measure
        )
        for row in self._rows(query.order_by(checks.c.id.desc())):
            if row["result"].get("estimate"):
                return Estimate(**row["result"]["estimate"])
        return None

    def check(self, check_id: int) -> CheckRecord:
        """Return one check."""
        return CheckRecord(**self._one(checks, check_id, "check"))

    def claim_check(self) -> CheckRecord | None:
        """Take the oldest check that waits, or None."""
        claimed = self._claim(checks)
        return None if claimed is None else self.check(claimed)

    def finish_check(self, check_id: int, result: dict[str, Any]) -> None:
        """Store what the check found."""
        self._set(checks, check_id, state="finished", message="", result=result)

    def fail_check(self, check_id: int, message: str) -> None:
        """Say why the settings cannot be checked or used, in a sentence."""
        self._set(checks, check_id, state="failed", message=message)

    def requests_open(self) -> bool:
        """Return whether any map or check waits or is being made."""
        with self._read() as connection:
            for table in (checks, maps):
                query = select(table.c.id).where(table.c.state.in_(("queued", "running"))).limit(1)
                if connection.execute(query).first():
                    return True
        return False

    def requeue_requests(self, message: str) -> None:
        """Put back what a dead analysis worker left half done; give up, with the message, what killed too many."""
        with self._write() as connection:
            for table in (checks, maps):
                left = update(table).where(table.c.state == "running")
                connection.execute(
                    left.where(table.c.attempts >= MOST_ATTEMPTS).values(state="failed", message=message)
                )
                connection.execute(left.values(state="queued"))

    def _add_check(self, config: dict[str, Any], *, rows: Sequence[dict[str, Any]] = (), **fields: Any) -> CheckRecord:
        with self._write() as connection:
            query = insert(checks).values(
                config={**config, "rows": list(rows)} if rows else config,
                config_hash=config_hash(config),
                created_at=datetime.now(UTC),
                **fields,
            )
            check_id = connection.execute(query).lastrowid
        return self.check(check_id)

    def _claim(self, table: Table) -> int | None:
        first = select(table.c.id).where(table.c.state == "queued").order_by(table.c.id).limit(1)
        if not self._rows(first):
            return None
        with self._write() as connection:
            request_id = connection.execute(first).scalar()
            if request_id is not None:
                taken = update(table).where(table.c.id == request_id)
                connection.execute(taken.values(state="running", attempts=table.c.attempts + 1))
            return request_id

    def _set(self, table: Table, request_id: int, **fields: Any) -> None:
        with self._write() as connection:
            waiting = or_(table.c.state == "queued", table.c.state == "running")
            connection.execute(update(table).where(table.c.id == request_id, waiting).values(**fields))

    def _one(self, table: Table, request_id: int, noun: str) -> dict[str, Any]:
        found = self._rows(select(table).where(table.c.id == request_id))
        if not found:
            raise NotFoundError(f"There is no {noun} {request_id}.")
        return found[0]
