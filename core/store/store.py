"""The store: everything that can be read and written, on one database."""

from core.store.curves import Curves
from core.store.labels import Labels
from core.store.layer_scans import LayerScans
from core.store.lists import Lists
from core.store.requests import Requests
from core.store.results import Results
from core.store.transfer import Transfer
from core.store.writes import Writes


class Store(Writes, Results, Requests, Labels, LayerScans, Lists, Curves, Transfer):
    """One open database. Safe to share between threads; every process opens its own."""

    @classmethod
    def open(cls, url: str) -> "Store":
        """Open the database at an SQLAlchemy URL such as ``sqlite:///experiments.db``; a new file is made.

        Raises:
            StoreError: If it cannot be opened, with what to do.
        """
        return cls(url)

    def flush(self, seconds: float) -> bool:
        """Wait until the database has all that was stored; return whether it has. See `core.store.journaled`.

        Args:
            seconds: Longest wait.
        """
        return True
