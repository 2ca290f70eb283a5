"""HTTP for evaluations."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter

from ringi.adapters import service as adapters
from ringi.adapters.kinds import FullWeights
from ringi.adapters.models import AdapterVersion
from ringi.base_models import service as base_models
from ringi.base_models.service import RevisionNotSealed
from ringi.datasets import service as datasets
from ringi.evaluation import records, service
from ringi.evaluation.lists import EVALUATIONS
from ringi.evaluation.models import Evaluation
from ringi.evaluation.records import AskRecords, asking_records
from ringi.evaluation.schemas import EvaluationOut, RequestEvaluation
from ringi.evaluation.verdict import EvaluationSummary
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.jobs.contracts.evaluation import ItemRecord
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.schemas import JobError
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.quotas.refusals import QUOTAS
from ringi.tags.lists import with_tags
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}/adapters/{adapter}/versions/{selector}/evaluations", tags=["evaluation"],
    responses=responses(Unauthenticated, Forbidden, NotFound),
)  # fmt: skip
project_router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}", tags=["evaluation"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Requester = Annotated[InProject, allowed_in_project(Permission.EVALUATION_REQUEST)]


def evaluation_out(evaluation: Evaluation) -> EvaluationOut:
    """An evaluation with names instead of ids."""
    version, revision, dataset = evaluation.version, evaluation.base_revision, evaluation.dataset_version
    reference, base = f"{version.adapter.reference}:v{version.number}", revision.base_model.name
    baselines = {"base": f"{base}:r{revision.number}", "trained_on": f"{reference} on {base}:r{version.base_revision.number}"}
    return EvaluationOut(
        id=evaluation.id, version=reference, base=f"{base}:r{revision.number}", baseline=baselines[evaluation.baseline],
        dataset=f"{dataset.dataset.project.name}/{dataset.dataset.name}:v{dataset.number}", state=evaluation.job.state, job_id=evaluation.job_id,
        progress=Progress.model_validate(evaluation.job.progress) if evaluation.job.progress else None,
        summary=EvaluationSummary.model_validate(evaluation.summary) if evaluation.summary else None, records_digest=evaluation.records_digest,
        evidence_digest=evaluation.evidence_digest, error=JobError.model_validate(evaluation.job.error) if evaluation.job.error else None,
        mlflow_run_id=evaluation.mlflow_run_id, requested_by=evaluation.requested_by, created_at=evaluation.created_at,
        completed_at=evaluation.completed_at,
    )  # fmt: skip


def _version(session: SessionDep, caller: InProject, adapter: str, selector: str) -> AdapterVersion:
    found = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    return adapters.find_version(session, caller.actor, adapter=found, selector=selector)


@router.post("", status_code=202, responses=responses(RevisionNotSealed, service.NothingToCompare, FullWeights, *QUOTAS))
def request_evaluation(session: SessionDep, caller: Requester, adapter: str, selector: str, body: RequestEvaluation) -> EvaluationOut:
    """Start an evaluation; its job brings the records, the platform judges them."""
    version = _version(session, caller, adapter, selector)
    name, _, dataset_selector = body.dataset.partition(":")
    dataset = datasets.find(session, caller.actor, project=caller.project, name=name)
    dataset_version = datasets.find_version(session, caller.actor, dataset=dataset, selector=dataset_selector or "latest")
    wanted = body.base_revision or f"r{version.base_revision.number}"
    revision = base_models.sealed_revision(session, caller.actor, base=version.adapter.base_model, selector=wanted)
    return evaluation_out(
        service.request(session, caller.actor, version=version, dataset=dataset_version, base_revision=revision, body=body)
    )


@router.get("")
def list_evaluations(
    session: SessionDep, caller: Reader, adapter: str, selector: str, ask: Annotated[Ask, asking(EVALUATIONS)]
) -> Page[EvaluationOut]:
    """Evaluations of the version, newest first."""
    version = _version(session, caller, adapter, selector)
    return page_of(session, service.listed(caller.actor).where(Evaluation.version_id == version.id), ask, evaluation_out)


@project_router.get("/evaluations")
def list_all_evaluations(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(EVALUATIONS)]) -> Page[EvaluationOut]:
    """Evaluations of every version in the project, newest first."""
    return page_of(session, service.listed(caller.actor).where(Evaluation.project_id == caller.project.id), ask, evaluation_out)


@router.get("/{evaluation_id}")
def get_evaluation(session: SessionDep, caller: Reader, adapter: str, selector: str, evaluation_id: UUID) -> EvaluationOut:
    """One evaluation with live progress."""
    version = _version(session, caller, adapter, selector)
    return with_tags(session, evaluation_out(service.find(session, caller.actor, version=version, evaluation_id=evaluation_id)))


@router.get("/{evaluation_id}/records")
def get_records(  # the path has this many parts
    session: SessionDep, caller: Reader, adapter: str, selector: str, evaluation_id: UUID, ask: Annotated[AskRecords, asking_records]
) -> Page[ItemRecord]:
    """Per-item records, in the order of the dataset unless another is asked for; none before the evaluation has succeeded."""
    version = _version(session, caller, adapter, selector)
    evaluation = service.find(session, caller.actor, version=version, evaluation_id=evaluation_id)
    return records.page(evaluation.records_digest, ask)
