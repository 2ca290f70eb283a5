"""Follow and cancel jobs, and read what they wrote."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy.orm import Session

from ringi.db.session import platform_transaction
from ringi.fleet.matching import WaitingFor
from ringi.fleet.schemas import Device
from ringi.identity.dependencies import InProject, allowed, allowed_in_project, deny
from ringi.identity.permissions import Permission
from ringi.jobs import log as job_log
from ringi.jobs import placement, priority, service, stream
from ringi.jobs.contracts.kinds import JobKind, Queue
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.lists import JOBS
from ringi.jobs.models import Job
from ringi.jobs.schemas import DemandOut, JobError, JobOut, JobState, Level, LogLine, SetPriority
from ringi.jobs.stream import EVENTS, EventStream, PlaceDep, TooManyStreams, UnknownEventId
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.tags.lists import fill, with_tags
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, rows_of
from ringi.web.positions import Paging, decode_cursor, encode_cursor, paging
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, tags=["jobs"], responses=responses(Unauthenticated, Forbidden, NotFound))


def job_out(job: Job, waiting: dict[UUID, WaitingFor]) -> JobOut:
    """A job as clients see it; `waiting` tells of the queued ones what they wait for."""
    return JobOut(
        id=job.id, kind=job.kind, state=job.state, subject=job.subject, produced=job.produced, project=job.project.name if job.project else None, attempt=job.attempt,
        max_attempts=job.max_attempts, progress=Progress.model_validate(job.progress) if job.progress else None, error=JobError.model_validate(job.error) if job.error else None, cancel_requested=job.cancel_requested_at is not None,
        row_version=job.row_version,
        priority=job.priority, requirements=placement.needs_of(job), waiting_for=waiting.get(job.id), lease_owner=job.lease_owner, created_at=job.created_at, started_at=job.started_at, finished_at=job.finished_at,
    )  # fmt: skip


def _shown(session: Session, job: Job) -> JobOut:
    return with_tags(session, job_out(job, placement.waiting_for(session, [job])))


@router.get("/jobs")
def list_jobs(
    session: SessionDep,
    actor: Annotated[Actor, allowed(Permission.PROJECT_READ)],
    ask: Annotated[Ask, asking(JOBS)],
    state: Annotated[JobState | None, Query(description="The same as the filter `state=…`.")] = None,
    kind: Annotated[JobKind | None, Query(description="The same as the filter `kind=…`.")] = None,
) -> Page[JobOut]:
    """Jobs in sight, newest first."""
    query = service.listed(actor)
    if state is not None:
        query = query.where(Job.state == state)
    if kind is not None:
        query = query.where(Job.kind == kind)
    found = rows_of(session, query, ask)
    jobs = [row[0] for row in found.rows]
    waiting = placement.waiting_for(session, jobs)
    items = [job_out(job, waiting) for job in jobs]
    fill(session, items)
    return Page(items=items, next_cursor=found.next_cursor, total=found.total, total_exact=found.total_exact)


@router.get("/jobs/events", status_code=200, response_class=EventStream, responses=EVENTS | responses(TooManyStreams, UnknownEventId))
def follow_jobs(
    session: SessionDep,
    actor: Annotated[Actor, allowed(Permission.PROJECT_READ)],
    begin: PlaceDep,
    level: Annotated[Level | None, Query(description="Also lines, from this level on.")] = None,
) -> Response:
    """Follow the jobs in sight as server-sent events: changes of state, progress, and lines where asked for.

    Begins now, or behind `Last-Event-ID`. Events: `state`, `progress`, `log`, and `refused` when the token is no longer valid.
    """
    return stream.of_jobs(session, actor, begin, level=level)


@router.get(
    "/projects/{project}/jobs/events",  # noqa: FAST003  # a dependency takes the project
    status_code=200,
    response_class=EventStream,
    responses=EVENTS | responses(TooManyStreams, UnknownEventId),
)
def follow_project(
    session: SessionDep,
    caller: Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)],
    begin: PlaceDep,
    level: Annotated[Level | None, Query(description="Also lines, from this level on.")] = None,
) -> Response:
    """Follow the jobs of one project as server-sent events, like `GET /jobs/events`."""
    return stream.of_jobs(session, caller.actor, begin, projects=frozenset({caller.project.id}), level=level)


@router.get(
    "/jobs/{job_id}/events", status_code=200, response_class=EventStream, responses=EVENTS | responses(TooManyStreams, UnknownEventId)
)
def follow_job(
    session: SessionDep,
    actor: Annotated[Actor, allowed(Permission.PROJECT_READ)],
    job_id: UUID,
    begin: PlaceDep,
    level: Annotated[Level, Query(description="Lines from this level on.")] = Level.INFO,
) -> Response:
    """Follow one job as server-sent events: its log so far, then what happens, and `end` when it is over.

    A client that comes back with `Last-Event-ID` gets what it missed; where there is nothing more to come, the answer is 204.
    """
    return stream.of_job(session, service.find(session, actor, job_id), begin, level=level)


@router.get("/jobs/{job_id}/logs")
def list_lines(
    session: SessionDep,
    actor: Annotated[Actor, allowed(Permission.PROJECT_READ)],
    job_id: UUID,
    page: Annotated[Paging, Depends(paging)],
    level: Annotated[Level, Query(description="Lines from this level on.")] = Level.INFO,
    attempt: Annotated[int | None, Query(ge=1, le=1000)] = None,
    since: Annotated[datetime | None, Query(description="Lines written at this time or later; RFC 3339.")] = None,
    after: Annotated[int, Query(ge=0, lt=2**63, description="Lines behind the one with this id.")] = 0,
) -> Page[LogLine]:
    """The lines that a job's attempts wrote, oldest first."""
    job = service.find(session, actor, job_id)
    listing = f"lines.{job_id}"
    if page.cursor is not None:
        after = max(after, decode_cursor(listing, page.cursor))
    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    query = job_log.lines_of(actor, job, level=level, attempt=attempt, since=since, after=after)
    rows = session.scalars(query.limit(page.limit + 1)).all()
    shown = [
        LogLine(id=row.position or 0, attempt=row.attempt, at=row.at, level=job_log.level_of(row), message=row.message or "")
        for row in rows[: page.limit]
    ]
    return Page(items=shown, next_cursor=encode_cursor(listing, shown[-1].id) if len(rows) > page.limit else None)


