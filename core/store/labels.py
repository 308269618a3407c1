"""What people say of runs: tags, notes, and which of them are in the bin."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import select, update

from core.errors import JobError, NotFoundError, quoted
from core.names import cleaned, visible
from core.store.reads import Reads
from core.store.records import ACTIVE
from core.store.tables import runs

LONGEST_TAG = 40


class Labels(Reads):
    """The side of the store that people write on."""

    def change_tags(self, run_ids: Sequence[str], *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
        """Give tags to runs and take others away.

        Args:
            run_ids: The runs.
            add: Tags; white space around and within is made plain, a comma parts two tags, what is longer than 40
                letters is cut.
            remove: Tags as they are stored.
        """
        new, old = _tags(add), set(remove)
        with self._write() as connection:
            known = connection.execute(select(runs.c.id, runs.c.tags).where(runs.c.id.in_(run_ids))).all()
            for run_id, tags in known:
                kept = [tag for tag in tags if tag not in old]
                changed = [*kept, *(tag for tag in new if tag not in kept)]
                connection.execute(update(runs).where(runs.c.id == run_id).values(tags=changed))

    def set_notes(self, run_id: str, notes: str) -> None:
        """Replace what is written about a run.

        Raises:
            NotFoundError: If there is no such run.
        """
        with self._write() as connection:
            if (
                connection.execute(
                    update(runs).where(runs.c.id == run_id).values(notes=visible(notes).strip())
                ).rowcount
                == 0
            ):
                raise NotFoundError(f"There is no run {quoted(run_id)}.")

    def put_in_bin(self, run_ids: Sequence[str]) -> None:
        """Put runs that have ended in the bin; nothing is lost, and `restore` takes them out again.

        Raises:
            JobError: If one of them has not ended, naming all of those; then none is put there.
        """
        with self._write() as connection:
            chosen = runs.c.id.in_(run_ids)
            busy = connection.execute(select(runs.c.name).where(chosen, runs.c.state.in_(ACTIVE))).scalars().all()
            if busy:
                named = ", ".join(f"'{name}'" for name in busy)
                raise JobError(f"Not over yet: {named}. Stop the job first, then put its runs in the bin.")
            query = update(runs).where(chosen, runs.c.deleted_at.is_(None)).values(deleted_at=datetime.now(UTC))
            connection.execute(query)

    def restore(self, run_ids: Sequence[str]) -> None:
        """Take runs out of the bin."""
        with self._write() as connection:
            connection.execute(update(runs).where(runs.c.id.in_(run_ids)).values(deleted_at=None))


def _tags(given: Iterable[str]) -> list[str]:
    parts = (cleaned(part)[:LONGEST_TAG].strip() for text in given for part in text.split(","))
    return list(dict.fromkeys(part for part in parts if part))
