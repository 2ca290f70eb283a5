"""Set the limits of a project, and write down which bytes are whose. What is used is counted in jobs/admission.py."""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.identity.models import Project
from ringi.kit.actor import Actor
from ringi.kit.ids import uuid7
from ringi.quotas.models import ProjectBytes, ProjectQuota
from ringi.quotas.schemas import SetQuotas
from ringi.web.preconditions import Match


def of(session: Session, project_id: UUID, *, lock: bool = False) -> ProjectQuota | None:
    """The project's limits; `lock` holds them until the end of the transaction."""
    # unscoped: the caller has been let into the project already.
    query = select(ProjectQuota).where(ProjectQuota.project_id == project_id)
    return session.scalars(query.with_for_update() if lock else query).one_or_none()


class JobLimits(NamedTuple):
    """What stands in the way of one more job; None is no limit."""

    open_jobs: int | None
    jobs_per_day: int | None
    gpu_hours_per_month: float | None
    stored_bytes: int | None


def hold_job_limits(session: Session, project_id: UUID) -> JobLimits | None:
    """The limits of jobs, locked until the end of the transaction, so that the last place is given out once."""
    # unscoped: the caller has been let into the project already.
    query = select(ProjectQuota.open_jobs, ProjectQuota.jobs_per_day, ProjectQuota.gpu_hours_per_month, ProjectQuota.stored_bytes)
    row = session.execute(query.where(ProjectQuota.project_id == project_id).with_for_update()).one_or_none()
    return JobLimits(*row) if row else None


def set_limits(session: Session, actor: Actor, *, project: Project, limits: SetQuotas, match: Match) -> ProjectQuota:
    """Replace the limits; they hold for what is asked for from now on. Raises PreconditionFailed."""
    # unscoped: the caller has been let into the project already. Its row is the lock: the first limits have none of their own.
    session.execute(select(Project.id).where(Project.id == project.id).with_for_update(key_share=True))
    quota = of(session, project.id, lock=True)
    match.require(quota.row_version if quota else 0)
    if quota is None:
        quota = ProjectQuota(project_id=project.id)
        session.add(quota)
    for name, value in limits:
        setattr(quota, name, value)
    session.flush()  # quota.id goes into the audit event
    audit.record(
        session, actor, AuditAction.QUOTA_SET, object_type="project", object_id=project.id, project_id=project.id,
        # No fractions in an entry that lives for ever: hours are written as text.
        details={
            "requests_per_minute": limits.requests_per_minute,
            "open_jobs": limits.open_jobs, "jobs_per_day": limits.jobs_per_day, "stored_bytes": limits.stored_bytes,
            "gpu_hours_per_month": None if limits.gpu_hours_per_month is None else f"{limits.gpu_hours_per_month:g}",
        },
    )  # fmt: skip
    return quota


def note_bytes(session: Session, project_id: UUID | None, stored: Iterable[tuple[str, int]]) -> None:
    """The project now holds these bytes (digest and size); what it held already changes nothing."""
    sizes = dict(stored)
    if project_id is None or not sizes:
        return
    # In one order, so that two jobs that seal the same bytes wait for each other and do not lock each other out.
    rows = [{"id": uuid7(), "project_id": project_id, "digest": digest, "size": sizes[digest]} for digest in sorted(sizes)]
    session.execute(insert(ProjectBytes).values(rows).on_conflict_do_nothing())


def bytes_of(session: Session, project_id: UUID) -> int:
    """How many bytes the project holds."""
    # unscoped: the caller has been let into the project already.
    query = select(func.coalesce(func.sum(ProjectBytes.size), 0)).where(ProjectBytes.project_id == project_id)
    return int(session.scalar(query) or 0)


def new_bytes(session: Session, project_id: UUID, stored: Iterable[tuple[str, int]]) -> int:
    """How many of these bytes (digest and size) the project does not hold yet."""
    sizes = dict(stored)
    # unscoped: the caller has been let into the project already.
    held = select(ProjectBytes.digest).where(ProjectBytes.project_id == project_id, ProjectBytes.digest.in_(sizes))
    return sum(sizes.values()) - sum(sizes[digest] for digest in session.scalars(held))
