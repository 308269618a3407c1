"""A job's rows out of one database and into another, with everything that hangs on it by foreign keys.

Which tables these are follows from their foreign keys, so that a new table or column travels unasked.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import count, groupby
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Float,
    ForeignKey,
    Integer,
    String,
    Table,
    TypeDecorator,
    func,
    insert,
    select,
)

from core.errors import BundleError, StoreError
from core.store.database import Database
from core.store.tables import comparisons, jobs, maps, metadata, runs

ROWS_AT_ONCE = 500
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""JSON has no word for them."""

LARGEST = 2**63
"""SQLite's integers end here."""

Row = tuple[Table, dict[str, Any]]
"""A row with its table."""


def travelling() -> list[Table]:
    """Return the jobs' table and those that hang on it, each after the tables that it points to."""
    found = [jobs]
    for table in metadata.sorted_tables:
        if table is not jobs and any(key.column.table in found for key in _owners(table)):
            found.append(table)
    return found


class Transfer(Database):
    """The side of the store that gives whole jobs away and takes them in."""

    def rows_of_job(self, job_id: str) -> list[Row]:
        """Return all rows of a job, owners first, as they are at one moment; of what was asked for, what is there."""
        found: list[Row] = []
        with self._read() as connection:
            for table in travelling():
                query = select(table).where(_of_job(table, job_id)).order_by(*table.primary_key.columns)
                if table in (comparisons, maps):
                    query = query.where(table.c.state == "finished")
                found += [(table, dict(row)) for row in connection.execute(query).mappings()]
        return found

    def add_rows(self, rows: Iterable[Row], *, last: Callable[[], None] = lambda: None) -> None:
        """Store all rows of a job that is not here yet, or none of them.

        Args:
            rows: Owners first, a table's together. Ids that are numbers are given anew; those of jobs and runs stay.
            last: Called when all rows are in, before they are there for others; when it raises, none of them is kept.

        Raises:
            BundleError: If a row points to one that did not come with it.
            StoreError: If the job or one of its runs is here already.
        """
        ids: dict[Table, dict[Any, Any]] = {}
        with self._write() as connection:
            for table, group in groupby(rows, key=lambda row: row[0]):
                known = ids.setdefault(table, {})
                fresh = _fresh(connection, table)
                batch = []
                for _, row in group:
                    batch.append(_adopted(table, row, ids, known, fresh))
                    if len(batch) == ROWS_AT_ONCE:
                        connection.execute(insert(table), batch)
                        batch = []
                if table in (jobs, runs):
                    _require_absent(connection, table, list(known))
                if batch:
                    connection.execute(insert(table), batch)
            last()


def as_json(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with nothing in it that JSON lacks."""
    return {column.name: _plain(row[column.name]) for column in table.columns}


def from_json(table: Table, fields: Any) -> dict[str, Any]:
    """Return a row from JSON, every field of it checked against its column.

    A column that is younger than the row has its default.

    Raises:
        BundleError: If the fields are not those of the table.
    """
    if not isinstance(fields, dict) or not fields.keys() <= {column.name for column in table.columns}:
        raise BundleError(f"A row of {table.name} has fields that this version does not know.")
    return {column.name: _value(table, column, fields) for column in table.columns}


def _owners(table: Table) -> list[ForeignKey]:
    """Return the foreign keys without which a row could not be."""
    keys = [key for key in table.foreign_keys if not key.parent.nullable]
    return sorted(keys, key=lambda key: key.parent.name)


def _of_job(table: Table, job_id: str) -> ColumnElement[bool]:
    if table is jobs:
        return jobs.c.id == job_id
    owner = _owners(table)[0]
    return owner.parent.in_(select(owner.column).where(_of_job(owner.column.table, job_id)))


def _numbered(table: Table) -> bool:
    """Return whether the database gives a table's ids."""
    return "id" in table.columns and isinstance(table.c.id.type, Integer)


def _fresh(connection: Connection, table: Table) -> Iterator[int]:
    if not _numbered(table):
        return iter(())
    return count((connection.execute(select(func.max(table.c.id))).scalar() or 0) + 1)


def _adopted(
    table: Table, row: dict[str, Any], ids: dict[Table, dict[Any, Any]], known: dict[Any, Any], fresh: Iterator[int]
) -> dict[str, Any]:
    """Return a row with the ids that it has here, and note its own."""
    row = dict(row)
    for key in table.foreign_keys:
        owner = row[key.parent.name]
        if owner is not None:
            if owner not in ids.get(key.column.table, {}):
                raise BundleError(
                    f"A row of {table.name} belongs to {key.column.table.name} '{owner}', which is not here."
                )
            row[key.parent.name] = ids[key.column.table][owner]
    if "id" in table.columns:
        own = row["id"]
        if own in known:
            raise BundleError(f"Two rows of {table.name} are called '{own}'.")
        row["id"] = known[own] = next(fresh) if _numbered(table) else own
    return row


def _require_absent(connection: Connection, table: Table, ids: list[str]) -> None:
    """Refuse a job that is here already, and say where it is found: in the lists, or in the bin."""
    here = connection.execute(select(table.c.id, table.c.name).where(table.c.id.in_(ids))).first()
    if here is None:
        return
    own = runs.c.job_id if table is jobs else runs.c.id
    binned = connection.execute(select(runs.c.deleted_at.is_not(None)).where(own == here.id)).scalars().all()
    said = f"The {table.name.removesuffix('s')} {here.id}, '{here.name}', is here already"
    if all(binned) and binned:
        what = "its runs lie" if table is jobs else "it lies"
        raise StoreError(f"{said}: {what} in the bin, and can be taken out of it there. Nothing was changed.")
    some = (
        f" {sum(binned)} of its {len(binned)} runs lie in the bin, and can be taken out of it there."
        if any(binned)
        else ""
    )
    raise StoreError(f"{said}; nothing was changed.{some}")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _value(table: Table, column: Column[Any], fields: dict[str, Any]) -> Any:
    value = fields.get(column.name)
    if column.name not in fields and column.default is not None:
        default: Any = column.default.arg  # pyright: ignore[reportAttributeAccessIssue]
        return default(None) if callable(default) else default
    if value is None:
        if column.nullable:
            return None
        raise BundleError(f"A row of {table.name} lacks its {column.name}.")
    try:
        return _typed(column, value)
    except (ValueError, OverflowError):
        raise BundleError(f"A row of {table.name} has a {column.name} that cannot be: {str(value)[:60]!r}.") from None


def _typed(column: Column[Any], value: Any) -> Any:
    """Return a value that is not None as its column has it; ValueError if it has another type."""
    kind = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    if isinstance(kind, DateTime):
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
        if moment.tzinfo is not None:
            return moment
    elif isinstance(kind, Boolean):
        if isinstance(value, bool):
            return value
    elif isinstance(kind, Integer):
        if isinstance(value, int) and not isinstance(value, bool) and -LARGEST <= value < LARGEST:
            return value
    elif isinstance(kind, Float):
        value = NOT_FINITE.get(value, value) if isinstance(value, str) else value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(kind, String):
        # UnicodeEncodeError, which is a ValueError, where half a character cannot be stored.
        if isinstance(value, str) and "\0" not in value and value.encode("utf-8") is not None:
            return value
    else:  # JSON
        return value
    raise ValueError
