"""Several teachers: whose an evaluation or an alignment is, and groups of runs that teach later ones."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = ["run_id", "step", "stage", "side", "student_layer", "teacher_layer"]
VALUES = ["points", "linear_cka", "geodesic_angle", "mutual_knn", "neighbours"]


def upgrade() -> None:
    """Add the columns. Older jobs had one teacher and one group."""
    with op.batch_alter_table("evaluations") as table:
        table.add_column(sa.Column("label", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("group", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("memory", sa.Integer()))
    with op.batch_alter_table("runs") as table:
        table.add_column(sa.Column("group", sa.Integer(), nullable=False, server_default="0"))
    _rebuild_alignments(numbered=True)


def downgrade() -> None:
    """Drop them; of an ensemble's alignments those with the first teacher stay."""
    op.execute("DELETE FROM alignments WHERE teacher_number > 0")
    _rebuild_alignments(numbered=False)
    with op.batch_alter_table("runs") as table:
        table.drop_column("group")
    with op.batch_alter_table("evaluations") as table:
        for column in ("memory", "group", "label"):
            table.drop_column(column)


def _rebuild_alignments(*, numbered: bool) -> None:
    """Make the table anew: SQLite cannot change a key."""
    op.rename_table("alignments", "alignments_before")
    op.create_table(
        "alignments",
        sa.Column("run_id", sa.String(length=16), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=8), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("student_layer", sa.Integer(), nullable=False),
        sa.Column("teacher_layer", sa.Integer(), nullable=False),
        *([sa.Column("teacher_number", sa.Integer(), nullable=False, server_default="0")] if numbered else []),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("linear_cka", sa.Float()),
        sa.Column("geodesic_angle", sa.Float()),
        sa.Column("mutual_knn", sa.Float()),
        sa.Column("neighbours", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint(*KEY, *(["teacher_number"] if numbered else [])),
    )
    columns = ", ".join([*KEY, *VALUES])
    op.execute(f"INSERT INTO alignments ({columns}) SELECT {columns} FROM alignments_before")
    op.drop_table("alignments_before")
