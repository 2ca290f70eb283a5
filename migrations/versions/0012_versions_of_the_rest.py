"""A version on what else is changed in place: subscriptions, workers and tags; and a job's priority counts as a change of it.

Revision: 0012
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None

# What people decide. A lease, a heartbeat or a delivery that failed is no change of the thing.
VERSIONED = {
    "subscriptions": (
        "description", "target", "event_types", "secret", "previous_secret", "previous_secret_until", "disabled_at", "deleted_at",
    ),
    "tags": (),
    "workers": ("wanted", "reason"),
}  # fmt: skip
JOB_BEFORE = ("state", "attempt", "cancel_requested_at")


def _count(table: str, columns: tuple[str, ...]) -> None:
    what = f"UPDATE OF {', '.join(columns)}" if columns else "UPDATE"
    op.execute(f"CREATE TRIGGER {table}_row_version BEFORE {what} ON {table} FOR EACH ROW EXECUTE FUNCTION count_row_version()")


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, columns in VERSIONED.items():
        op.add_column(table, sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False))
        _count(table, columns)
    op.execute("DROP TRIGGER jobs_row_version ON jobs")
    _count("jobs", (*JOB_BEFORE, "priority"))


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER jobs_row_version ON jobs")
    _count("jobs", JOB_BEFORE)
    for table in VERSIONED:
        op.execute(f"DROP TRIGGER {table}_row_version ON {table}")
        op.drop_column(table, "row_version")
