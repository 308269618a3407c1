"""How many of a student's parameters one frame or token goes through, where a router leaves experts out."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Older runs had no experts, and were not counted so."""
    with op.batch_alter_table("parameters") as table:
        table.add_column(sa.Column("student_active", sa.Integer()))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("parameters") as table:
        table.drop_column("student_active")
