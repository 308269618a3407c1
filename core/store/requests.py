"""What the app asks of the analysis worker: maps, comparisons, and checks that need torch."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table, insert, or_, select, update

from core.errors import NotFoundError
from core.store.costs import Estimate
from core.store.reads import Reads
from core.store.records import Level, Side, config_hash
from core.store.request_records import CheckRecord, ComparisonRecord, MapRecord
from core.store.tables import checks, comparisons, maps

MOST_ATTEMPTS = 2
"""A request whose worker dies this often is given up, so that it cannot kill one worker after the other."""


REQUESTS = (checks, comparisons, maps)


class Requests(Reads):
    """The side of the store that holds requests and their answers."""

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
        """Ask for a map; one that was asked for before is returned as it is, unless it failed.

        Args:
            run_id: The run.
            side: Of the models.
            student_layer: None, and None for the next two, asks for maps of all layer pairs and steps.
            teacher_layer: See above.
            step: See above.
            level: What a point is.
            teacher_number: Which teacher's states are mapped with the student's, from 0.
            again: Ask anew for one that is there, too.
        """
        place = {
            "run_id": run_id,
            "side": side,
            "student_layer": student_layer,
            "teacher_layer": teacher_layer,
            "step": step,
            "level": level,
            "teacher_number": teacher_number,
        }
        return self.map(self._ask(maps, place, again=again))

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
        kept: float | None = None,
        stratified: str = "",
    ) -> None:
        """Store where a map is and what it is worth; see MapRecord."""
        fields = {name: value for name, value in locals().items() if name not in ("self", "map_id")}
        self._set(maps, map_id, state="finished", message="", **fields)

    def fail_map(self, map_id: int, message: str) -> None:
        """Say why there is no map, in a sentence."""
        self._set(maps, map_id, state="failed", message=message)

    def request_comparison(
        self, run_id: str, side: Side, step: int, *, teacher_number: int = 0, again: bool = False
    ) -> ComparisonRecord:
        """Ask how alike student and a teacher are at a step; see `request_map` for what was asked for before."""
        place = {"run_id": run_id, "side": side, "step": step, "teacher_number": teacher_number}
        return self.comparison(self._ask(comparisons, place, again=again))

    def request_first_analysis(self, run_id: str) -> None:
        """Ask for what a run with encoder layers is shown with: its maps, and how alike both sides are at the end."""
        steps = [item.step for item in self.alignments(run_id)]
        if steps:
            self.request_map(run_id, "encoder", None, None, None, "utterances")
            self.request_comparison(run_id, "encoder", max(steps))

    def comparison(self, comparison_id: int) -> ComparisonRecord:
        """Return one comparison."""
        return ComparisonRecord(**self._one(comparisons, comparison_id, "comparison"))

    def comparisons(self, run_id: str) -> list[ComparisonRecord]:
        """Return the comparisons of a run, by side, step and teacher."""
        query = select(comparisons).where(comparisons.c.run_id == run_id)
        order = (comparisons.c.side, comparisons.c.step, comparisons.c.teacher_number)
        return [ComparisonRecord(**row) for row in self._rows(query.order_by(*order))]

    def claim_comparison(self) -> ComparisonRecord | None:
        """Take the oldest comparison that waits, or None."""
        claimed = self._claim(comparisons)
        return None if claimed is None else self.comparison(claimed)

    def finish_comparison(self, comparison_id: int, result: dict[str, Any]) -> None:
        """Store what was found."""
        self._set(comparisons, comparison_id, state="finished", message="", result=result)

    def fail_comparison(self, comparison_id: int, message: str) -> None:
        """Say why nothing was found, in a sentence."""
        self._set(comparisons, comparison_id, state="failed", message=message)

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
        """Return whether any request waits or is being answered."""
        with self._read() as connection:
            for table in REQUESTS:
                query = select(table.c.id).where(table.c.state.in_(("queued", "running"))).limit(1)
                if connection.execute(query).first():
                    return True
        return False

    def requeue_requests(self, message: str) -> None:
        """Put back what a dead analysis worker left half done; give up, with the message, what killed too many."""
        with self._write() as connection:
            for table in REQUESTS:
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

    def _ask(self, table: Table, place: dict[str, Any], *, again: bool = False) -> int:
        """Return the id of the request for a place; a new one waits, and one that failed, or any, waits again."""
        self.run(place["run_id"])
        with self._write() as connection:
            same = [table.c[name].is_not_distinct_from(value) for name, value in place.items()]
            request_id = connection.execute(select(table.c.id).where(*same)).scalar()
            if request_id is None:
                query = insert(table).values(**place, state="queued", created_at=datetime.now(UTC))
                return connection.execute(query).lastrowid
            ended = ("failed", "finished") if again else ("failed",)
            waits = update(table).where(table.c.id == request_id, table.c.state.in_(ended))
            connection.execute(waits.values(state="queued", message="", attempts=0))
            return request_id

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
