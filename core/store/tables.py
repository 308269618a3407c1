"""The tables. Their columns bear the names of the records' fields; migrations make them."""

from datetime import UTC, datetime
from math import nan

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC: SQLite keeps no zone, so it is taken off on the way in and put back on the way out."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse nothing that has a zone; a time without one is a mistake of ours and raises."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times are stored with their zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Put the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


class FloatOrNan(TypeDecorator[float]):
    """A number that may be NaN: SQLite keeps NULL in its place, which is read as NaN."""

    impl = Float
    cache_ok = True

    def process_result_value(self, value: float | None, dialect: Dialect) -> float:
        """Read NULL as NaN."""
        return nan if value is None else value


metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("launcher", String(16), nullable=False),
    Column("pid", Integer),
    Column("boot_id", String(64)),
    Column("process_started", Float),
    Column("heartbeat_at", UtcDateTime),
    Column("log_path", Text, nullable=False, default=""),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("stage", Text, nullable=False, default=""),
    Column("done", Integer, nullable=False, default=0),
    Column("total", Integer, nullable=False, default=0),
    Column("eta_seconds", Float),
    Column("message", Text, nullable=False, default=""),
    Column("stop_requested", Boolean, nullable=False, default=False),
    Column("expectation", Text, nullable=False, default=""),
    Column("queued_at", Float),
    Column("advanced_at", Float),
    Column("stop_by", Float),
)
Index("jobs_by_state", jobs.c.state, jobs.c.created_at)

