"""Watches of what is live, and every look that they took.

Revision: 0027
Revises: 0026
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from ringi.db import tenancy

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

APPLICATION = tenancy.APPLICATION_ROLE
# All but `due_at`: a look that is taken is no change that somebody who edits the watch must hear of.
COUNTED = "name, description, channels, adapter_id, suite, schedule, timezone, baseline, drift, within_s, placement, paused_at, deleted_at"
SEALED_FUNCTION = """
CREATE FUNCTION ringi_watch_look_sealed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'look % is %, and is not changed any more', OLD.id, OLD.state USING ERRCODE = 'restrict_violation';
END
$$
"""


def _born() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("project_id", sa.Uuid(), nullable=False),
    ]


def _json(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), nullable=nullable)


def _time(name: str, *, nullable: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _keys(table: str, **references: str) -> list[sa.ForeignKeyConstraint]:
    known = {"project_id": "projects.id", **references}
    return [sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}")) for column, target in known.items()]


def _watches() -> None:
    op.create_table(
        "watches",
        *_born(),
        sa.Column("row_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        _json("channels"),
        sa.Column("adapter_id", sa.Uuid(), nullable=True),
        sa.Column("suite", sa.String(length=160), nullable=False),
        sa.Column("schedule", sa.String(length=128), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("baseline", sa.String(length=160), nullable=False),
        _json("drift"),
        sa.Column("within_s", sa.Integer(), nullable=False),
        _json("placement", nullable=True),
        _time("due_at", nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        _time("paused_at"),
        _time("deleted_at"),
        *_keys("watches", adapter_id="adapters.id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watches")),
    )
    op.create_index(
        "uq_watches_project_id_name", "watches", ["project_id", "name"], unique=True, postgresql_where=sa.text("deleted_at IS NULL")
    )
    op.create_index("ix_watches_due_at", "watches", ["due_at"], postgresql_where=sa.text("deleted_at IS NULL AND paused_at IS NULL"))
    op.execute(
        f"CREATE TRIGGER watches_row_version BEFORE UPDATE OF {COUNTED} ON watches FOR EACH ROW EXECUTE FUNCTION count_row_version()"
    )


def _looks() -> None:
    op.create_table(
        "watch_looks",
        *_born(),
        sa.Column("watch_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        *(sa.Column(name, sa.Uuid(), nullable=True) for name in ("adapter_id", "version_id", "suite_version_id")),
        _time("due_at", nullable=False),
        sa.Column("by_hand", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        _json("problem", nullable=True),
        *(sa.Column(name, sa.Uuid(), nullable=True) for name in ("job_id", "measurement_id", "baseline_id", "reference_id", "gate_id")),
        sa.Column("verdict", sa.String(length=16), nullable=True),
        sa.Column("verdict_before", sa.String(length=16), nullable=True),
        sa.Column("turned", sa.Boolean(), nullable=False),
        sa.Column("drifted", sa.Boolean(), nullable=True),
        _json("drift", nullable=True),
        _time("completed_at"),
        *_keys(
            "watch_looks", watch_id="watches.id", adapter_id="adapters.id", version_id="adapter_versions.id",
            suite_version_id="suite_versions.id", job_id="jobs.id", measurement_id="measurements.id", baseline_id="measurements.id",
            reference_id="measurements.id", gate_id="gate_decisions.id",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watch_looks")),
        sa.UniqueConstraint(
            "watch_id", "due_at", "channel", "adapter_id", name=op.f("uq_watch_looks_watch_id_due_at_channel_adapter_id"), postgresql_nulls_not_distinct=True
        ),
    )  # fmt: skip
    op.create_index("ix_watch_looks_line", "watch_looks", ["watch_id", "channel", "adapter_id", "id"])
    op.create_index("ix_watch_looks_pending", "watch_looks", ["id"], postgresql_where=sa.text("state = 'pending'"))
    op.execute(SEALED_FUNCTION)
    op.execute(
        "CREATE TRIGGER watch_look_sealed BEFORE UPDATE ON watch_looks FOR EACH ROW WHEN (OLD.state <> 'pending')"
        " EXECUTE FUNCTION ringi_watch_look_sealed()"
    )


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    _watches()
    _looks()
    for table in ("watches", "watch_looks"):
        op.create_index(op.f(f"ix_{table}_project_id"), table, ["project_id"])
        op.execute(f"REVOKE ALL ON {table} FROM {APPLICATION}")
        op.execute(f"GRANT SELECT, INSERT, UPDATE ON {table} TO {APPLICATION}")
        tenancy.protect(op.execute, table, tenancy.OF_PROJECT)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.drop_table("watch_looks")
    op.drop_table("watches")
    op.execute("DROP FUNCTION ringi_watch_look_sealed()")
