"""What a running job keeps before its end: in a short transaction of its own, and only while the job is still this attempt's."""

from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ringi.jobs.models import Job
from ringi.jobs.service import LeaseLost, owned


def hold(session: Session, job_id: UUID, *, owner: str, attempt: int) -> Job:
    """The job, which nobody takes over until the transaction ends. Raises LeaseLost."""
    # unscoped: the worker holds the lease.
    mine = select(Job).where(*owned(job_id, owner, attempt))
    job = session.scalars(mine.with_for_update(read=True)).one_or_none()
    if job is None:
        raise LeaseLost(job_id)
    return job


def save_checkpoint(session: Session, job_id: UUID, *, owner: str, attempt: int, checkpoint: dict[str, Any]) -> None:
    """Remember where a next attempt may go on. Raises LeaseLost."""
    moved = session.scalar(update(Job).where(*owned(job_id, owner, attempt)).values(checkpoint=checkpoint).returning(Job.id))
    if moved is None:
        raise LeaseLost(job_id)
