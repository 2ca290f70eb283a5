"""Rights of the application role, and the guards of the audit tables.

The application role owns nothing. It deletes nowhere but in queues, never changes what is sealed, and of an adapter version it may
change the state alone. (A superuser can do all of it: that is what the signed log is for.)

Revision: 0002
Revises: 0001
"""

from alembic import op

from ringi.audit import ddl

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPLICATION = ddl.APPLICATION_ROLE
# Written once: there is no right to change them.
SEALED = (
    "approval_grants",
    "approval_policies",
    "approval_votes",
    "base_comparisons",
    "blobs",
    "compatibility_assessments",
    "dataset_versions",
    "releases",
    "uploads",
)


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {APPLICATION}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {APPLICATION}")
    op.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {APPLICATION}")
    for table in SEALED:
        op.execute(f"REVOKE UPDATE ON {table} FROM {APPLICATION}")
    op.execute(f"REVOKE UPDATE ON adapter_versions FROM {APPLICATION}")
    op.execute(f"GRANT UPDATE (state, state_reason) ON adapter_versions TO {APPLICATION}")
    op.execute(f"GRANT DELETE ON outbox TO {APPLICATION}")
    op.execute(f"REVOKE INSERT, UPDATE ON alembic_version FROM {APPLICATION}")
    ddl.install(op.execute)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    ddl.remove(op.execute)
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {APPLICATION}")
