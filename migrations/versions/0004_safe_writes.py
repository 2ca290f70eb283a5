"""Safe writes: the kept answers of idempotency keys, and a version on every row that is changed in place.

The version is counted by a trigger, so it holds for every statement of every process, and the application needs no right to set it.

Revision: 0004
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from ringi.audit import ddl

revision = "0004"
down_revision = "0002"
branch_labels = None
depends_on = None

# What counts as a change: any column, or these alone. A heartbeat is no change of a job, nor is its use one of a token.
VERSIONED = {
    "adapter_versions": (),
    "adapters": (),
    "approval_requests": (),
    "base_models": (),
    "channels": (),
    "datasets": (),
    "jobs": ("state", "attempt", "cancel_requested_at"),
    "memberships": (),
    "projects": (),
    "tokens": ("name", "scopes", "environment", "expires_at", "revoked_at"),
    "users": (),
}


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("fingerprint", sa.String(length=71), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)
    op.execute(f"REVOKE ALL ON idempotency_keys FROM {ddl.APPLICATION_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO {ddl.APPLICATION_ROLE}")
    op.execute(
        "CREATE FUNCTION count_row_version() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.row_version := OLD.row_version + 1; RETURN NEW; END $$"
    )
    for table, columns in VERSIONED.items():
        op.add_column(table, sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False))
        what = f"UPDATE OF {', '.join(columns)}" if columns else "UPDATE"
        op.execute(f"CREATE TRIGGER {table}_row_version BEFORE {what} ON {table} FOR EACH ROW EXECUTE FUNCTION count_row_version()")


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in VERSIONED:
        op.execute(f"DROP TRIGGER {table}_row_version ON {table}")
        op.drop_column(table, "row_version")
    op.execute("DROP FUNCTION count_row_version()")
    op.drop_table("idempotency_keys")
