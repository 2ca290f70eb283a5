"""Follow and cancel jobs."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from ringi.identity.dependencies import allowed, deny
from ringi.identity.permissions import Permission
from ringi.jobs import service
from ringi.jobs.contracts import JobKind, Progress
from ringi.jobs.lists import JOBS
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobError, JobOut, JobState
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.tags.lists import with_tags
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, tags=["jobs"], responses=responses(Unauthenticated, Forbidden, NotFound))


def job_out(job: Job) -> JobOut:
    """A job as clients see it."""
    return JobOut(
        id=job.id, kind=job.kind, state=job.state, subject=job.subject, produced=job.produced, project=job.project.name if job.project else None, attempt=job.attempt,
        max_attempts=job.max_attempts, progress=Progress.model_validate(job.progress) if job.progress else None, error=JobError.model_validate(job.error) if job.error else None, cancel_requested=job.cancel_requested_at is not None,
        lease_owner=job.lease_owner, created_at=job.created_at, started_at=job.started_at, finished_at=job.finished_at,
        row_version=job.row_version,
    )  # fmt: skip


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
    return page_of(session, query, ask, job_out)


@router.get("/jobs/{job_id}")
def get_job(session: SessionDep, actor: Annotated[Actor, allowed(Permission.PROJECT_READ)], job_id: UUID) -> JobOut:
    """One job with its live progress."""
    return with_tags(session, job_out(service.find(session, actor, job_id)))


@router.post("/jobs/{job_id}/cancel", responses=responses(service.JobEnded, PreconditionFailed))
def cancel_job(session: SessionDep, actor: Annotated[Actor, allowed(Permission.JOB_CANCEL)], job_id: UUID, match: IfMatch) -> JobOut:
    """Ask a queued or running job to stop."""
    job = service.find(session, actor, job_id)
    if not actor.may(Permission.JOB_CANCEL, job.project_id):
        raise deny(session, actor, Permission.JOB_CANCEL, job.project_id)
    match.check(session, job)
    return with_tags(session, job_out(service.cancel(session, actor, job_id=job_id)))
