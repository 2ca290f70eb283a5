"""Where a token may be used from.

Revision: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("tokens", sa.Column("networks", postgresql.JSONB(astext_type=sa.Text()), nullable=True))


def downgrade() -> None:
    """Undo. A token that was bound to networks would be good from everywhere afterwards, so it is ended."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("UPDATE tokens SET revoked_at = clock_timestamp() WHERE networks IS NOT NULL AND revoked_at IS NULL")
    op.drop_column("tokens", "networks")
