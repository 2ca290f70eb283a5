"""Limits: quotas of projects, the bytes that each holds, and requests a minute of a token.

What is sealed already is counted at once.

Revision: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

from ringi.audit import ddl

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COUNTED_CHANGES = "name, scopes, environment, expires_at, revoked_at"
# Digest and size of everything that a project has sealed.
SEALED = """
    INSERT INTO project_bytes (id, project_id, digest, size)
    SELECT gen_random_uuid(), project_id, digest, max(size) FROM (
        SELECT v.project_id, b.digest, b.size FROM dataset_versions v
          JOIN blobs b ON b.digest IN (v.source_digest, v.train_digest, v.validation_digest)
        UNION ALL
        SELECT v.project_id, file->>'digest', (file->>'size')::bigint FROM adapter_versions v, jsonb_array_elements(v.files) file
        UNION ALL
        SELECT e.project_id, b.digest, b.size FROM evaluations e JOIN blobs b ON b.digest = e.records_digest
    ) held GROUP BY project_id, digest
"""


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "project_quotas",
        sa.Column("open_jobs", sa.Integer(), nullable=True),
        sa.Column("jobs_per_day", sa.Integer(), nullable=True),
        sa.Column("gpu_hours_per_month", sa.Float(), nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=True),
        sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_project_quotas_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project_quotas")),
        sa.UniqueConstraint("project_id", name=op.f("uq_project_quotas_project_id")),
    )
    op.create_index(op.f("ix_project_quotas_project_id"), "project_quotas", ["project_id"], unique=False)
    op.create_table(
        "project_bytes",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_project_bytes_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project_bytes")),
        sa.UniqueConstraint("project_id", "digest", name=op.f("uq_project_bytes_project_id_digest")),
    )
    op.create_index(op.f("ix_project_bytes_project_id"), "project_bytes", ["project_id"], unique=False)
    op.execute(f"REVOKE ALL ON project_quotas, project_bytes FROM {ddl.APPLICATION_ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON project_quotas TO {ddl.APPLICATION_ROLE}")
    op.execute(f"GRANT SELECT, INSERT ON project_bytes TO {ddl.APPLICATION_ROLE}")
    op.execute(
        "CREATE TRIGGER project_quotas_row_version BEFORE UPDATE ON project_quotas FOR EACH ROW EXECUTE FUNCTION count_row_version()"
    )
    op.execute(SEALED)
    op.add_column("jobs", sa.Column("reserved_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("tokens", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    _count_token_changes(f"{COUNTED_CHANGES}, requests_per_minute")


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    _count_token_changes(COUNTED_CHANGES)
    op.drop_column("tokens", "requests_per_minute")
    op.drop_column("jobs", "reserved_bytes")
    op.drop_table("project_bytes")
    op.drop_table("project_quotas")


def _count_token_changes(columns: str) -> None:
    op.execute("DROP TRIGGER tokens_row_version ON tokens")
    op.execute(f"CREATE TRIGGER tokens_row_version BEFORE UPDATE OF {columns} ON tokens FOR EACH ROW EXECUTE FUNCTION count_row_version()")
