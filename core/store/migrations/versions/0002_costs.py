"""What a run is counted and expected to cost, and what it took; checks are found by their settings."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Older runs were not counted so; an older check has no hash and is never found by it."""
    with op.batch_alter_table("parameters") as table:
        table.add_column(sa.Column("largest_teacher", sa.Integer()))
        table.add_column(sa.Column("student_non_embedding", sa.Integer()))
        table.add_column(sa.Column("teacher_flops", sa.Float()))
        table.add_column(sa.Column("student_flops", sa.Float()))
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("estimate", sa.JSON()))
        table.add_column(sa.Column("peak_memory", sa.Integer()))
    with op.batch_alter_table("checks") as table:
        table.add_column(sa.Column("config_hash", sa.String(length=16), nullable=False, server_default=""))
        table.add_column(sa.Column("measure", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index("checks_by_config", "checks", ["config_hash", "state"], unique=False)


def downgrade() -> None:
    """Drop them."""
    op.drop_index("checks_by_config", "checks")
    for name, columns in (
        ("checks", ("config_hash", "measure")),
        ("runs", ("estimate", "peak_memory")),
        ("parameters", ("largest_teacher", "student_non_embedding", "teacher_flops", "student_flops")),
    ):
        with op.batch_alter_table(name) as table:
            for column in columns:
                table.drop_column(column)
