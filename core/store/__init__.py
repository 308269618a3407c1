"""The database of jobs, runs and results: one truth, whatever happens to processes."""

from core.store.costs import Estimate, JobEstimate
from core.store.lists import RunSummary
from core.store.records import (
    ACTIVE,
    AlignmentRecord,
    EvaluationRecord,
    JobRecord,
    LayerDistance,
    LayerScan,
    Metric,
    ParameterCounts,
    RunRecord,
    State,
    UtteranceResult,
)
from core.store.request_records import CheckRecord, ComparisonRecord, MapRecord
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
    "LayerDistance",
    "LayerScan",
    "MapRecord",
    "Metric",
    "ParameterCounts",
    "RunRecord",
    "RunSummary",
    "State",
    "Store",
    "UtteranceResult",
]
