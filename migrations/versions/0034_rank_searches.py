"""Trials of searches for a rank and a learning rate.

Revision: 0034
Revises: 0033
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from ringi.db import tenancy

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

APPLICATION = tenancy.APPLICATION_ROLE


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    document = postgresql.JSONB(astext_type=sa.Text())
    op.create_table(
        "search_trials",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("spec", document, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=True),
        sa.Column("comparisons", document, nullable=False),
        sa.Column("stopped_after", sa.Integer(), nullable=True),
        sa.Column("problem", document, nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_search_trials_job_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_search_trials_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_trials")),
    )
    op.create_index(op.f("ix_search_trials_project_id"), "search_trials", ["project_id"], unique=False)
    op.create_index("uq_search_trials_job_id_place", "search_trials", ["job_id", "place"], unique=True)
    op.execute(f"REVOKE ALL ON search_trials FROM {APPLICATION}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON search_trials TO {APPLICATION}")
    tenancy.protect(op.execute, "search_trials", tenancy.OF_PROJECT)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    # A job of a kind that the older release does not know would end its workers.
    if op.get_bind().scalar(sa.text("SELECT count(*) FROM jobs WHERE kind = 'search_rank'")):
        raise RuntimeError("There are searches, whose jobs the older release cannot read: restore the backup from before the upgrade.")
    op.drop_table("search_trials")
