"""Several logs in one database: after a loss the log goes on under a new origin, beside the one that has ended.

Revision: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

from ringi.audit import ddl

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

KEYS = {"audit_leaf": ["leaf_index"], "audit_node": ["level", "idx"], "audit_checkpoint": ["size"]}


def upgrade() -> None:
    """Apply. The keys of three tables are built anew: minutes for many millions of entries, in which nothing is written."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table, key in KEYS.items():
        op.add_column(table, sa.Column("generation", sa.SmallInteger(), autoincrement=False, server_default="1", nullable=False))
        op.drop_constraint(f"pk_{table}", table, type_="primary")
        op.create_primary_key(f"pk_{table}", table, ["generation", *key])
    op.add_column("audit_head", sa.Column("generation", sa.SmallInteger(), server_default="1", nullable=False))
    op.create_table(
        "audit_origin",
        sa.Column("generation", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("origin", sa.String(length=512), nullable=False),
        sa.Column("vkey", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("generation >= 1", name=op.f("ck_audit_origin_from_one")),
        sa.PrimaryKeyConstraint("generation", name=op.f("pk_audit_origin")),
        sa.UniqueConstraint("origin", name=op.f("uq_audit_origin_origin")),
    )
    ddl.install_origins(op.execute)


def downgrade() -> None:
    """Undo, as long as there is one log: the keys of two would collide, and which entry stands in which log would be forgotten."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    logs = op.get_bind().execute(sa.text("SELECT generation FROM audit_head WHERE id = 1")).scalar()
    if logs != 1:
        message = (
            f"This database holds {logs} audit logs, and before revision 0021 a database holds one. Nothing was changed. "
            "Stay at this revision: the logs that have ended cannot be given up (docs/audit.md)."
        )
        raise CommandError(message)
    ddl.remove_origins(op.execute)
    op.drop_table("audit_origin")
    op.drop_column("audit_head", "generation")
    for table, key in KEYS.items():
        op.drop_constraint(f"pk_{table}", table, type_="primary")
        op.create_primary_key(f"pk_{table}", table, key)
        op.drop_column(table, "generation")
