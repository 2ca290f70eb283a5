"""Enqueue, claim, heartbeat, finish, fail, cancel and reap: every move is a compare-and-set on the jobs table.

A worker owns a job while its lease lasts (three missed heartbeats). What it reports after losing the lease is refused, so a job that
two workers touched still ends exactly once.
"""

import random
from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from opentelemetry.trace import SpanKind
from sqlalchemy import ColumnElement, Select, func, not_, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from ringi.audit import service as audit
from ringi.audit.generations import AuditOriginDiffers, must_be
from ringi.audit.read_only import AuditReadOnly, is_stopped
from ringi.audit.schemas import AuditAction
from ringi.events import outbox
from ringi.events.schemas import Topic
from ringi.fleet import service as fleet
from ringi.identity.permissions import visible, visible_projects
from ringi.jobs import admission, announcements, placement
from ringi.jobs.cleaning import clean_document
from ringi.jobs.contracts.kinds import CONTRACTS, JobKind
from ringi.jobs.contracts.parts import Contract, Progress, as_document
from ringi.jobs.models import STILL_OPEN, Job
from ringi.jobs.schemas import NOT_OVER, JobState, Placement, Stop
from ringi.kit.actor import Actor, system_actor
from ringi.kit.errors import Conflict, NotFound, RingiError
from ringi.observe import tracing
from ringi.settings import get_settings

_FIRST_RETRY_S, _LONGEST_RETRY_S = 2.0, 300.0


class AlreadyRunning(Conflict):
    """An open job works on the same thing."""

    code = "already_running"

    def __init__(self, subject: str) -> None:
        super().__init__(f"There is already an open job for {subject}.", next_step="Cancel it, or wait for it to end: ringi jobs list.")


class JobEnded(Conflict):
    """The job is over."""

    code = "job_ended"

    def __init__(self, job: Job) -> None:
        super().__init__(f"Job {job.id} has already ended as '{job.state}'.", next_step="There is nothing to do.")


class LeaseLost(RingiError):
    """The worker no longer owns the job; what it made is dropped."""

    code, status = "job_lease_lost", 409

    def __init__(self, job_id: UUID) -> None:
        super().__init__(
            f"The lease on job {job_id} is lost: another worker took it over, or it was cancelled.", next_step="Drop the result."
        )


@tracing.traced("enqueue", SpanKind.PRODUCER)
def enqueue(
    session: Session,
    actor: Actor,
    kind: JobKind,
    payload: Contract,
    *,
    subject: str,
    project_id: UUID | None,
    exclusive_key: str | None = None,
    adds_bytes: int = 0,
    wish: Placement | None = None,
) -> Job:
    """A job row and its nudge in the caller's transaction; raises AlreadyRunning when `exclusive_key` has an open job, QuotaExceeded.

    `adds_bytes`: what it will seal in the project, as far as that is known.
    """
    if project_id is not None:
        admission.admit(session, project_id, queue=CONTRACTS[kind].queue, adds_bytes=adds_bytes)
    wanted = insert(Job).values(
        organization_id=actor.organization_id, project_id=project_id, kind=kind, queue=CONTRACTS[kind].queue, subject=subject,
        exclusive_key=exclusive_key, payload=as_document(payload), created_by=actor.id, reserved_bytes=adds_bytes,
        priority=wish.priority if wish else 0,
        requirements=placement.requirements(kind, payload, wish).model_dump(mode="json", exclude_none=True),
        traceparent=tracing.traceparent(), request_id=actor.request_id,
    )  # fmt: skip
    # Losing the race for the key leaves no row and the caller's transaction usable.
    only = wanted.on_conflict_do_nothing(index_elements=[Job.exclusive_key], index_where=STILL_OPEN)
    job = session.scalars(only.returning(Job)).one_or_none()
    if job is None:
        raise AlreadyRunning(subject)
    tracing.describe(ringi__job__id=str(job.id), ringi__job__kind=kind, ringi__job__queue=job.queue)
    nudge(session, job)
    return job


def nudge(session: Session, job: Job, *, delay_s: float = 0.0) -> None:
    """Tell the workers of a queued job, with the caller's commit."""
    outbox.put(
        session, Topic.JOB_READY, key=str(job.id), payload={"queue": job.queue}, delay_s=delay_s, traceparent=job.traceparent,
        request_id=job.request_id,
    )  # fmt: skip


