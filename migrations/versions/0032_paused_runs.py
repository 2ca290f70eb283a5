"""A training run that pauses, and goes on: when that was asked for, since when it rests, and how long it has rested before.

Revision: 0032
Revises: 0031
"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

TIMES = ("pause_requested_at", "paused_at")


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in TIMES:
        op.add_column("jobs", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("paused_s", sa.Float(), server_default=sa.text("0"), nullable=False))
    op.create_index(
        "ix_jobs_snapshot", "jobs", ["finished_at"], postgresql_where=sa.text("checkpoint IS NOT NULL AND finished_at IS NOT NULL")
    )


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    if op.get_bind().scalar(sa.text("SELECT count(*) FROM jobs WHERE state = 'paused'")):
        raise RuntimeError("There are paused runs, which the older program does not know: continue or cancel them first.")
    op.drop_index("ix_jobs_snapshot", table_name="jobs")
    op.drop_column("jobs", "paused_s")
    for name in reversed(TIMES):
        op.drop_column("jobs", name)