runs = Table(
    "runs",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("job_id", String(16), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("config", JSON, nullable=False),
    Column("config_hash", String(16), nullable=False),
    Column("seed", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("step", Integer, nullable=False, default=0),
    Column("steps", Integer, nullable=False),
    Column("seconds", Float),
    Column("message", Text, nullable=False, default=""),
    Column("estimate", JSON(none_as_null=True)),
    Column("peak_memory", Integer),
    Column("tags", JSON, nullable=False, default=list),
    Column("notes", Text, nullable=False, default=""),
    Column("deleted_at", UtcDateTime),
    Column("group", Integer, nullable=False, default=0),
    Column("precision", String(16)),
    Column("advanced_at", Float),
)
Index("runs_by_job", runs.c.job_id, runs.c.position, unique=True)
Index("runs_by_creation", runs.c.deleted_at, runs.c.created_at)

parameters = Table(
    "parameters",
    metadata,
    Column("run_id", String(16), ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("teacher", Integer, nullable=False),
    Column("student", Integer, nullable=False),
    Column("adapters", Integer, nullable=False),
    Column("projections", Integer, nullable=False),
    Column("largest_teacher", Integer),
    Column("student_non_embedding", Integer),
    Column("teacher_flops", Float),
    Column("student_flops", Float),
    Column("student_active", Integer),
)

# A curve is read in the order of its key, so the key is the table.
metrics = Table(
    "metrics",
    metadata,
    Column("run_id", String(16), ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("value", FloatOrNan),
    sqlite_with_rowid=False,
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", String(16), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("run_id", String(16), ForeignKey("runs.id", ondelete="CASCADE")),
    Column("subject", String(16), nullable=False),
    Column("test_set", Text, nullable=False),
    Column("test_set_hash", String(64), nullable=False),
    Column("step", Integer),
    Column("audio_context", Float, nullable=False),
    Column("normaliser", Text, nullable=False),
    Column("decoding", Text, nullable=False),
    Column("wer", Float, nullable=False),
    Column("cer", Float, nullable=False),
    Column("substitutions", Integer, nullable=False),
    Column("deletions", Integer, nullable=False),
    Column("insertions", Integer, nullable=False),
    Column("words", Integer, nullable=False),
    Column("heldout_kl", Float),
    Column("real_time_factor", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("label", Text, nullable=False, default=""),
    Column("group", Integer, nullable=False, default=0),
    Column("memory", Integer),
    Column("heldout_kl_tokens", Integer),
    Column("encoder_layers", Integer),
    Column("decoder_layers", Integer),
)
Index("evaluations_by_job", evaluations.c.job_id, evaluations.c.test_set)
# The list of runs looks for the lowest rate on a set, which is then in the index.
Index("evaluations_by_run", evaluations.c.run_id, evaluations.c.test_set, evaluations.c.wer)

utterance_results = Table(
    "utterance_results",
    metadata,
    Column("evaluation_id", Integer, ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("utterance_id", Text, nullable=False),
    Column("reference", Text, nullable=False),
    Column("hypothesis", Text, nullable=False),
    Column("substitutions", Integer, nullable=False),
    Column("deletions", Integer, nullable=False),
    Column("insertions", Integer, nullable=False),
    Column("words", Integer, nullable=False),
    Column("speaker", Text),
    Column("duration", Float, nullable=False),
    Column("audio_path", Text, nullable=False),
)

layer_scans = Table(
    "layer_scans",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", String(16), ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("group", Integer, nullable=False, default=0),
    Column("model", Text, nullable=False),
    Column("audio_context", Float, nullable=False),
    Column("clips", Integer, nullable=False),
    Column("audio_seconds", Float, nullable=False),
    Column("seconds", Float, nullable=False),
)
Index("layer_scans_by_group", layer_scans.c.job_id, layer_scans.c.group, unique=True)

layer_distances = Table(
    "layer_distances",
    metadata,
    Column("scan_id", Integer, ForeignKey("layer_scans.id", ondelete="CASCADE"), primary_key=True),
    Column("side", String(8), primary_key=True),
    Column("first", Integer, primary_key=True),
    Column("last", Integer, primary_key=True),
    Column("distance", Float, nullable=False),
    Column("standard_error", Float, nullable=False),
)

alignments = Table(
    "alignments",
    metadata,
    Column("run_id", String(16), ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("stage", String(8), primary_key=True),
    Column("side", String(8), primary_key=True),
    Column("student_layer", Integer, primary_key=True),
    Column("teacher_layer", Integer, primary_key=True),
    Column("teacher_number", Integer, primary_key=True, default=0),
    Column("points", Integer, nullable=False),
    Column("linear_cka", FloatOrNan),
    Column("geodesic_angle", FloatOrNan),
    Column("mutual_knn", FloatOrNan),
    Column("neighbours", Integer, nullable=False),
)

maps = Table(
    "maps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", String(16), ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("side", String(8), nullable=False),
    # None in all three: one map of all layer pairs and steps.
    Column("student_layer", Integer),
    Column("teacher_layer", Integer),
    Column("step", Integer),
    Column("level", String(16), nullable=False),
    Column("teacher_number", Integer, nullable=False, default=0),
    Column("state", String(16), nullable=False),
    Column("message", Text, nullable=False, default=""),
    Column("path", Text, nullable=False, default=""),
    Column("trustworthiness", Float),
    Column("kept", Float),
    Column("stratified", String(16), nullable=False, default=""),
    Column("points", Integer, nullable=False, default=0),
    Column("points_total", Integer, nullable=False, default=0),
    Column("how", Text, nullable=False, default=""),
    Column("seconds", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Column("created_at", UtcDateTime, nullable=False),
)
Index(
    "maps_by_place",
    maps.c.run_id,
    maps.c.side,
    maps.c.student_layer,
    maps.c.teacher_layer,
    maps.c.step,
    maps.c.level,
    maps.c.teacher_number,
    unique=True,
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", String(16), ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("side", String(8), nullable=False),
    Column("step", Integer, nullable=False),
    Column("teacher_number", Integer, nullable=False, default=0),
    Column("state", String(16), nullable=False),
    Column("result", JSON(none_as_null=True)),
    Column("message", Text, nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    Column("created_at", UtcDateTime, nullable=False),
)
Index(
    "comparisons_by_place",
    comparisons.c.run_id,
    comparisons.c.side,
    comparisons.c.step,
    comparisons.c.teacher_number,
    unique=True,
)

checks = Table(
    "checks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("config", JSON, nullable=False),
    Column("config_hash", String(16), nullable=False),
    Column("measure", Boolean, nullable=False, default=False),
    Column("state", String(16), nullable=False),
    Column("result", JSON(none_as_null=True)),
    Column("message", Text, nullable=False, default=""),
    Column("attempts", Integer, nullable=False, default=0),
    Column("created_at", UtcDateTime, nullable=False),
)
Index("checks_by_config", checks.c.config_hash, checks.c.state)
