"""HTTP for what is done with a run after its start (life.py)."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response

from ringi.adapters import service as adapters
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.jobs.pausing import JobNotPaused
from ringi.jobs.service import JobEnded
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.preflight.service import RunRefused
from ringi.quotas.refusals import QUOTAS
from ringi.training import life, service
from ringi.training.endpoints import run_out
from ringi.training.models import TrainingRun
from ringi.training.provenance import Provenance
from ringi.training.schemas import BranchRun, RunOut
from ringi.training.warm_start import WarmStartRevoked
from ringi.web.errors import responses
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute,
    prefix="/projects/{project}/adapters/{adapter}/runs/{run_id}",
    tags=["training"],
    responses=responses(Unauthenticated, Forbidden, NotFound),
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/svg+xml": {"schema": {"type": "string"}}}}}
Starter = Annotated[InProject, allowed_in_project(Permission.TRAINING_START)]


def _found(session: SessionDep, caller: InProject, adapter: str, run_id: UUID) -> TrainingRun:
    named = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    return service.find(session, caller.actor, adapter=named, run_id=run_id)


@router.post("/pause", responses=responses(JobEnded, PreconditionFailed))
def pause_run(session: SessionDep, caller: Starter, adapter: str, run_id: UUID, match: IfMatch) -> RunOut:
    """Let a run rest after its present step, with a snapshot of it. A run that is about to end may end first."""
    run = _found(session, caller, adapter, run_id)
    match.check(session, run.job)
    return run_out(life.pause(session, caller.actor, run=run))


@router.post("/continue", responses=responses(JobNotPaused, service.RunInProgress, WarmStartRevoked, PreconditionFailed, *QUOTAS))
def continue_run(session: SessionDep, caller: Starter, adapter: str, run_id: UUID, match: IfMatch) -> RunOut:
    """Let a paused run go on from its snapshot, on whichever worker is free."""
    run = _found(session, caller, adapter, run_id)
    match.check(session, run.job)
    return run_out(life.go_on(session, caller.actor, run=run))


@router.get("/provenance", responses=responses(life.NoRecord))
def provenance_of_run(session: SessionDep, caller: Reader, adapter: str, run_id: UUID) -> Provenance:
    """How the version of a succeeded run came to be; `provenance_digest` of the run is the digest of its canonical JSON (RFC 8785)."""
    return life.provenance(_found(session, caller, adapter, run_id))


@router.get("/curve", response_class=Response, responses=_PICTURE | responses(life.NoRecord))
def curve_of_run(session: SessionDep, caller: Reader, adapter: str, run_id: UUID) -> Response:
    """The losses of a succeeded run as a picture (SVG)."""
    return Response(life.curve(_found(session, caller, adapter, run_id)), media_type="image/svg+xml")


@router.post("/again", status_code=202, responses=responses(service.RunInProgress, RunRefused, WarmStartRevoked, *QUOTAS))
def repeat_run(session: SessionDep, caller: Starter, adapter: str, run_id: UUID) -> RunOut:
    """Start a run with the recipe of this one: the same rows, base revision, hyperparameters and seed."""
    return run_out(life.again(session, caller.actor, run=_found(session, caller, adapter, run_id)))


@router.post(
    "/branch",
    status_code=202,
    responses=responses(life.NoSnapshot, life.BranchDiffers, service.RunInProgress, RunRefused, WarmStartRevoked, *QUOTAS),
)
def branch_run(session: SessionDep, caller: Starter, adapter: str, run_id: UUID, body: BranchRun) -> RunOut:
    """Start a run that goes on from the last snapshot of this one, which stays as it is."""
    return run_out(life.branch(session, caller.actor, run=_found(session, caller, adapter, run_id), change=body))
