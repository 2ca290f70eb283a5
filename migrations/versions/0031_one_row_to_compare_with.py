"""What an event is compared with stands in one row.

Revision: 0031
Revises: 0030
"""

import sqlalchemy as sa
from alembic import op

from ringi.audit import guard

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "audit_guard",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stopped", sa.Boolean(), nullable=False),
        sa.Column("growing", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_guard_only_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_guard")),
    )
    guard.install(op.execute)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    guard.remove(op.execute)
    op.drop_table("audit_guard")
