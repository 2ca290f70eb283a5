"""Who a user is at the identity provider.

Revision: 0017
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("users", sa.Column("issuer", sa.String(length=512), nullable=True))
    op.add_column("users", sa.Column("subject", sa.String(length=255), nullable=True))
    op.create_unique_constraint(op.f("uq_users_issuer_subject"), "users", ["issuer", "subject"])
    op.create_check_constraint(op.f("ck_users_issuer_with_subject"), "users", "(issuer IS NULL) = (subject IS NULL)")


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_constraint(op.f("ck_users_issuer_with_subject"), "users")
    op.drop_constraint(op.f("uq_users_issuer_subject"), "users")
    op.drop_column("users", "subject")
    op.drop_column("users", "issuer")
