"""What an event must be to be written is one policy of its table instead of triggers and checks; a leaf's event has no foreign key.

Revision: 0029
Revises: 0028
"""

from alembic import op

from ringi.audit import entry_policy

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    entry_policy.install(op.execute)
    op.drop_constraint("fk_audit_leaf_event_id", "audit_leaf")


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_foreign_key("fk_audit_leaf_event_id", "audit_leaf", "audit_event", ["event_id"], ["id"])
    entry_policy.remove(op.execute)
