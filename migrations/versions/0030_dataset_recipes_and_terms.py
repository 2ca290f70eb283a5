"""What was done to the rows of a dataset version, what may be done with them, and what a project wants of every new version.

Revision: 0030
Revises: 0029
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from ringi.db import tenancy

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

APPLICATION = tenancy.APPLICATION_ROLE
TEXTS = ("licence", "origin", "consent")


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    recipe = sa.Column("recipe", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False)
    op.add_column("dataset_versions", recipe)
    for name in TEXTS:
        op.add_column("dataset_versions", sa.Column(name, sa.String(), server_default="", nullable=False))
    op.add_column("dataset_versions", sa.Column("retain_until", sa.Date(), nullable=True))
    op.create_table(
        "dataset_policies",
        sa.Column("personal_data", sa.String(length=16), nullable=False),
        sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_dataset_policies_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_policies")),
        sa.UniqueConstraint("project_id", name=op.f("uq_dataset_policies_project_id")),
    )
    op.create_index(op.f("ix_dataset_policies_project_id"), "dataset_policies", ["project_id"], unique=False)
    op.execute(f"REVOKE ALL ON dataset_policies FROM {APPLICATION}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON dataset_policies TO {APPLICATION}")
    op.execute(
        "CREATE TRIGGER dataset_policies_row_version BEFORE UPDATE ON dataset_policies FOR EACH ROW EXECUTE FUNCTION count_row_version()"
    )
    tenancy.protect(op.execute, "dataset_policies", tenancy.OF_PROJECT)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    told = "recipe <> '{}'::jsonb OR licence || origin || consent <> '' OR retain_until IS NOT NULL"
    if op.get_bind().scalar(sa.text(f"SELECT count(*) FROM dataset_versions WHERE {told}")):  # noqa: S608  # only our own words
        raise RuntimeError("There are dataset versions whose digest names a recipe or terms: restore the backup from before the upgrade.")
    op.drop_table("dataset_policies")
    for name in ("retain_until", *reversed(TEXTS), "recipe"):
        op.drop_column("dataset_versions", name)
