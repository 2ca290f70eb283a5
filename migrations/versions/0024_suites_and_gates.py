"""Suites with sealed versions, measurements of adapters with them, and decisions of the gate.

Revision: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from ringi.db import tenancy

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

APPLICATION = tenancy.APPLICATION_ROLE
# Written once: there is no right to change them. A suite's row is a lock, and a measurement is filled in once, which its trigger sees to.
SEALED, CHANGED = ("suite_versions", "gate_decisions"), ("suites", "measurements")
SEALED_FUNCTION = """
CREATE FUNCTION ringi_measurement_sealed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'measurement % is %, and is not changed any more', OLD.id, OLD.state USING ERRCODE = 'restrict_violation';
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


def _keys(table: str, **references: str) -> list[sa.ForeignKeyConstraint]:
    known = {"project_id": "projects.id", **references}
    return [sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}")) for column, target in known.items()]


def _suites() -> None:
    joined = "COALESCE(name, ''::character varying)::text || ' '::text || COALESCE(description, ''::character varying)::text"
    folded = sa.Computed(f"casefold(NORMALIZE({joined}, NFKC) COLLATE pg_unicode_fast)", persisted=True)
    op.create_table(
        "suites",
        *_born(),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("search", sa.Text(), folded, nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        *_keys("suites"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suites")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_suites_project_id_name")),
    )
    op.create_table(
        "suite_versions",
        *_born(),
        sa.Column("suite_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        _json("document"),
        _json("facts"),
        sa.Column("items", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("audit_event_id", sa.Uuid(), nullable=False),
        *_keys("suite_versions", suite_id="suites.id", digest="blobs.digest"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suite_versions")),
        sa.UniqueConstraint("suite_id", "number", name=op.f("uq_suite_versions_suite_id_number")),
        sa.UniqueConstraint("suite_id", "digest", name=op.f("uq_suite_versions_suite_id_digest")),
    )
    op.create_index(op.f("ix_suite_versions_digest"), "suite_versions", ["digest"])


def _measurements() -> None:
    op.create_table(
        "measurements",
        *_born(),
        sa.Column("suite_version_id", sa.Uuid(), nullable=False),
        sa.Column("base_revision_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("again", sa.Boolean(), nullable=False),
        sa.Column("imported_from", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        _json("problem", nullable=True),
        sa.Column("records_digest", sa.String(length=71), nullable=True),
        _json("summary", nullable=True),
        _json("operations", nullable=True),
        _json("runtime", nullable=True),
        sa.Column("runtime_digest", sa.String(length=71), nullable=True),
        _json("evidence", nullable=True),
        sa.Column("evidence_digest", sa.String(length=71), nullable=True),
        sa.Column("reused_from", sa.Uuid(), nullable=True),
        sa.Column("requested_by", sa.Uuid(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("audit_event_id", sa.Uuid(), nullable=True),
        *_keys(
            "measurements", suite_version_id="suite_versions.id", base_revision_id="base_revisions.id", version_id="adapter_versions.id",
            job_id="jobs.id", reused_from="measurements.id",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurements")),
    )  # fmt: skip
    op.create_index("ix_measurements_of", "measurements", ["suite_version_id", "base_revision_id", "version_id", "state"])
    op.create_index("ix_measurements_job_id_place", "measurements", ["job_id", "place"])
    op.create_index(
        "ix_measurements_evidence_digest", "measurements", ["evidence_digest"], postgresql_where=sa.text("evidence_digest IS NOT NULL")
    )
    op.create_index(op.f("ix_measurements_version_id"), "measurements", ["version_id"])
    op.execute(SEALED_FUNCTION)
    op.execute(
        "CREATE TRIGGER measurement_sealed BEFORE UPDATE ON measurements FOR EACH ROW WHEN (OLD.state <> 'pending')"
        " EXECUTE FUNCTION ringi_measurement_sealed()"
    )


def _gates() -> None:
    op.create_table(
        "gate_decisions",
        *_born(),
        sa.Column("suite_version_id", sa.Uuid(), nullable=False),
        sa.Column("candidate_id", sa.Uuid(), nullable=False),
        sa.Column("baseline_id", sa.Uuid(), nullable=False),
        sa.Column("asked", sa.String(length=160), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("imported", sa.Boolean(), nullable=False),
        _json("document"),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=False),
        sa.Column("audit_event_id", sa.Uuid(), nullable=False),
        *_keys("gate_decisions", suite_version_id="suite_versions.id", candidate_id="measurements.id", baseline_id="measurements.id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_decisions")),
    )
    for column in ("suite_version_id", "candidate_id", "digest"):
        op.create_index(op.f(f"ix_gate_decisions_{column}"), "gate_decisions", [column])


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    _suites()
    _measurements()
    _gates()
    for table in (*SEALED, *CHANGED):
        op.create_index(op.f(f"ix_{table}_project_id"), table, ["project_id"])
        op.execute(f"REVOKE ALL ON {table} FROM {APPLICATION}")
        op.execute(f"GRANT SELECT, INSERT{', UPDATE' if table in CHANGED else ''} ON {table} TO {APPLICATION}")
        tenancy.protect(op.execute, table, tenancy.OF_PROJECT)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in ("gate_decisions", "measurements", "suite_versions", "suites"):
        op.drop_table(table)
    op.execute("DROP FUNCTION ringi_measurement_sealed()")
