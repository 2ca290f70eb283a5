"""How a version came to be: the record of a succeeded run, with its digest.

Revision: 0033
Revises: 0032
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("training_runs", sa.Column("provenance", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("training_runs", sa.Column("provenance_digest", sa.String(length=71), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    if op.get_bind().scalar(sa.text("SELECT count(*) FROM training_runs WHERE provenance IS NOT NULL")):
        raise RuntimeError("There are records of runs, whose digests stand in the audit log: restore the backup from before the upgrade.")
    op.drop_column("training_runs", "provenance_digest")
    op.drop_column("training_runs", "provenance")
