"""Curves of many runs, thinned where they are kept: by one seek a point, however long the runs were."""

from collections.abc import Sequence

from sqlalchemy import Integer, bindparam, func, select

from core.store.database import Database
from core.store.records import Metric
from core.store.tables import metrics

MOST_POINTS = 500


class Curves(Database):
    """The side of the store that reads curves for pictures."""

    def curve_names(self, run_ids: Sequence[str]) -> list[str]:
        """Return the names of all curves that any of the runs has, in the order of the alphabet."""
        with self._read() as connection:
            names = (
                name
                for run_id in dict.fromkeys(run_ids)
                for (name,) in connection.execute(_NAMES, {"run_id": run_id})
                if name is not None
            )
            return sorted(set(names))

    def curves(self, run_ids: Sequence[str], names: Sequence[str], *, most: int = MOST_POINTS) -> list[Metric]:
        """Return curves by run, name and step.

        Args:
            run_ids: The runs.
            names: Of the curves; those that a run does not have are left out.
            most: Points of each curve at most, evenly spread over its steps; the last one is always there.
        """
        found: list[Metric] = []
        with self._read() as connection:
            for run_id in dict.fromkeys(run_ids):
                for name in dict.fromkeys(names):
                    where = {"run_id": run_id, "name": name}
                    first, last = connection.execute(_ENDS, where).one()
                    if first is None:
                        continue
                    every = max(1, -(-(last - first) // max(1, most - 1)))
                    rows = connection.execute(_POINTS, {**where, "every": every}).all()
                    found += [Metric(run_id, name, step, value) for step, value in reversed(rows)]
        return found


_OF_RUN = metrics.c.run_id == bindparam("run_id")
_OF_CURVE = _OF_RUN & (metrics.c.name == bindparam("name"))

# Two seeks; a min and a max in one select would read the whole curve.
_ENDS = select(
    select(func.min(metrics.c.step)).where(_OF_CURVE).scalar_subquery(),
    select(func.max(metrics.c.step)).where(_OF_CURVE).scalar_subquery(),
)

# From each name a seek to the next.
_found = select(func.min(metrics.c.name).label("name")).where(_OF_RUN).cte("found", recursive=True)
_next = select(func.min(metrics.c.name)).where(_OF_RUN, metrics.c.name > _found.c.name).scalar_subquery()
_NAMES = select(_found.union_all(select(_next).where(_found.c.name.is_not(None))).c.name)

# From the last point a seek to the one that lies far enough before it, and so on.
_last = select(func.max(metrics.c.step).label("step")).where(_OF_CURVE).cte("places", recursive=True)
_before = (
    select(func.max(metrics.c.step))
    .where(_OF_CURVE, metrics.c.step <= _last.c.step - bindparam("every", type_=Integer))
    .scalar_subquery()
)
_places = _last.union_all(select(_before).where(_last.c.step.is_not(None)))
_value = select(metrics.c.value).where(_OF_CURVE, metrics.c.step == _places.c.step).scalar_subquery()
_POINTS = select(_places.c.step, _value).where(_places.c.step.is_not(None))
