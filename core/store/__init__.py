"""The database of jobs, runs and results: one truth, whatever happens to processes."""

from core.store.records import (
    ACTIVE,
    AlignmentRecord,
    CheckRecord,
    ComparisonRecord,
    Estimate,
    EvaluationRecord,
    JobEstimate,
    JobRecord,
    MapRecord,
    Metric,
    ParameterCounts,
    RunRecord,
    State,
    UtteranceResult,
)
from core.store.store import Store

__all__ = [
    "ACTIVE",
    "AlignmentRecord",
    "CheckRecord",
    "ComparisonRecord",
    "Estimate",
    "EvaluationRecord",
    "JobEstimate",
    "JobRecord",
    "MapRecord",
    "Metric",
    "ParameterCounts",
    "RunRecord",
    "State",
    "Store",
    "UtteranceResult",
]
