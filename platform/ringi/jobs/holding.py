"""What a running job keeps before its end: in a short transaction of its own, and only while the job is still this attempt's."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.jobs.service import LeaseLost


def hold(session: Session, job_id: UUID, *, owner: str, attempt: int) -> Job:
    """The job, which nobody takes over until the transaction ends. Raises LeaseLost."""
    # unscoped: the worker holds the lease.
    mine = select(Job).where(Job.id == job_id, Job.state == JobState.RUNNING, Job.lease_owner == owner, Job.attempt == attempt)
    job = session.scalars(mine.with_for_update(read=True)).one_or_none()
    if job is None:
        raise LeaseLost(job_id)
    return job
