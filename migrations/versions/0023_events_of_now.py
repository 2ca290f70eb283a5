"""An event is written by a transaction that sees which log grows now.

Revision: 0023
Revises: 0022
"""

from alembic import op

from ringi.audit import ddl

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    ddl.install_snapshot(op.execute)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    ddl.remove_snapshot(op.execute)
