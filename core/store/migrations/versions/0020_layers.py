"""How many layers a model has that was evaluated: what a cut one saves stands beside its error rate."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

COLUMNS = ("encoder_layers", "decoder_layers")


def upgrade() -> None:
    """Add the columns. Of older evaluations it is not known."""
    with op.batch_alter_table("evaluations") as table:
        for column in COLUMNS:
            table.add_column(sa.Column(column, sa.Integer()))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("evaluations") as table:
        for column in reversed(COLUMNS):
            table.drop_column(column)
