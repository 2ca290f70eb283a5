"""The log of jobs: changes, progress and lines, placed in the order of their commits.

Revision: 0006
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from ringi.audit.ddl import APPLICATION_ROLE
from ringi.jobs import ddl

revision = "0006"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "job_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("level", sa.Integer(), nullable=True),
        sa.Column("line", sa.Integer(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_log_job_id")),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_job_log_organization_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_job_log_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_log")),
        sa.UniqueConstraint("position", name=op.f("uq_job_log_position")),
    )
    op.create_index("ix_job_log_job_id_position", "job_log", ["job_id", "position"], unique=False)
    op.create_index(op.f("ix_job_log_organization_id"), "job_log", ["organization_id"], unique=False)
    op.create_index("ix_job_log_project_id_position", "job_log", ["project_id", "position"], unique=False)
    op.create_index("uq_job_log_line", "job_log", ["job_id", "attempt", "line"], unique=True, postgresql_where=sa.text("line IS NOT NULL"))
    op.create_index("uq_job_log_progress", "job_log", ["job_id"], unique=True, postgresql_where=sa.text("kind = 'progress'"))
    ddl.install(op.execute, role=APPLICATION_ROLE)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    ddl.remove(op.execute)
    op.drop_table("job_log")
