"""Tags of everything, and folded texts for the free-text search of long lists (docs/decisions/0008).

The stored columns rewrite `adapters`, `datasets` and `jobs` once, under a lock; `normalize` and `casefold` need a database in UTF-8.

Revision: 0009
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

from ringi.audit import ddl

revision = "0009"
down_revision = "0005"
branch_labels = None
depends_on = None

SEARCHED = {"adapters": ("name", "description"), "datasets": ("name", "description"), "jobs": ("subject", "produced")}


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "tags",
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("object_type", sa.String(length=32), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("value", sa.String(length=500), nullable=False),
        sa.Column("set_by", sa.Uuid(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_tags_organization_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_tags_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tags")),
        sa.UniqueConstraint("object_id", "key", name=op.f("uq_tags_object_id_key")),
    )
    op.create_index("ix_tags_key_value", "tags", ["key", "value", "object_id"], unique=False)
    op.create_index(op.f("ix_tags_organization_id"), "tags", ["organization_id"], unique=False)
    op.create_index(op.f("ix_tags_project_id"), "tags", ["project_id"], unique=False)
    op.execute(f"REVOKE ALL ON tags FROM {ddl.APPLICATION_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON tags TO {ddl.APPLICATION_ROLE}")
    op.create_index("ix_jobs_organization_id_state", "jobs", ["organization_id", "state", "id"], unique=False)
    for table, texts in SEARCHED.items():
        joined = " || ' '::text || ".join(f"COALESCE({text}, ''::character varying)::text" for text in texts)
        folded = sa.Computed(f"casefold(NORMALIZE({joined}, NFKC) COLLATE pg_unicode_fast)", persisted=True)
        op.add_column(table, sa.Column("search", sa.Text(), folded, nullable=False))


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_jobs_organization_id_state", table_name="jobs")
    for table in SEARCHED:
        op.drop_column(table, "search")
    op.drop_table("tags")
