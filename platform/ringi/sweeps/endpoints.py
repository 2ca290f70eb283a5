"""HTTP for sweeps: the parent job with its children."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from ringi.adapters.kinds import FullWeights
from ringi.adapters.labels import VersionClassifies
from ringi.base_models.service import RevisionNotSealed
from ringi.gates import refusals
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.jobs import service as jobs
from ringi.jobs import stream
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobError, JobState, Level
from ringi.jobs.stream import EVENTS, EventStream, PlaceDep, TooManyStreams, UnknownEventId
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.measurements import service as measurements
from ringi.measurements.endpoints import measurement_out
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import RequestSweep
from ringi.quotas.refusals import QUOTAS
from ringi.sweeps import service
from ringi.sweeps.lists import SWEEPS
from ringi.sweeps.progress import Arm, progress_of
from ringi.sweeps.schemas import SweepLine, SweepOut
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, rows_of
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}/sweeps", tags=["sweeps"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Requester = Annotated[InProject, allowed_in_project(Permission.EVALUATION_REQUEST)]
Canceller = Annotated[InProject, allowed_in_project(Permission.JOB_CANCEL)]


def _line(job: Job, arms: Sequence[Measurement]) -> dict[str, Any]:
    # Two names of a document with a rule and the files of every arm: it is not read whole for them.
    suite, base = job.payload.get("suite", ""), job.payload.get("base", {})
    running = job.state == JobState.RUNNING and job.cancel_requested_at is None
    found = progress_of([_arm(one) for one in arms], running=running)
    return {
        "job_id": job.id, "state": job.state, "subject": job.subject, "suite": suite, "base": f"{base.get('name', '')}:r{base.get('revision', '')}",
        **found._asdict(), "attempt": job.attempt, "cancel_requested": job.cancel_requested_at is not None,
        "error": JobError.model_validate(job.error) if job.error else None, "row_version": job.row_version, "requested_by": job.created_by,
        "created_at": job.created_at, "started_at": job.started_at, "finished_at": job.finished_at,
    }  # fmt: skip


def _arm(one: Measurement) -> Arm:
    return Arm(
        one.id, measurements.state_of(one), one.suite_version.items, one.items_done, one.reused_from is not None, one.started_at, one.completed_at
    )  # fmt: skip


def _shown(session: Session, caller: InProject, job: Job) -> SweepOut:
    arms = measurements.of_job(session, caller.actor, project=caller.project, job_id=job.id)
    return SweepOut(**_line(job, arms), measurements=[measurement_out(one) for one in arms])


@router.post(
    "", status_code=202,
    responses=responses(
        measurements.SweepEmpty, measurements.SweepBaseUnclear, FullWeights, service.NothingToWatch, service.BaselineImported, VersionClassifies,
        refusals.MeasurementMissing, refusals.NothingServed, refusals.SuitesDiffer, refusals.NotMeasured, RevisionNotSealed, *QUOTAS,
    ),
)  # fmt: skip
def request_sweep(session: SessionDep, caller: Requester, body: RequestSweep) -> SweepOut:
    """Measure versions with a suite, as one job: the base is loaded once, and every arm is kept as soon as it is done."""
    job = service.request(session, caller.actor, project=caller.project, body=body)
    return _shown(session, caller, job)


@router.get("")
def list_sweeps(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(SWEEPS)]) -> Page[SweepLine]:
    """Sweeps of the project, newest first, each with how far it is."""
    found = rows_of(session, service.listed(caller.actor, project=caller.project), ask)
    jobs_found = [row[0] for row in found.rows]
    arms = service.arms_of(session, jobs_found)
    items = [SweepLine(**_line(job, arms[job.id])) for job in jobs_found]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total, total_exact=found.total_exact)


@router.get("/{job_id}")
def get_sweep(session: SessionDep, caller: Reader, job_id: UUID) -> SweepOut:
    """One sweep with its arms: how each stands, how far all are, and what is left at the pace of those that were measured."""
    return _shown(session, caller, service.find(session, caller.actor, project=caller.project, job_id=job_id))


@router.get("/{job_id}/events", status_code=200, response_class=EventStream, responses=EVENTS | responses(TooManyStreams, UnknownEventId))
def follow_sweep(
    session: SessionDep,
    caller: Reader,
    job_id: UUID,
    begin: PlaceDep,
    level: Annotated[Level, Query(description="Lines from this level on.")] = Level.INFO,
) -> Response:
    """Follow a sweep as server-sent events, like `GET /jobs/{job_id}/events`: a line is written whenever an arm begins or ends."""
    return stream.of_job(session, service.find(session, caller.actor, project=caller.project, job_id=job_id), begin, level=level)


@router.post("/{job_id}/cancel", responses=responses(jobs.JobEnded, PreconditionFailed))
def cancel_sweep(session: SessionDep, caller: Canceller, job_id: UUID, match: IfMatch) -> SweepOut:
    """Cancel the whole sweep; arms that are done stay."""
    job = service.find(session, caller.actor, project=caller.project, job_id=job_id)
    match.check(session, job)
    return _shown(session, caller, jobs.cancel(session, caller.actor, job_id=job.id))


@router.post("/{job_id}/children/{measurement_id}/cancel", responses=responses(jobs.JobEnded, service.ArmEnded))
def cancel_arm(session: SessionDep, caller: Canceller, job_id: UUID, measurement_id: UUID) -> SweepOut:
    """Take one arm out of the sweep; the others go on."""
    service.cancel_arm(session, caller.actor, project=caller.project, job_id=job_id, measurement_id=measurement_id)
    return _shown(session, caller, service.find(session, caller.actor, project=caller.project, job_id=job_id))
