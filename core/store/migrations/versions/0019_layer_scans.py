"""Angular distances of the layers of what a job's students are cut from."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables. Older jobs measured nothing."""
    op.create_table(
        "layer_scans",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=16), nullable=False),
        sa.Column("group", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("audio_context", sa.Float(), nullable=False),
        sa.Column("clips", sa.Integer(), nullable=False),
        sa.Column("audio_seconds", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("layer_scans_by_group", "layer_scans", ["job_id", "group"], unique=True)
    op.create_table(
        "layer_distances",
        sa.Column("scan_id", sa.Integer(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("first", sa.Integer(), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.Column("distance", sa.Float(), nullable=False),
        sa.Column("standard_error", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["scan_id"], ["layer_scans.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scan_id", "side", "first", "last"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("layer_distances")
    op.drop_index("layer_scans_by_group", "layer_scans")
    op.drop_table("layer_scans")
