"""HTTP for datasets."""

from typing import Annotated

from fastapi import APIRouter, Response
from sqlalchemy.orm import joinedload

from ringi.datasets import policies, service
from ringi.datasets.lists import DATASET_VERSIONS, DATASETS
from ringi.datasets.models import Dataset, DatasetPolicy, DatasetVersion
from ringi.datasets.schemas import (
    AddDatasetVersion,
    CreateDataset,
    DatasetOut,
    DatasetPolicyOut,
    DatasetTerms,
    DatasetVersionAccepted,
    DatasetVersionOut,
    SetDatasetPolicy,
)
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission, visible
from ringi.jobs.contracts.datasets import DatasetReport, Recipe
from ringi.jobs.service import AlreadyRunning
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.quotas.refusals import QUOTAS
from ringi.tags.lists import with_tags
from ringi.uploads.service import NotUploaded
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute,
    prefix="/projects/{project}/datasets",
    tags=["datasets"],
    responses=responses(Unauthenticated, Forbidden, NotFound),
)
project_router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}", tags=["datasets"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Writer = Annotated[InProject, allowed_in_project(Permission.DATASET_WRITE)]
PolicyWriter = Annotated[InProject, allowed_in_project(Permission.POLICY_WRITE)]


def dataset_out(dataset: Dataset) -> DatasetOut:
    """A dataset with its project's name."""
    return DatasetOut(
        id=dataset.id, project=dataset.project.name, name=dataset.name, description=dataset.description, created_at=dataset.created_at,
        row_version=dataset.row_version,
    )  # fmt: skip


def version_out(version: DatasetVersion, project: str) -> DatasetVersionOut:
    """A sealed version with its reference."""
    return DatasetVersionOut(
        id=version.id, reference=f"{project}/{version.dataset.name}:v{version.number}", number=version.number, digest=version.digest,
        source_digest=version.source_digest, train_digest=version.train_digest, validation_digest=version.validation_digest, recipe=Recipe.model_validate(version.recipe),
        terms=DatasetTerms.model_validate(version), report=DatasetReport.model_validate(version.report), created_at=version.created_at,
    )  # fmt: skip


@router.post("", status_code=201, responses=responses(service.DatasetExists))
def create_dataset(session: SessionDep, caller: Writer, body: CreateDataset) -> DatasetOut:
    """A new dataset without versions."""
    return dataset_out(service.create(session, caller.actor, project=caller.project, name=body.name, description=body.description))


@router.get("")
def list_datasets(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(DATASETS)]) -> Page[DatasetOut]:
    """Datasets of the project."""
    query = visible(caller.actor, Dataset).where(Dataset.project_id == caller.project.id).options(joinedload(Dataset.project))
    return page_of(session, query, ask, dataset_out)


@router.get("/{dataset}")
def get_dataset(session: SessionDep, caller: Reader, dataset: str) -> DatasetOut:
    """One dataset."""
    return with_tags(session, dataset_out(service.find(session, caller.actor, project=caller.project, name=dataset)))


@router.post("/{dataset}/versions", status_code=202, responses=responses(NotUploaded, AlreadyRunning, *QUOTAS))
def add_version(session: SessionDep, caller: Writer, dataset: str, body: AddDatasetVersion, response: Response) -> DatasetVersionAccepted:
    """202 with a job for new bytes; 200 with the sealed version for bytes that are known."""
    found = service.find(session, caller.actor, project=caller.project, name=dataset)
    outcome = service.add_version(session, caller.actor, dataset=found, body=body)
    if isinstance(outcome, DatasetVersion):
        response.status_code = 200
        return DatasetVersionAccepted(job_id=None, version=with_tags(session, version_out(outcome, caller.project.name)))
    return DatasetVersionAccepted(job_id=outcome.id, version=None)


@router.get("/{dataset}/versions")
def list_versions(
    session: SessionDep, caller: Reader, dataset: str, ask: Annotated[Ask, asking(DATASET_VERSIONS)]
) -> Page[DatasetVersionOut]:
    """Versions, newest first."""
    found = service.find(session, caller.actor, project=caller.project, name=dataset)
    query = visible(caller.actor, DatasetVersion).where(DatasetVersion.dataset_id == found.id).options(joinedload(DatasetVersion.dataset))
    return page_of(session, query, ask, lambda row: version_out(row, caller.project.name))


@router.get("/{dataset}/versions/{selector}")
def get_version(session: SessionDep, caller: Reader, dataset: str, selector: str) -> DatasetVersionOut:
    """One version by `v3`, `latest` or digest."""
    found = service.find(session, caller.actor, project=caller.project, name=dataset)
    version = service.find_version(session, caller.actor, dataset=found, selector=selector)
    return with_tags(session, version_out(version, caller.project.name))


def policy_out(project: str, policy: DatasetPolicy | None) -> DatasetPolicyOut:
    """The policy; without one personal data is reported at the least where a request does not say otherwise."""
    if policy is None:
        return DatasetPolicyOut(project=project, personal_data="ignore", row_version=0)
    return DatasetPolicyOut.model_validate({"project": project, "personal_data": policy.personal_data, "row_version": policy.row_version})


@project_router.get("/dataset-policy")  # a dependency takes the project
def get_dataset_policy(session: SessionDep, caller: Reader) -> DatasetPolicyOut:
    """What the project wants of every new version, at the least."""
    return policy_out(caller.project.name, policies.of(session, caller.project.id))


@project_router.put("/dataset-policy", responses=responses(PreconditionFailed))  # a dependency takes the project
def set_dataset_policy(session: SessionDep, caller: PolicyWriter, body: SetDatasetPolicy, match: IfMatch) -> DatasetPolicyOut:
    """Set it for versions that are added from now on."""
    made = policies.set_policy(session, caller.actor, project=caller.project, wanted=body, match=match)
    return policy_out(caller.project.name, made)
