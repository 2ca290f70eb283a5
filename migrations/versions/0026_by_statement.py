"""The log's refusals are looked at once a statement: a sequencer's batch and a change's event cost less.

Revision: 0026
Revises: 0025
"""

from alembic import op

from ringi.audit import ddl

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    ddl.install_by_statement(op.execute)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    ddl.remove_by_statement(op.execute)
