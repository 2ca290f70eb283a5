"""HTTP for measurements."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from ringi.base_models.service import RevisionNotSealed
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.sweeps import Record, Stop
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.measurements import imports, records, service, stops
from ringi.measurements.lists import MEASUREMENTS
from ringi.measurements.models import Measurement
from ringi.measurements.reading import RecordUnreadable
from ringi.measurements.schemas import ImportMeasurement, MeasurementOut, MeasurementState, ProblemOut, TaskSummary
from ringi.measurements.summaries import RecordsForeign
from ringi.quotas.refusals import BytesUsedUp
from ringi.uploads.service import NotUploaded
from ringi.web.errors import responses
from ringi.web.paging import Ask, InvalidCursor, asking, page_of
from ringi.web.positions import Paging, paging
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}", tags=["measurements"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Requester = Annotated[InProject, allowed_in_project(Permission.EVALUATION_REQUEST)]


def measurement_out(one: Measurement) -> MeasurementOut:
    """A measurement with names instead of ids."""
    version, revision, suite, job = one.version, one.base_revision, one.suite_version, one.job
    state = service.state_of(one)
    problem = one.problem or (job.error if job is not None and state is MeasurementState.FAILED else None)
    return MeasurementOut(
        id=one.id, version=f"{version.adapter.reference}:v{version.number}" if version else None,
        base=f"{revision.base_model.name}:r{revision.number}", suite=f"{suite.suite.project.name}/{suite.suite.name}:v{suite.number}",
        suite_digest=suite.digest, state=state, job_id=one.job_id,
        job_state=job.state if job else None, progress=Progress.model_validate(job.progress) if job and job.progress else None,
        problem=ProblemOut(code=str(problem["code"]), message=str(problem["message"])) if problem else None,
        stopped=Stop.model_validate(one.stopped) if one.stopped else None, stop_unused=stops.unused(one), items=suite.items, items_done=one.items_done,
        summary={task: TaskSummary.model_validate(found) for task, found in one.summary.items()} if one.summary is not None else None,
        operations=one.operations, runtime=one.runtime, runtime_digest=one.runtime_digest, records_digest=one.records_digest,
        evidence=one.evidence, evidence_digest=one.evidence_digest, imported_from=one.imported_from, reused_from=one.reused_from,
        requested_by=one.requested_by, created_at=one.created_at, started_at=one.started_at, completed_at=one.completed_at,
    )  # fmt: skip


@router.get("/measurements")
def list_measurements(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(MEASUREMENTS)]) -> Page[MeasurementOut]:
    """Measurements of the project, newest first."""
    return page_of(session, service.listed(caller.actor).where(Measurement.project_id == caller.project.id), ask, measurement_out)


@router.post(
    "/measurements/imports",
    status_code=201,
    responses=responses(NotUploaded, RevisionNotSealed, RecordUnreadable, RecordsForeign, BytesUsedUp),
)
def import_measurement(session: SessionDep, caller: Requester, body: ImportMeasurement) -> MeasurementOut:
    """Bring in answers that were measured elsewhere; they stay marked as such."""
    return measurement_out(imports.bring_in(session, caller.actor, project=caller.project, body=body))


@router.get("/measurements/{measurement_id}")
def get_measurement(session: SessionDep, caller: Reader, measurement_id: UUID) -> MeasurementOut:
    """One measurement, with the progress of its sweep."""
    return measurement_out(service.find(session, caller.actor, project=caller.project, measurement_id=measurement_id))


@router.get("/measurements/{measurement_id}/records", responses=responses(InvalidCursor))
def list_records(
    session: SessionDep,
    caller: Reader,
    measurement_id: UUID,
    page: Annotated[Paging, Depends(paging)],
    task: Annotated[str | None, Query(max_length=128, description="Only of this task.")] = None,
) -> Page[Record]:
    """What was answered to each item, in the order of the suite."""
    found = service.find(session, caller.actor, project=caller.project, measurement_id=measurement_id)
    return records.page(found.records_digest, page, task=task)
