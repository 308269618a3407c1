"""Maps and comparisons with each of several teachers."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

PLACES = {
    "maps": ["run_id", "side", "student_layer", "teacher_layer", "step", "level"],
    "comparisons": ["run_id", "side", "step"],
}


def upgrade() -> None:
    """Add whose states stand beside the student's; so far those of the first teacher did."""
    for name, place in PLACES.items():
        op.drop_index(f"{name}_by_place", name)
        op.add_column(name, sa.Column("teacher_number", sa.Integer(), nullable=False, server_default="0"))
        op.create_index(f"{name}_by_place", name, [*place, "teacher_number"], unique=True)


def downgrade() -> None:
    """Drop it; what was made with further teachers goes with it."""
    for name, place in PLACES.items():
        op.execute(sa.text(f"DELETE FROM {name} WHERE teacher_number > 0"))
        op.drop_index(f"{name}_by_place", name)
        with op.batch_alter_table(name) as table:
            table.drop_column("teacher_number")
        op.create_index(f"{name}_by_place", name, place, unique=True)
