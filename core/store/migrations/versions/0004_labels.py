"""What people say of runs: tags, notes, the bin; and what they expected of a job."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns: nobody said anything of older runs."""
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("expectation", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("tags", sa.JSON(), nullable=False, server_default="[]"))
        table.add_column(sa.Column("notes", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("deleted_at", sa.DateTime()))
    op.create_index("runs_by_creation", "runs", ["deleted_at", "created_at"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("runs_by_creation", "runs")
    with op.batch_alter_table("runs") as table:
        for column in ("tags", "notes", "deleted_at"):
            table.drop_column(column)
    with op.batch_alter_table("jobs") as table:
        table.drop_column("expectation")
