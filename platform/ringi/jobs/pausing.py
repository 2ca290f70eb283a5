"""A job that rests and goes on: paused -> queued. Which jobs can is their domain's to say (training/life.py).

A running job pauses itself, at a place from which it can go on; until then, and if its worker dies before, `pause_requested_at` says that
it is wanted (service.requeue). A paused job is not open: it holds no worker, no quota, and not the thing that it works on.
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import case, extract, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ringi.jobs import admission, service
from ringi.jobs.contracts.kinds import CONTRACTS, JobKind
from ringi.jobs.models import Job
from ringi.jobs.schemas import NOT_OVER, JobState
from ringi.jobs.service import AlreadyRunning, JobEnded, LeaseLost
from ringi.kit.errors import Conflict


class JobNotPaused(Conflict):
    """Only a paused job goes on."""

    code = "job_not_paused"

    def __init__(self, job: Job) -> None:
        super().__init__(f"Job {job.id} is '{job.state}', not 'paused'.", next_step=f"See how it stands: ringi jobs show {job.id}.")


def pause(session: Session, job: Job) -> None:
    """Ask for a rest: a queued job rests now, a running one at its next step. Raises JobEnded; again it changes nothing."""
    session.refresh(job, with_for_update={"of": Job})
    if job.state not in NOT_OVER:
        raise JobEnded(job)
    if job.state == JobState.PAUSED or job.pause_requested_at is not None:
        return
    job.pause_requested_at = func.clock_timestamp()
    if job.state == JobState.QUEUED:
        service.rest(session, job)
    session.flush()  # the answer shows the database's times
    session.refresh(job)


def paused(session: Session, job_id: UUID, *, owner: str, attempt: int) -> Job:
    """The worker stopped at a place from which the job can go on; it is cancelled if that was asked meanwhile. Raises LeaseLost."""
    # unscoped: the worker holds the lease.
    job = session.scalars(select(Job).where(*service.owned(job_id, owner, attempt)).with_for_update()).one_or_none()
    if job is None:
        raise LeaseLost(job_id)
    if job.cancel_requested_at is not None:
        service.end(session, job, JobState.CANCELLED)
        return job
    # It did not fail, so it may try as often as before.
    job.max_attempts += 1
    service.rest(session, job)
    return job


def go_on(session: Session, job: Job) -> None:
    """Back to the queue. Raises JobNotPaused, QuotaExceeded, and AlreadyRunning where another job holds the thing by now."""
    session.refresh(job, with_for_update={"of": Job})
    if job.state != JobState.PAUSED:
        raise JobNotPaused(job)
    if job.project_id is not None:
        admission.admit(session, job.project_id, queue=CONTRACTS[JobKind(job.kind)].queue, adds_bytes=job.reserved_bytes, is_new=False)
    now = func.clock_timestamp()
    # A rest before the first start is no part of what is counted from there.
    rested_s = case((Job.started_at.is_(None), 0.0), else_=extract("epoch", now - Job.paused_at))
    back = {"state": JobState.QUEUED, "not_before": now, "pause_requested_at": None, "paused_at": None, "paused_s": Job.paused_s + rested_s}
    try:
        with session.begin_nested():
            session.execute(update(Job).where(Job.id == job.id).values(**back))
    except IntegrityError as error:
        raise AlreadyRunning(job.subject) from error
    session.refresh(job)
    service.nudge(session, job)


def forget_snapshots(session: Session, *, ended_before: timedelta) -> int:
    """Let go of the snapshots of jobs that ended longer ago; the bytes go with the next collection. Returns how many."""
    old = Job.checkpoint.is_not(None) & (Job.finished_at < func.clock_timestamp() - ended_before)
    # unscoped: the platform looks after every job.
    return len(session.scalars(update(Job).where(old).values(checkpoint=None).returning(Job.id)).all())
