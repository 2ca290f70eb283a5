"""Whose turn it was last among receivers, and the order in which events and deliveries are listed.

Revision: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("subscriptions", sa.Column("last_taken_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_events_organization_id_id", "events", ["organization_id", "id"])
    op.drop_index("ix_deliveries_subscription_id", table_name="deliveries")
    op.create_index("ix_deliveries_subscription_id", "deliveries", ["subscription_id", "id"])


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_deliveries_subscription_id", table_name="deliveries")
    op.create_index("ix_deliveries_subscription_id", "deliveries", ["subscription_id"])
    op.drop_index("ix_events_organization_id_id", table_name="events")
    op.drop_column("subscriptions", "last_taken_at")