@router.get("/jobs/{job_id}")
def get_job(session: SessionDep, actor: Annotated[Actor, allowed(Permission.PROJECT_READ)], job_id: UUID) -> JobOut:
    """One job with its live progress."""
    return _shown(session, service.find(session, actor, job_id))


@router.post("/jobs/{job_id}/cancel", responses=responses(service.JobEnded, PreconditionFailed))
def cancel_job(session: SessionDep, actor: Annotated[Actor, allowed(Permission.JOB_CANCEL)], job_id: UUID, match: IfMatch) -> JobOut:
    """Ask a queued or running job to stop."""
    job = service.find(session, actor, job_id)
    if not actor.may(Permission.JOB_CANCEL, job.project_id):
        raise deny(session, actor, Permission.JOB_CANCEL, job.project_id)
    match.check(session, job)
    return _shown(session, service.cancel(session, actor, job_id=job_id))


@router.post("/jobs/{job_id}/priority", responses=responses(service.JobEnded, PreconditionFailed))
def prioritize_job(
    session: SessionDep, actor: Annotated[Actor, allowed(Permission.JOB_PRIORITIZE)], job_id: UUID, body: SetPriority, match: IfMatch
) -> JobOut:
    """Give an open job another place in its queue, before or behind those of other projects."""
    job = service.find(session, actor, job_id)
    if not actor.may(Permission.JOB_PRIORITIZE, job.project_id):
        raise deny(session, actor, Permission.JOB_PRIORITIZE, job.project_id)
    match.check(session, job)
    return _shown(session, priority.prioritize(session, actor, job_id=job_id, priority=body.priority))


@router.get("/queues/{queue}/demand")
def queue_demand(
    actor: Annotated[Actor, allowed(Permission.FLEET_READ)],  # noqa: ARG001  # the declared permission
    queue: Queue,
    device: Annotated[Device | None, Query(description="Only jobs that a worker with this device could do.")] = None,
    memory_bytes: Annotated[int | None, Query(ge=1, le=2**50, description="Only jobs that need no more memory.")] = None,
) -> DemandOut:
    """How many workers a queue could keep busy: the signal for an autoscaler, such as KEDA's metrics-api scaler."""
    with platform_transaction() as everyone:
        return placement.demand(everyone, queue=queue, device=device, memory_bytes=memory_bytes)
