"""HTTP for searches: the parent job with its trials. It is cancelled and followed as any job."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from sqlalchemy.orm import Session

from ringi.adapters import service as adapters
from ringi.base_models import service as base_models
from ringi.base_models.service import RevisionNotSealed
from ringi.datasets import service as datasets
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.searches import Comparison, SearchPayload
from ringi.jobs.contracts.training import LoraSpec
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobError, JobState
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.preflight.service import RunRefused
from ringi.quotas.refusals import QUOTAS
from ringi.searches import service
from ringi.searches.lists import SEARCHES
from ringi.searches.models import SearchTrial
from ringi.searches.schemas import RecommendationOut, RequestSearch, SearchLine, SearchOut, TrialOut, TrialState
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, rows_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute,
    prefix="/projects/{project}/searches",
    tags=["training"],
    responses=responses(Unauthenticated, Forbidden, NotFound),
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Starter = Annotated[InProject, allowed_in_project(Permission.TRAINING_START)]


def _state(one: SearchTrial, job: Job) -> TrialState:
    """What waits in a job that was cancelled is not trained any more."""
    waits = one.state == TrialState.WAITING
    return TrialState.CANCELLED if waits and job.state == JobState.CANCELLED else TrialState(one.state)


def _line(job: Job, trials: Sequence[SearchTrial], payload: SearchPayload) -> dict[str, Any]:
    compared_after = service.steps_of(trials, payload.rule)
    return {
        "job_id": job.id, "state": job.state, "adapter": payload.adapter_name, "dataset": payload.dataset,
        "base": f"{payload.base.name}:r{payload.base.revision}", "rule": payload.rule, "trials": Counter(_state(one, job) for one in trials),
        "steps": compared_after[-1] if compared_after else None, "compared_after": list(compared_after),
        "progress": Progress.model_validate(job.progress) if job.progress else None, "attempt": job.attempt,
        "cancel_requested": job.cancel_requested_at is not None, "error": JobError.model_validate(job.error) if job.error else None,
        "row_version": job.row_version, "requested_by": job.created_by, "created_at": job.created_at, "started_at": job.started_at,
        "finished_at": job.finished_at,
    }  # fmt: skip


def _trial(one: SearchTrial, job: Job) -> TrialOut:
    spec = LoraSpec.model_validate(one.spec)
    return TrialOut(
        id=one.id, rank=spec.adapter_rank, learning_rate=spec.learning_rate, alpha=spec.alpha or 2.0 * spec.adapter_rank, state=_state(one, job),
        comparisons=[Comparison.model_validate(found) for found in one.comparisons], stopped_after=one.stopped_after,
        problem=JobError.model_validate(one.problem) if one.problem else None,
    )  # fmt: skip


def _recommendation(trials: Sequence[SearchTrial], payload: SearchPayload) -> RecommendationOut | None:
    found = service.recommended(trials, payload.rule)
    if found is None:
        return None
    chosen = next(one for one in trials if one.id == found.trial_id)
    return RecommendationOut(
        trial_id=chosen.id, spec=LoraSpec.model_validate(chosen.spec), validation_loss=chosen.comparisons[-1]["validation_loss"],
        reasons=list(found.reasons), cautions=list(found.cautions),
    )  # fmt: skip


def _shown(session: Session, job: Job) -> SearchOut:
    trials, payload = service.trials_of(session, [job])[job.id], SearchPayload.model_validate(job.payload)
    return SearchOut(
        **_line(job, trials, payload), children=[_trial(one, job) for one in trials], recommendation=_recommendation(trials, payload),
        preflight=list(payload.preflight),
    )  # fmt: skip


@router.post(
    "", status_code=202,
    responses=responses(service.SearchInProgress, RunRefused, RevisionNotSealed, *QUOTAS),
)  # fmt: skip
def request_search(session: SessionDep, caller: Starter, body: RequestSearch) -> SearchOut:
    """Try ranks and learning rates on one dataset version, as one job; losers are stopped early. Nothing is sealed by it."""
    adapter = adapters.find(session, caller.actor, project=caller.project, name=body.adapter)
    name, _, selector = body.dataset.partition(":")
    dataset = datasets.find(session, caller.actor, project=caller.project, name=name)
    version = datasets.find_version(session, caller.actor, dataset=dataset, selector=selector or "latest")
    revision = base_models.sealed_revision(session, caller.actor, base=adapter.base_model, selector=body.base_revision)
    job = service.request(session, caller.actor, adapter=adapter, dataset=version, base_revision=revision, body=body)
    return _shown(session, job)


@router.get("")
def list_searches(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(SEARCHES)]) -> Page[SearchLine]:
    """Searches of the project, newest first, each with how far it is."""
    found = rows_of(session, service.listed(caller.actor, project=caller.project), ask)
    jobs_found = [row[0] for row in found.rows]
    trials = service.trials_of(session, jobs_found)
    items = [SearchLine(**_line(job, trials[job.id], SearchPayload.model_validate(job.payload))) for job in jobs_found]
    return Page(items=items, next_cursor=found.next_cursor, total=found.total, total_exact=found.total_exact)


@router.get("/{job_id}")
def get_search(session: SessionDep, caller: Reader, job_id: UUID) -> SearchOut:
    """One search with its trials, and once it has ended with the recommendation and its reasons."""
    return _shown(session, service.find(session, caller.actor, project=caller.project, job_id=job_id))
