"""Row-level security: the application sees the rows of its caller's organisation and no other, whatever it asks.

Needs the role `ringi_platform`, which is a member of `ringi_app`: the embedded PostgreSQL and deploy/database-roles.sh make it.

Revision: 0016
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

from ringi.db import tenancy
from ringi.kit.errors import RingiError

revision = "0016"
down_revision = "0014"
branch_labels = None
depends_on = None

OF_ORGANIZATION = (
    "base_comparisons",
    "base_models",
    "base_revisions",
    "events",
    "idempotency_keys",
    "job_log",
    "jobs",
    "memberships",
    "projects",
    "tags",
    "tokens",
    "upload_sessions",
    "uploads",
    "users",
    "audit_event",
)
OF_PROJECT = (
    "adapter_versions",
    "adapters",
    "approval_grants",
    "approval_policies",
    "approval_requests",
    "approval_votes",
    "channel_heads",
    "channels",
    "compatibility_assessments",
    "dataset_versions",
    "datasets",
    "deliveries",
    "delivery_attempts",
    "evaluations",
    "project_bytes",
    "project_quotas",
    "releases",
    "subscriptions",
    "training_runs",
    "version_origins",
)
OTHERWISE = {
    "organizations": "id = (SELECT ringi_tenant())",
    # Those of no organisation serve all.
    "workers": f"organization_id IS NULL OR {tenancy.OF_ORGANIZATION}",
    # The sub-selects run under the policies of their own tables.
    "upload_parts": "EXISTS (SELECT FROM upload_sessions s WHERE s.id = upload_parts.session_id)",
    "audit_payload": "EXISTS (SELECT FROM audit_event e WHERE e.id = audit_payload.event_id)",
}
RULES = {
    **dict.fromkeys(OF_ORGANIZATION, tenancy.OF_ORGANIZATION),
    **dict.fromkeys(OF_PROJECT, tenancy.OF_PROJECT),
    **OTHERWISE,
}


class NoPlatformRole(RingiError):
    """The role that works for every organisation is missing, or does not inherit the application's rights."""

    code, status = "platform_role_missing", 409

    def __init__(self) -> None:
        super().__init__(
            "The database role ringi_platform is missing, or is not a member of ringi_app.",
            next_step="As a superuser: CREATE ROLE ringi_platform LOGIN PASSWORD '…'; GRANT ringi_app TO ringi_platform; "
            "then set RINGI_PLATFORM_DATABASE_URL (docs/deployment.md) and migrate again.",
        )


def upgrade() -> None:
    """Apply."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    member = "SELECT count(*) FROM pg_roles WHERE rolname = 'ringi_platform' AND pg_has_role(rolname, 'ringi_app', 'USAGE')"
    if op.get_bind().scalar(sa.text(member)) != 1:
        raise NoPlatformRole
    tenancy.install(op.execute)
    for table, rule in RULES.items():
        tenancy.protect(op.execute, table, rule)


def downgrade() -> None:
    """Undo."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in RULES:
        tenancy.release(op.execute, table)
    tenancy.remove(op.execute)
