"""Uploads in parts, and the rights of the collector: it removes rows of bytes that nothing refers to, which nobody could before.

Revision: 0003
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

from ringi.audit import ddl

revision = "0003"
down_revision = "0007"
branch_labels = None
depends_on = None

APPLICATION = ddl.APPLICATION_ROLE


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "upload_sessions",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_upload_sessions_organization_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_upload_sessions_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_sessions")),
    )
    op.create_index(op.f("ix_upload_sessions_organization_id"), "upload_sessions", ["organization_id"])
    op.create_index(
        "uq_upload_sessions_user_id_digest_open",
        "upload_sessions",
        ["user_id", "digest"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "upload_parts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["upload_sessions.id"], name=op.f("fk_upload_parts_session_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload_parts")),
        sa.UniqueConstraint("session_id", "start", name=op.f("uq_upload_parts_session_id_start")),
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON upload_sessions TO {APPLICATION}")
    op.execute(f"REVOKE DELETE ON upload_sessions FROM {APPLICATION}")
    # A part is written once and goes with the end of its session.
    op.execute(f"REVOKE UPDATE ON upload_parts FROM {APPLICATION}")
    op.execute(f"GRANT SELECT, INSERT, DELETE ON upload_parts TO {APPLICATION}")
    # What a sealed row needs stays safe from it: the foreign keys of datasets, and the collector's own look at the others.
    op.execute(f"GRANT DELETE ON blobs, uploads TO {APPLICATION}")


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(f"REVOKE DELETE ON blobs, uploads FROM {APPLICATION}")
    op.drop_table("upload_parts")
    op.drop_table("upload_sessions")
