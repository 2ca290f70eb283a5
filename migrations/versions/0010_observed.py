"""Where work goes back to: the trace and the request on jobs and messages; and the signs of life of processes.

Revision: 0010
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

from ringi.audit import ddl

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None

APPLICATION = ddl.APPLICATION_ROLE
REMEMBERING = ("jobs", "outbox")


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in REMEMBERING:
        # Without a default, so that no row is rewritten.
        op.add_column(table, sa.Column("traceparent", sa.String(55), nullable=True))
        op.add_column(table, sa.Column("request_id", sa.String(64), nullable=True))
    op.create_index("ix_jobs_kind_state", "jobs", ["kind", "state"])
    op.create_table(
        "process_signs",
        sa.Column("role", sa.String(32), nullable=False),
        sa.Column("instance", sa.String(200), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("role", "instance", name=op.f("pk_process_signs")),
    )
    op.execute(f"REVOKE ALL ON process_signs FROM {APPLICATION}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON process_signs TO {APPLICATION}")


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("process_signs")
    op.drop_index("ix_jobs_kind_state", table_name="jobs")
    for table in REMEMBERING:
        op.drop_column(table, "request_id")
        op.drop_column(table, "traceparent")
