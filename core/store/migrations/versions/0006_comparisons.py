"""Maps of all steps and layers at once, what a map keeps, and comparisons with their intervals."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

PLACE = ("student_layer", "teacher_layer", "step")


def upgrade() -> None:
    """Let a map be of no one layer and step; add what it keeps, and the table of comparisons."""
    with op.batch_alter_table("maps") as table:
        for name in PLACE:
            table.alter_column(name, existing_type=sa.Integer(), nullable=True)
        table.add_column(sa.Column("kept", sa.Float()))
        table.add_column(sa.Column("stratified", sa.String(length=16), nullable=False, server_default=""))
    op.create_table(
        "comparisons",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=16), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("result", sa.JSON()),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("comparisons_by_place", "comparisons", ["run_id", "side", "step"], unique=True)


def downgrade() -> None:
    """Drop them; maps of all layers and steps with them."""
    op.drop_index("comparisons_by_place", "comparisons")
    op.drop_table("comparisons")
    op.execute("DELETE FROM maps WHERE step IS NULL")
    with op.batch_alter_table("maps") as table:
        table.drop_column("stratified")
        table.drop_column("kept")
        for name in PLACE:
            table.alter_column(name, existing_type=sa.Integer(), nullable=False)
