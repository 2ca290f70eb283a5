"""Sessions of browsers.

Revision: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from ringi.audit import ddl
from ringi.db import tenancy

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "browser_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("issuer", sa.String(length=512), nullable=False),
        sa.Column("acr", sa.String(length=128), nullable=True),
        sa.Column("amr", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("logged_in_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_browser_sessions_organization_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_browser_sessions_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_browser_sessions")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_browser_sessions_secret_hash")),
    )
    for column in ("ends_at", "organization_id", "user_id"):
        op.create_index(op.f(f"ix_browser_sessions_{column}"), "browser_sessions", [column])
    # Whose session it is, the application cannot say; that it was used, and that it is over, it can.
    op.execute(f"REVOKE ALL ON browser_sessions FROM {tenancy.APPLICATION_ROLE}")
    op.execute(f"GRANT SELECT, UPDATE (last_seen_at, ended_at) ON browser_sessions TO {tenancy.APPLICATION_ROLE}")
    op.execute(f"GRANT INSERT, DELETE ON browser_sessions TO {tenancy.PLATFORM_ROLE}")
    tenancy.protect(op.execute, "browser_sessions", tenancy.OF_ORGANIZATION)
    op.execute(tenancy.TENANT_FUNCTION_WITH_SESSIONS)
    # Logins go on while the log does not agree with what was signed.
    op.execute(ddl.READ_ONLY_FUNCTION)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(ddl.READ_ONLY_FUNCTION_WITHOUT_SESSIONS)
    op.execute(tenancy.TENANT_FUNCTION_WITH_LOGINS)
    op.drop_table("browser_sessions")