def claim(session: Session, job_id: UUID, *, owner: str, lease_s: float) -> Job | None:
    """Take a queued job; None when it is not there to take: ended, running elsewhere, cancelled, not due yet, or the platform is read-only.

    Raises AuditOriginDiffers where nothing that this process makes could be kept.
    """
    must_be(session, get_settings().audit_origin)
    now = func.clock_timestamp()
    return session.scalars(
        update(Job)
        .where(Job.id == job_id, Job.state == JobState.QUEUED, Job.not_before <= now, Job.cancel_requested_at.is_(None), not_(is_stopped()))
        .values(
            state=JobState.RUNNING, attempt=Job.attempt + 1, lease_owner=owner, lease_until=now + timedelta(seconds=lease_s),
            started_at=func.coalesce(Job.started_at, now), error=None,
        )
        .returning(Job)
    ).one_or_none()  # fmt: skip


def claim_next(session: Session, *, worker: str, owner: str, lease_s: float) -> Job | None:
    """Take the best queued job that the worker can do; None where there is none, or where the worker may take no job."""
    at_work = fleet.at_work(session, worker, owner=owner)
    best = placement.next_for(session, at_work) if at_work is not None else None
    return claim(session, best, owner=owner, lease_s=lease_s) if best is not None else None


def owned(job_id: UUID, owner: str, attempt: int) -> list[ColumnElement[bool]]:
    """The job while it is this attempt's."""
    # The attempt is part of the claim: the same worker may have lost the job and taken it again.
    return [Job.id == job_id, Job.state == JobState.RUNNING, Job.lease_owner == owner, Job.attempt == attempt]


def heartbeat(session: Session, job_id: UUID, *, owner: str, attempt: int, lease_s: float, progress: Progress | None) -> Stop | None:
    """Extend the lease and store progress; returns what was asked of the job meanwhile. Raises LeaseLost."""
    values: dict[str, Any] = {"lease_until": func.clock_timestamp() + timedelta(seconds=lease_s)}
    if progress is not None:
        values["progress"] = as_document(progress)
    row = session.execute(
        update(Job).where(*owned(job_id, owner, attempt)).values(**values).returning(Job.cancel_requested_at, Job.pause_requested_at)
    ).one_or_none()
    if row is None:
        raise LeaseLost(job_id)
    if row.cancel_requested_at is not None:
        return Stop.CANCEL
    return Stop.PAUSE if row.pause_requested_at is not None else None


def finish(session: Session, job_id: UUID, *, owner: str, attempt: int, result: Contract) -> Job:
    """Succeed; the caller writes what the result means in the same transaction. Raises LeaseLost."""
    ended = update(Job).where(*owned(job_id, owner, attempt)).values(
        state=JobState.SUCCEEDED, result=as_document(result), lease_owner=None, lease_until=None, checkpoint=None,
        finished_at=func.clock_timestamp(),
    )  # fmt: skip
    job = session.scalars(ended.returning(Job)).one_or_none()
    if job is None:
        raise LeaseLost(job_id)
    return job


def fail(session: Session, job_id: UUID, *, owner: str, attempt: int, error: RingiError, secrets: Collection[str] = ()) -> Job:
    """End the attempt: again later when the error may pass and attempts are left, failed otherwise. Raises LeaseLost.

    An attempt whose result was refused because the platform is read-only, or its log another one by now, does not count: the job waits (`claim`).

    The error is stored without `secrets` (the worker's own) and what looks like one: people, events and mails repeat it.
    """
    # unscoped: the worker holds the lease.
    job = session.scalars(select(Job).where(*owned(job_id, owner, attempt)).with_for_update()).one_or_none()
    if job is None:
        raise LeaseLost(job_id)
    told = {"code": error.code, "message": error.message, "next_step": error.next_step, "details": error.details}
    job.error = clean_document(told, secrets=secrets)
    elsewhere = error.code == placement.OUT_OF_MEMORY and placement.move_after_out_of_memory(session, job)
    waits = isinstance(error, AuditReadOnly | AuditOriginDiffers)
    if waits:
        job.max_attempts += 1
    if (error.retryable or elsewhere or waits) and job.attempt < job.max_attempts and job.cancel_requested_at is None:
        requeue(session, job)
    else:
        end(session, job, JobState.FAILED)
    return job


