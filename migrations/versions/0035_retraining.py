"""Whether new rows start retrainings, and the retrainings.

Revision: 0035
Revises: 0034
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from ringi.db import tenancy

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

APPLICATION = tenancy.APPLICATION_ROLE
REFERENCES = {
    "project_id": "projects.id", "dataset_version_id": "dataset_versions.id", "adapter_id": "adapters.id", "source_run_id": "training_runs.id",
    "run_id": "training_runs.id", "evaluation_id": "evaluations.id", "request_id": "approval_requests.id",
}  # fmt: skip
LATER = ("run_id", "evaluation_id", "request_id")


def _born() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
    ]


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "retraining_policies",
        *_born(),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("environment", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_retraining_policies_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retraining_policies")),
        sa.UniqueConstraint("project_id", name=op.f("uq_retraining_policies_project_id")),
    )
    op.execute(
        "CREATE TRIGGER retraining_policies_row_version BEFORE UPDATE ON retraining_policies"
        " FOR EACH ROW EXECUTE FUNCTION count_row_version()"
    )
    op.create_table(
        "retrainings",
        *_born(),
        *(sa.Column(name, sa.Uuid(), nullable=name in LATER) for name in REFERENCES),
        sa.Column("environment", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("problem", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("on_behalf_of", sa.Uuid(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        *(sa.ForeignKeyConstraint([name], [target], name=op.f(f"fk_retrainings_{name}")) for name, target in REFERENCES.items()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retrainings")),
        sa.UniqueConstraint("dataset_version_id", "adapter_id", name=op.f("uq_retrainings_dataset_version_id_adapter_id")),
    )
    op.create_index("ix_retrainings_adapter_id", "retrainings", ["adapter_id"])
    op.create_index("ix_retrainings_open", "retrainings", ["id"], postgresql_where=sa.text("completed_at IS NULL"))
    for table in ("retraining_policies", "retrainings"):
        op.create_index(op.f(f"ix_{table}_project_id"), table, ["project_id"])
        op.execute(f"REVOKE ALL ON {table} FROM {APPLICATION}")
        op.execute(f"GRANT SELECT, INSERT, UPDATE ON {table} TO {APPLICATION}")
        tenancy.protect(op.execute, table, tenancy.OF_PROJECT)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("retrainings")
    op.drop_table("retraining_policies")
