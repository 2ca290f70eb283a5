"""Workers by name, and what jobs need of them.

Revision: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from ringi.audit.ddl import APPLICATION_ROLE

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

JSONB = postgresql.JSONB(astext_type=sa.Text())


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("owner", sa.String(length=400), nullable=False),
        sa.Column("organization_id", sa.Uuid(), nullable=True),
        sa.Column("wanted", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("queues", JSONB, nullable=False),
        sa.Column("device", sa.String(length=16), nullable=False),
        sa.Column("device_name", sa.String(), nullable=False),
        sa.Column("claimed_bytes", sa.BigInteger(), nullable=True),
        sa.Column("measured_bytes", sa.BigInteger(), nullable=True),
        sa.Column("engines", JSONB, nullable=False),
        sa.Column("versions", JSONB, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("heartbeat_s", sa.Float(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=op.f("fk_workers_organization_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        sa.UniqueConstraint("name", name=op.f("uq_workers_name")),
    )
    op.execute(f"REVOKE ALL ON workers FROM PUBLIC, {APPLICATION_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO {APPLICATION_ROLE}")
    op.add_column("jobs", sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("jobs", sa.Column("requirements", JSONB, server_default=sa.text("'{}'::jsonb"), nullable=False))
    op.add_column("jobs", sa.Column("losses", JSONB, server_default=sa.text("'{}'::jsonb"), nullable=False))
    op.create_index("ix_jobs_queued", "jobs", ["queue", "priority", "id"], unique=False, postgresql_where=sa.text("state = 'queued'"))
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"], unique=False, postgresql_where=sa.text("finished_at IS NOT NULL"))


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_index("ix_jobs_finished_at", table_name="jobs")
    op.drop_index("ix_jobs_queued", table_name="jobs")
    op.drop_column("jobs", "losses")
    op.drop_column("jobs", "requirements")
    op.drop_column("jobs", "priority")
    op.drop_table("workers")
