"""Where an imported version came from.

Revision: 0011
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from ringi.audit import ddl

revision = "0011"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "version_origins",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("system", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=256), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("version", sa.String(length=80), nullable=False),
        sa.Column("run_id", sa.String(length=256), nullable=True),
        sa.Column("run_url", sa.String(length=1000), nullable=True),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("imported_by", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_version_origins_project_id")),
        sa.ForeignKeyConstraint(["version_id"], ["adapter_versions.id"], name=op.f("fk_version_origins_version_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_version_origins")),
        sa.UniqueConstraint(
            "project_id", "system", "source", "name", "version", name=op.f("uq_version_origins_project_id_system_source_name_version")
        ),
    )
    op.create_index(op.f("ix_version_origins_project_id"), "version_origins", ["project_id"], unique=False)
    op.create_index(op.f("ix_version_origins_version_id"), "version_origins", ["version_id"], unique=False)
    # What 0002 granted holds for the tables of its time. Written once: there is no right to change or remove a row.
    op.execute(f"REVOKE ALL ON version_origins FROM {ddl.APPLICATION_ROLE}")
    op.execute(f"GRANT SELECT, INSERT ON version_origins TO {ddl.APPLICATION_ROLE}")


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("version_origins")
