"""HTTP for training runs."""

from typing import Annotated, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from ringi.adapters import service as adapters
from ringi.adapters.models import Adapter, AdapterVersion
from ringi.base_models import service as base_models
from ringi.base_models.models import BaseRevision
from ringi.base_models.service import RevisionNotSealed
from ringi.datasets import service as datasets
from ringi.datasets.models import DatasetVersion
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.jobs import stream
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.training import LoraSpec, PreflightFinding, RunOrigin, TrainMetrics
from ringi.jobs.schemas import JobError, Level
from ringi.jobs.stream import EVENTS, EventStream, PlaceDep, TooManyStreams, UnknownEventId
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.preflight.prices import PriceTableInvalid
from ringi.preflight.schemas import PreflightOut
from ringi.preflight.service import RunRefused
from ringi.quotas.refusals import QUOTAS
from ringi.tags.lists import with_tags
from ringi.training import service, tracing
from ringi.training.lists import RUNS
from ringi.training.models import TrainingRun
from ringi.training.schemas import RunOut, StartRun, TracedRun, TracedVersion, TraceOut, TraceRows
from ringi.training.warm_start import WARM_STARTS
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute,
    prefix="/projects/{project}/adapters/{adapter}/runs",
    tags=["training"],
    responses=responses(Unauthenticated, Forbidden, NotFound),
)
project_router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}", tags=["training"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Starter = Annotated[InProject, allowed_in_project(Permission.TRAINING_START)]
Tracer = Annotated[InProject, allowed_in_project(Permission.DATASET_WRITE)]


def run_out(run: TrainingRun) -> RunOut:
    """A run with the state of its job."""
    dataset, adapter = run.dataset_version, run.adapter
    return RunOut(
        id=run.id, adapter=adapter.reference, dataset=f"{dataset.dataset.project.name}/{dataset.dataset.name}:v{dataset.number}",
        base=f"{run.base_revision.base_model.name}:r{run.base_revision.number}", spec=LoraSpec.model_validate(run.spec), state=run.job.state,
        job_id=run.job_id, version=f"{adapter.reference}:v{run.version.number}" if run.version else None,
        progress=Progress.model_validate(run.job.progress) if run.job.progress else None,
        metrics=TrainMetrics.model_validate(run.metrics) if run.metrics else None, error=JobError.model_validate(run.job.error) if run.job.error else None,
        mlflow_run_id=run.mlflow_run_id, provenance_digest=run.provenance_digest,
        preflight=[PreflightFinding.model_validate(one) for one in run.job.payload.get("preflight", [])],
        origin=RunOrigin.model_validate(run.job.payload["origin"]) if run.job.payload.get("origin") else None,
        snapshot_step=(run.job.checkpoint or {}).get("step"), pause_requested=run.job.pause_requested_at is not None, row_version=run.job.row_version,
        started_from=(run.job.payload.get("earlier") or {}).get("name"), stacked=run.job.payload.get("stacked", False),
        started_by=run.started_by, created_at=run.created_at,
    )  # fmt: skip


@router.post("", status_code=202, responses=responses(service.RunInProgress, RunRefused, RevisionNotSealed, *WARM_STARTS, *QUOTAS))
def start_run(session: SessionDep, caller: Starter, adapter: str, body: StartRun) -> RunOut:
    """Start a training run; its job seals a new version. Refused where the preflight finds that it would waste its worker."""
    asked = _asked(session, caller, adapter, body)
    run = service.start(
        session, caller.actor, adapter=asked.adapter, dataset=asked.dataset, base_revision=asked.revision, plan=body.plan,
        placement=body.placement, earlier=asked.earlier, stacked=body.stacked,
    )  # fmt: skip
    return run_out(run)


@router.post("/check", status_code=200, responses=responses(RevisionNotSealed, PriceTableInvalid, *WARM_STARTS))
def check_run(session: SessionDep, caller: Starter, adapter: str, body: StartRun) -> PreflightOut:
    """What starting this run would find, and what it would need; starts nothing."""
    asked = _asked(session, caller, adapter, body)
    return service.check(
        session, caller.actor, dataset=asked.dataset, base_revision=asked.revision, plan=body.plan, placement=body.placement,
        earlier=asked.earlier, stacked=body.stacked,
    )  # fmt: skip


class _Asked(NamedTuple):
    """What a request to start a run names."""

    adapter: Adapter
    dataset: DatasetVersion
    revision: BaseRevision
    earlier: AdapterVersion | None


def _asked(session: Session, caller: InProject, adapter: str, body: StartRun) -> _Asked:
    found = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    name, _, selector = body.dataset.partition(":")
    dataset = datasets.find(session, caller.actor, project=caller.project, name=name)
    version = datasets.find_version(session, caller.actor, dataset=dataset, selector=selector or "latest")
    revision = base_models.sealed_revision(session, caller.actor, base=found.base_model, selector=body.base_revision)
    earlier = None
    if body.start_from is not None:
        earlier = adapters.find_version(session, caller.actor, adapter=found, selector=body.start_from)
    return _Asked(found, version, revision, earlier)


@router.get("")
def list_runs(session: SessionDep, caller: Reader, adapter: str, ask: Annotated[Ask, asking(RUNS)]) -> Page[RunOut]:
    """Runs of the adapter, newest first."""
    found = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    return page_of(session, service.listed(caller.actor).where(TrainingRun.adapter_id == found.id), ask, run_out)


@project_router.get("/runs")
def list_all_runs(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(RUNS)]) -> Page[RunOut]:
    """Runs of every adapter in the project, newest first."""
    return page_of(session, service.listed(caller.actor).where(TrainingRun.project_id == caller.project.id), ask, run_out)


@router.get("/{run_id}")
def get_run(session: SessionDep, caller: Reader, adapter: str, run_id: UUID) -> RunOut:
    """One run with live progress."""
    found = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    return with_tags(session, run_out(service.find(session, caller.actor, adapter=found, run_id=run_id)))


@router.get("/{run_id}/events", status_code=200, response_class=EventStream, responses=EVENTS | responses(TooManyStreams, UnknownEventId))
def follow_run(
    session: SessionDep,
    caller: Reader,
    adapter: str,
    run_id: UUID,
    begin: PlaceDep,
    level: Annotated[Level, Query(description="Lines from this level on.")] = Level.INFO,
) -> Response:
    """Follow one run as server-sent events: those of its job."""
    found = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    run = service.find(session, caller.actor, adapter=found, run_id=run_id)
    return stream.of_job(session, run.job, begin, level=level)


@project_router.post("/datasets/trace", responses=responses(tracing.TraceTooLarge))
def trace_rows(session: SessionDep, caller: Tracer, body: TraceRows) -> TraceOut:
    """Which rows of which versions hold a text or an id, and which adapters were trained on them. Nothing is changed."""
    found = tracing.trace(session, caller.actor, project=caller.project, body=body)
    return TraceOut(
        searched_versions=found.searched,
        versions=[
            TracedVersion(
                version=f"{caller.project.name}/{one.version.dataset.name}:v{one.version.number}", digest=one.version.digest,
                train_rows=one.train, validation_rows=one.validation, rows=one.rows,
            )
            for one in found.found
        ],
        trained=[
            TracedRun(run_id=out.id, adapter=out.adapter, dataset=out.dataset, state=out.state, version=out.version)
            for out in map(run_out, found.runs)
        ],
    )  # fmt: skip
