"""What a run multiplied in: `auto` is another precision on another device."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. What older runs multiplied in is not known."""
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("precision", sa.String(16)))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("runs") as table:
        table.drop_column("precision")
