"""Enter the read-only mode, which the platform does by itself, and end it, which only a person does as the owner of the tables."""

import logging

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.checking import Finding
from ringi.audit.models import AuditStop
from ringi.audit.schemas import AuditAction
from ringi.kit.actor import system_actor
from ringi.kit.errors import Conflict

log = logging.getLogger("ringi.audit")


class NotStopped(Conflict):
    """There is no read-only mode to end."""

    code = "audit_not_stopped"

    def __init__(self) -> None:
        super().__init__("The platform is not read-only.", next_step="Nothing: it can be changed.")


def stop(session: Session, origin: str, finding: Finding) -> bool:
    """Make the platform read-only; False when it was already. The alarm is in the log of this process before anything is written."""
    if session.scalar(select(AuditStop.id).where(AuditStop.origin == origin, AuditStop.ended_at.is_(None))) is not None:
        return False
    log.critical("ALARM %s: %s The platform is read-only from now on (docs/audit.md).", finding.code, finding.message)
    try:
        with session.begin_nested():
            audit.record(
                session, system_actor("sequencer"), AuditAction.LOG_STOP, object_type="audit_log", object_id=origin,
                details={"code": finding.code}, payload=finding.message,
            )  # fmt: skip
    except SQLAlchemyError as error:
        # What was done to the log may be why: the stop matters more than its entry.
        log.error("the stop has no entry of its own: %s", " ".join(str(error).split())[:300])  # noqa: TRY400  # as said
    row = insert(AuditStop).values(origin=origin, code=finding.code, message=finding.message)
    session.execute(row.on_conflict_do_nothing())
    return True


def resume(session: Session, reason: str) -> list[str]:
    """End every open stop for the reason that a person gives; returns their codes. Needs the owner of the tables. Raises NotStopped.

    The platform stops again at the next check as long as the cause is there.
    """
    ended = update(AuditStop).where(AuditStop.ended_at.is_(None)).values(ended_at=func.clock_timestamp(), ended_reason=reason)
    stops = session.execute(ended.returning(AuditStop.origin, AuditStop.code)).all()
    if not stops:
        raise NotStopped
    for origin, code in stops:
        audit.record(
            session, system_actor("operator"), AuditAction.LOG_RESUME, object_type="audit_log", object_id=origin, details={"code": code},
            payload=reason,
        )  # fmt: skip
    return [code for _, code in stops]
