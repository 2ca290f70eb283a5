"""The read-only mode (governance B4.3): while a stop is open, the database refuses every event of a change, and so the change.

A policy of the table does that (`entry_policy.py`), so no way to change something can forget to ask. Here is what the platform says then, and how it looks.
"""

from sqlalchemy import Connection, Exists, exists, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from ringi.audit.ddl import OTHER_ORIGIN_STATE, READ_ONLY_STATE
from ringi.audit.generations import AuditOriginDiffers
from ringi.audit.models import AuditStop
from ringi.kit.errors import RingiError
from ringi.settings import get_settings


class AuditReadOnly(RingiError):
    """The log is not what was signed and anchored, so nothing may be changed until a person has looked."""

    code, status, retryable = "audit_read_only", 503, True

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The platform is read-only: its audit log does not agree with what was signed before ({why}). Nothing was changed.",
            next_step="Reading goes on, and revoking and disabling too. Tell the operator; docs/audit.md says what ends this mode.",
            details={"why": why},
        )


def raise_if_refused(error: DBAPIError) -> None:
    """Raise AuditReadOnly or AuditOriginDiffers when it was the policy of the table that refused; otherwise return."""
    state, diagnosed = getattr(error.orig, "sqlstate", None), getattr(error.orig, "diag", None)
    detail = getattr(diagnosed, "message_detail", None) or "unknown"
    if state == READ_ONLY_STATE:
        raise AuditReadOnly(detail) from error
    if state == OTHER_ORIGIN_STATE:
        raise AuditOriginDiffers(get_settings().audit_origin, detail) from error


def is_stopped() -> Exists:
    """For queries: whether a stop is open."""
    return exists().where(AuditStop.ended_at.is_(None))


def open_stop(session: Session | Connection) -> str | None:
    """The code of the open stop, None when the platform may be changed."""
    return session.scalar(select(AuditStop.code).where(AuditStop.ended_at.is_(None)).order_by(AuditStop.id).limit(1))
