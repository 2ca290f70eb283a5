"""Who a user is at the identity provider, and the access tokens of it that were believed.

Revision: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

from ringi.db import tenancy

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("users", sa.Column("issuer", sa.String(length=512), nullable=True))
    op.add_column("users", sa.Column("subject", sa.String(length=255), nullable=True))
    op.create_unique_constraint(op.f("uq_users_issuer_subject"), "users", ["issuer", "subject"])
    op.create_check_constraint(op.f("ck_users_issuer_with_subject"), "users", "(issuer IS NULL) = (subject IS NULL)")
    op.create_table(
        "logins",
        sa.Column("proof", sa.String(length=64), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_logins_organization_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_logins_user_id")),
        sa.PrimaryKeyConstraint("proof", name=op.f("pk_logins")),
    )
    op.create_index(op.f("ix_logins_expires_at"), "logins", ["expires_at"])
    op.create_index(op.f("ix_logins_organization_id"), "logins", ["organization_id"])
    # Whose login it is, the application cannot say.
    op.execute(f"REVOKE ALL ON logins FROM {tenancy.APPLICATION_ROLE}")
    op.execute(f"GRANT SELECT ON logins TO {tenancy.APPLICATION_ROLE}")
    op.execute(f"GRANT INSERT, DELETE ON logins TO {tenancy.PLATFORM_ROLE}")
    tenancy.protect(op.execute, "logins", tenancy.OF_ORGANIZATION)
    op.execute(tenancy.TENANT_FUNCTION_WITH_LOGINS)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(tenancy.TENANT_FUNCTION.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.drop_table("logins")
    op.drop_constraint(op.f("ck_users_issuer_with_subject"), "users")
    op.drop_constraint(op.f("uq_users_issuer_subject"), "users")
    op.drop_column("users", "subject")
    op.drop_column("users", "issuer")