def requeue(session: Session, job: Job) -> None:
    """Back to the queue with exponential back-off and jitter, or to rest where that was asked for; the caller holds the row's lock."""
    if job.pause_requested_at is not None:
        rest(session, job)
        return
    delay_s = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2 ** (job.attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
    job.state, job.lease_owner, job.lease_until = JobState.QUEUED, None, None
    job.not_before = func.clock_timestamp() + timedelta(seconds=delay_s)
    nudge(session, job, delay_s=delay_s)


def rest(session: Session, job: Job) -> None:
    """Pause a job whose row the caller has locked."""
    job.state, job.lease_owner, job.lease_until, job.paused_at = JobState.PAUSED, None, None, func.clock_timestamp()
    announcements.paused(session, job)


def end(session: Session, job: Job, state: JobState) -> None:
    """Close a job whose row the caller has locked: it failed or was cancelled. Its snapshot stays for a while (pausing.py)."""
    job.state, job.lease_owner, job.lease_until, job.finished_at = state, None, None, func.clock_timestamp()
    if state == JobState.CANCELLED and job.error is not None:
        # What went wrong before said what would be done about it.
        job.error = {**job.error, "next_step": "Nothing: the job was cancelled."}
    announcements.ended(session, job)


def cancelled(session: Session, job_id: UUID, *, owner: str, attempt: int) -> Job:
    """The worker stopped because it was asked to. Raises LeaseLost."""
    # unscoped: the worker holds the lease.
    job = session.scalars(select(Job).where(*owned(job_id, owner, attempt)).with_for_update()).one_or_none()
    if job is None:
        raise LeaseLost(job_id)
    end(session, job, JobState.CANCELLED)
    return job


def cancel(session: Session, actor: Actor, *, job_id: UUID) -> Job:
    """Ask for the end of an open or paused job: a running one ends at its next heartbeat, another now."""
    job = find(session, actor, job_id)
    session.refresh(job, with_for_update={"of": Job})
    if job.state not in NOT_OVER:
        raise JobEnded(job)
    job.cancel_requested_at = func.clock_timestamp()
    if job.state != JobState.RUNNING:
        end(session, job, JobState.CANCELLED)
    audit.record(session, actor, AuditAction.JOB_CANCEL, object_type="job", object_id=job.id, project_id=job.project_id)
    session.flush()  # the answer shows the database's times
    session.refresh(job)
    return find(session, actor, job_id)


def reap(session: Session, *, batch: int = 100) -> int:
    """Jobs whose worker fell silent go back to the queue, or fail when their attempts are used up. Returns how many were found."""
    # unscoped: the platform looks after every job.
    silent = select(Job).where(Job.state == JobState.RUNNING, Job.lease_until < func.clock_timestamp())
    jobs = session.scalars(silent.limit(batch).with_for_update(skip_locked=True)).all()
    for job in jobs:
        job.error = {
            "code": "worker_lost", "message": f"The worker {job.lease_owner} fell silent during attempt {job.attempt}.",
            "next_step": "Nothing: another worker goes on from the last checkpoint.", "details": {},
        }  # fmt: skip
        placement.note_loss(session, job)
        if job.cancel_requested_at is not None:
            end(session, job, JobState.CANCELLED)
        elif job.attempt < job.max_attempts:
            requeue(session, job)
        else:
            job.error["next_step"] = "Look at the worker's log and memory, then start the work again."
            end(session, job, JobState.FAILED)
            audit.record(
                session, system_actor("housekeeping"), AuditAction.JOB_FAIL, object_type="job", object_id=job.id, project_id=job.project_id,
                organization_id=job.organization_id, details={"code": "worker_lost", "on_behalf_of": str(job.created_by)},
            )  # fmt: skip
    return len(jobs)


def renudge(session: Session, *, older_than_s: float, batch: int = 100) -> int:
    """Nudge again for queued jobs that nobody came for: the broker may have lost the first message. Returns how many."""
    before = func.clock_timestamp() - timedelta(seconds=older_than_s)
    # unscoped: the platform looks after every job.
    waiting = select(Job).where(Job.state == JobState.QUEUED, Job.not_before < before, Job.nudged_at < before)
    jobs = session.scalars(waiting.limit(batch).with_for_update(skip_locked=True)).all()
    for job in jobs:
        job.nudged_at = func.clock_timestamp()
        nudge(session, job)
    return len(jobs)


def find(session: Session, actor: Actor, job_id: UUID) -> Job:
    """A job that the caller may see: of a project they see, or of the organisation as a whole."""
    job = session.scalars(listed(actor).where(Job.id == job_id)).unique().one_or_none()
    if job is None:
        raise NotFound("job", job_id)
    return job


def listed(actor: Actor) -> Select[Job]:
    """The jobs that the caller may see."""
    in_sight = or_(Job.project_id.is_(None), Job.project_id.in_(visible_projects(actor)))
    return visible(actor, Job).where(in_sight).options(joinedload(Job.project))
