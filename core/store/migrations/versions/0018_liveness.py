"""When jobs and runs last got on, and how long a job may take to stop: in seconds since the boot."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

COLUMNS = {"jobs": ("queued_at", "advanced_at", "stop_by"), "runs": ("advanced_at",)}


def upgrade() -> None:
    """Add the columns. Of older jobs it is not known."""
    for name, columns in COLUMNS.items():
        with op.batch_alter_table(name) as table:
            for column in columns:
                table.add_column(sa.Column(column, sa.Float))


def downgrade() -> None:
    """Drop them."""
    for name, columns in COLUMNS.items():
        with op.batch_alter_table(name) as table:
            for column in reversed(columns):
                table.drop_column(column)
