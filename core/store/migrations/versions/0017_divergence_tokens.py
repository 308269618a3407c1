"""Of how many of the teacher's tokens a held-out divergence is: kept likeliest tokens are not all of them."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0009"
branch_labels = None
depends_on = None

MOST_KEPT = 32


def upgrade() -> None:
    """Add the column; of older jobs, divergences were of so many tokens where teacher outputs were compact."""
    with op.batch_alter_table("evaluations") as table:
        table.add_column(sa.Column("heldout_kl_tokens", sa.Integer()))
    op.execute(
        sa.text(
            "UPDATE evaluations SET heldout_kl_tokens = :kept WHERE heldout_kl IS NOT NULL AND job_id IN "
            "(SELECT job_id FROM runs WHERE json_extract(config, '$.training.teacher_outputs') = 'compact')"
        ).bindparams(kept=MOST_KEPT)
    )


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("evaluations") as table:
        table.drop_column("heldout_kl_tokens")
