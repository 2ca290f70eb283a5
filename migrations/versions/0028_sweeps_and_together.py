"""Where an arm of a sweep stands, why it was stopped, and decisions that were made together.

Revision: 0028
Revises: 0027
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("measurements", sa.Column("started_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("measurements", sa.Column("items_done", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("measurements", sa.Column("stopped", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("gate_decisions", sa.Column("together_id", sa.Uuid(), nullable=True))
    op.create_index("ix_gate_decisions_together_id", "gate_decisions", ["together_id"], postgresql_where=sa.text("together_id IS NOT NULL"))


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    if op.get_bind().scalar(sa.text("SELECT count(*) FROM gate_decisions WHERE together_id IS NOT NULL")):
        raise RuntimeError(
            "There are decisions that were made together, which the older release cannot read: restore the backup from before the upgrade."
        )
    # States that the older release does not know.
    op.execute("ALTER TABLE measurements DISABLE TRIGGER measurement_sealed")
    op.execute(
        "UPDATE measurements SET problem = coalesce(problem, jsonb_build_object('code', 'job_cancelled', 'message', 'It was cancelled.')), state = 'failed'"
        " WHERE state IN ('stopped', 'cancelled')"
    )
    op.execute("ALTER TABLE measurements ENABLE TRIGGER measurement_sealed")
    op.drop_index("ix_gate_decisions_together_id", table_name="gate_decisions")
    op.drop_column("gate_decisions", "together_id")
    for column in ("stopped", "items_done", "started_at"):
        op.drop_column("measurements", column)
