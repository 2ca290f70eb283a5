"""A job's place in its queue, given by hand; who is taken next is placement.py."""

from uuid import UUID

from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.jobs.models import Job
from ringi.jobs.schemas import OPEN
from ringi.jobs.service import JobEnded, find
from ringi.kit.actor import Actor


def prioritize(session: Session, actor: Actor, *, job_id: UUID, priority: int) -> Job:
    """Give an open job another place in its queue."""
    job = find(session, actor, job_id)
    session.refresh(job, with_for_update={"of": Job})
    if job.state not in OPEN:
        raise JobEnded(job)
    job.priority = priority
    audit.record(
        session, actor, AuditAction.JOB_PRIORITIZE, object_type="job", object_id=job.id, project_id=job.project_id, details={"priority": priority}
    )  # fmt: skip
    return job
