"""Scans of the layers of what students are cut from: one for each group of a job's runs."""

from dataclasses import asdict

from sqlalchemy import delete, insert, select

from core.store.database import Database
from core.store.records import LayerDistance, LayerScan
from core.store.tables import layer_distances, layer_scans


class LayerScans(Database):
    """The side of the store that keeps scans. Storing one again replaces it."""

    def add_layer_scan(self, job_id: str, group: int, scan: LayerScan) -> None:
        """Store the scan of a group of runs."""
        fields = {name: value for name, value in asdict(scan).items() if name != "distances"}
        with self._write() as connection:
            same = (layer_scans.c.job_id == job_id) & (layer_scans.c.group == group)
            connection.execute(delete(layer_scans).where(same))
            query = insert(layer_scans).values(job_id=job_id, group=group, **fields)
            key = connection.execute(query).inserted_primary_key
            assert key is not None
            rows = [{"scan_id": key[0], **asdict(each)} for each in scan.distances]
            if rows:
                connection.execute(insert(layer_distances), rows)

    def layer_scan(self, job_id: str, group: int = 0) -> LayerScan | None:
        """Return the scan of a group of runs; None where none was made."""
        wanted = (layer_scans.c.job_id == job_id) & (layer_scans.c.group == group)
        order = (layer_distances.c.side.desc(), layer_distances.c.first, layer_distances.c.last)
        with self._read() as connection:
            found = connection.execute(select(layer_scans).where(wanted)).mappings().first()
            if found is None:
                return None
            query = select(layer_distances).where(layer_distances.c.scan_id == found["id"]).order_by(*order)
            rows = connection.execute(query).mappings().all()
        distances = tuple(LayerDistance(**{k: v for k, v in row.items() if k != "scan_id"}) for row in rows)
        left_out = ("id", "job_id", "group")
        return LayerScan(**{k: v for k, v in found.items() if k not in left_out}, distances=distances)
