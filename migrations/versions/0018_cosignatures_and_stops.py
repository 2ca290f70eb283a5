"""Cosignatures of witnesses, and the read-only mode: a row that stops every change.

Revision: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

from ringi.audit import ddl

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "audit_cosignature",
        sa.Column("origin", sa.String(length=512), nullable=False),
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("witness", sa.String(length=512), nullable=False),
        sa.Column("line", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("origin", "size", "witness", name=op.f("pk_audit_cosignature")),
    )
    op.create_table(
        "audit_stop",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("origin", sa.String(length=512), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_stop")),
    )
    op.create_index("uq_audit_stop_origin_open", "audit_stop", ["origin"], unique=True, postgresql_where=sa.text("ended_at IS NULL"))
    ddl.install_anchoring(op.execute)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    ddl.remove_anchoring(op.execute)
    op.drop_table("audit_stop")
    op.drop_table("audit_cosignature")
