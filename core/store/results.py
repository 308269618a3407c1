"""Results of runs: curves, parameter counts, evaluations, alignments."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import delete, insert
from sqlalchemy.dialects.sqlite import insert as insert_or_replace

from core.store.database import Database
from core.store.records import AlignmentRecord, EvaluationRecord, ParameterCounts, Subject, UtteranceResult
from core.store.tables import alignments, evaluations, metrics, parameters, utterance_results


class Results(Database):
    """The side of the store that keeps what runs found out. Storing a thing again replaces it."""

    def add_metrics(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Store one step of several curves."""
        self.add_points([(run_id, name, step, value) for name, value in values.items()])

    def add_curves(self, run_id: str, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        """Store whole curves, by name, as pairs of step and value."""
        self.add_points([(run_id, name, step, value) for name, points in curves.items() for step, value in points])

    def add_points(self, points: Sequence[tuple[str, str, int, float]]) -> None:
        """Store points of any curves: run, name, step and value."""
        if not points:
            return
        query = insert_or_replace(metrics)
        query = query.on_conflict_do_update(
            index_elements=["run_id", "name", "step"], set_={"value": query.excluded.value}
        )
        rows = [
            {"run_id": run_id, "name": name, "step": step, "value": float(value)}
            for run_id, name, step, value in points
        ]
        with self._write() as connection:
            connection.execute(query, rows)

    def set_parameters(self, run_id: str, counts: ParameterCounts) -> None:
        """Store the parameter counts of a run."""
        with self._write() as connection:
            connection.execute(delete(parameters).where(parameters.c.run_id == run_id))
            connection.execute(insert(parameters).values(run_id=run_id, **asdict(counts)))

    def add_evaluation(
        self,
        *,
        job_id: str,
        run_id: str | None,
        subject: Subject,
        test_set: str,
        test_set_hash: str,
        step: int | None,
        audio_context: float,
        normaliser: str,
        decoding: str,
        wer: float,
        cer: float,
        substitutions: int,
        deletions: int,
        insertions: int,
        words: int,
        heldout_kl: float | None,
        real_time_factor: float,
        seconds: float,
        label: str = "",
        group: int = 0,
        memory: int | None = None,
        heldout_kl_tokens: int | None = None,
        encoder_layers: int | None = None,
        decoder_layers: int | None = None,
        results: Sequence[UtteranceResult] = (),
    ) -> EvaluationRecord:
        """Store an evaluation and its utterances; see EvaluationRecord.

        An earlier one of the same job, group, run, subject, label, test set, step and audio context is replaced.
        """
        fields = {name: value for name, value in locals().items() if name not in ("self", "results")}
        place = ("job_id", "group", "run_id", "subject", "label", "test_set", "step", "audio_context")
        with self._write() as connection:
            same = [evaluations.c[name].is_not_distinct_from(fields[name]) for name in place]
            connection.execute(delete(evaluations).where(*same))
            key = connection.execute(insert(evaluations).values(**fields)).inserted_primary_key
            assert key is not None
            if results:
                rows = [{"evaluation_id": key[0], **asdict(result)} for result in results]
                connection.execute(insert(utterance_results), rows)
        return EvaluationRecord(id=key[0], **fields)

    def add_alignments(self, records: Sequence[AlignmentRecord]) -> None:
        """Store how alike layers are."""
        if not records:
            return
        with self._write() as connection:
            connection.execute(insert(alignments).prefix_with("OR REPLACE"), [asdict(record) for record in records])
