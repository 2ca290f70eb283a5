"""Data keys of people, and what erases one: their users' columns, and the one function that blanks what is otherwise never changed.

Texts that stand in `audit_payload` already stay plain (scheme 'none'); erasing their writer removes them like the others.

Revision: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op

from ringi.db import tenancy
from ringi.erasure import ddl

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "audit_person_key",
        sa.Column("person_id", sa.Uuid(), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=True),
        sa.Column("destroyed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(wrapped IS NULL) = (destroyed_at IS NOT NULL)", name=op.f("ck_audit_person_key_destroyed_without_key")),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_audit_person_key")),
    )
    op.create_index(op.f("ix_audit_person_key_organization_id"), "audit_person_key", ["organization_id"])
    op.execute(f"REVOKE ALL ON audit_person_key FROM {tenancy.APPLICATION_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON audit_person_key TO {tenancy.APPLICATION_ROLE}")
    tenancy.protect(op.execute, "audit_person_key", tenancy.OF_ORGANIZATION)
    op.add_column("audit_payload", sa.Column("person_id", sa.Uuid(), nullable=True))
    op.create_index(op.f("ix_audit_payload_person_id"), "audit_payload", ["person_id"])
    op.add_column("users", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("users", sa.Column("subject_seal", sa.String(length=64), nullable=True))
    op.create_unique_constraint(op.f("uq_users_subject_seal"), "users", ["subject_seal"])
    ddl.install(op.execute)


def downgrade() -> None:
    """Undo. Texts that were encrypted cannot be read by the older platform; they are erased like the others."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    ddl.remove(op.execute)
    op.drop_constraint(op.f("uq_users_subject_seal"), "users")
    op.drop_column("users", "subject_seal")
    op.drop_column("users", "erased_at")
    op.drop_index(op.f("ix_audit_payload_person_id"), table_name="audit_payload")
    op.drop_column("audit_payload", "person_id")
    op.drop_table("audit_person_key")
