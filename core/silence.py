"""Sets in which nothing is said: what a model writes there is invented, and counted by the minute."""

from collections.abc import Mapping

from core.store import EvaluationRecord, Store


def invented(store: Store, records: Mapping[str, EvaluationRecord | None]) -> str:
    """Return how many words models invented a minute, in a sentence; nothing where words are said in the set.

    Args:
        store: Knows the lengths of the clips.
        records: Evaluations on one set, by who was evaluated.
    """
    silent = {name: record for name, record in records.items() if record is not None and record.words == 0}
    if not silent:
        return ""
    first = next(iter(silent.values()))
    minutes = sum(result.duration for result in store.utterance_results(first.id)) / 60
    rates = "; ".join(f"{name} {record.insertions / minutes:.1f}" for name, record in silent.items())
    return f"Nothing is said in the {minutes:.1f} min of this set. Words invented a minute: {rates}."
