"""The rates of a run by test set, so that a list finds the lowest without reading the evaluations."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let the index of a run's evaluations hold their rates."""
    op.drop_index("evaluations_by_run", "evaluations")
    op.create_index("evaluations_by_run", "evaluations", ["run_id", "test_set", "wer"])


def downgrade() -> None:
    """Let it hold the runs alone."""
    op.drop_index("evaluations_by_run", "evaluations")
    op.create_index("evaluations_by_run", "evaluations", ["run_id"])
