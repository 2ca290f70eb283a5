"""HTTP for suites."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy.orm import joinedload

from ringi.gating.advice import MarginUnsupported
from ringi.identity.dependencies import InProject, allowed_in_project, deny
from ringi.identity.permissions import Permission, visible
from ringi.jobs.contracts.suites import Item
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.quotas.refusals import BytesUsedUp
from ringi.suites import planting, refusals, service
from ringi.suites.lists import SUITE_VERSIONS, SUITES
from ringi.suites.models import Suite, SuiteVersion
from ringi.suites.reading import SuiteYamlRefused
from ringi.suites.schemas import AddCanaries, AddSuiteVersion, AdviceOut, CreateSuite, SuiteOut, SuiteVersionOut
from ringi.tags.lists import with_tags
from ringi.uploads.service import NotUploaded
from ringi.web.errors import responses
from ringi.web.paging import Ask, InvalidCursor, asking, page_of
from ringi.web.positions import Paging, decode_cursor, encode_cursor, paging
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}/suites", tags=["suites"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Writer = Annotated[InProject, allowed_in_project(Permission.EVALUATION_REQUEST)]


def _shows_rows(session: SessionDep, caller: Writer) -> InProject:
    """A writer of suites who may also write the project's datasets, whose rows they show."""
    if not caller.actor.may(Permission.DATASET_WRITE, caller.project.id):
        raise deny(session, caller.actor, Permission.DATASET_WRITE, caller.project.id)
    return caller


RowShower = Annotated[InProject, Depends(_shows_rows)]
_SEALING = responses(
    SuiteYamlRefused, MarginUnsupported, NotUploaded, refusals.SuiteItemInvalid, refusals.SuiteTagsInvalid, refusals.SuiteNoItems,
    refusals.SuiteItemsAmbiguous, refusals.SuiteDuplicateTask, refusals.SuiteDuplicateItem, refusals.SuiteChoicesInvalid,
    refusals.SuiteAnswerOutOfRange, refusals.SuiteNoReference, refusals.SuiteScorerUnknown, refusals.SuiteScorerParameters, refusals.SuiteScorerUnfit,
    refusals.SuiteMetricUnknown, refusals.SuiteSliceEmpty, refusals.SuiteMustPassUnknown, refusals.SuiteRequirementInvalid,
    refusals.SuiteDocumentInvalid, refusals.SuiteColumnUnknown, refusals.SuiteItemsUnreadable, refusals.SuiteHarnessInvalid,
    refusals.SuiteHarnessCode, refusals.SuiteHarnessInclude, BytesUsedUp,
)  # fmt: skip
_YAML = {"requestBody": {"content": {"application/yaml": {"schema": {"type": "string", "description": "The same document as YAML."}}}}}


def suite_out(suite: Suite) -> SuiteOut:
    """A suite with its project's name."""
    return SuiteOut(id=suite.id, project=suite.project.name, name=suite.name, description=suite.description, created_at=suite.created_at)


def version_out(version: SuiteVersion, project: str) -> SuiteVersionOut:
    """A sealed version with its reference."""
    return SuiteVersionOut(
        id=version.id, reference=f"{project}/{version.suite.name}:v{version.number}", number=version.number, digest=version.digest,
        items=version.items, document=service.document_of(version), facts=service.facts_of(version), created_at=version.created_at,
    )  # fmt: skip


def _version(session: SessionDep, caller: InProject, suite: str, selector: str) -> SuiteVersion:
    found = service.find(session, caller.actor, project=caller.project, name=suite)
    return service.find_version(session, caller.actor, suite=found, selector=selector)


@router.post("", status_code=201, responses=responses(refusals.SuiteExists))
def create_suite(session: SessionDep, caller: Writer, body: CreateSuite) -> SuiteOut:
    """A new suite without versions."""
    return suite_out(service.create(session, caller.actor, project=caller.project, name=body.name, description=body.description))


@router.get("")
def list_suites(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(SUITES)]) -> Page[SuiteOut]:
    """Suites of the project."""
    query = visible(caller.actor, Suite).where(Suite.project_id == caller.project.id).options(joinedload(Suite.project))
    return page_of(session, query, ask, suite_out)


@router.get("/{suite}")
def get_suite(session: SessionDep, caller: Reader, suite: str) -> SuiteOut:
    """One suite."""
    return with_tags(session, suite_out(service.find(session, caller.actor, project=caller.project, name=suite)))


@router.post("/{suite}/versions", status_code=201, responses=_SEALING, openapi_extra=_YAML)
def add_suite_version(session: SessionDep, caller: Writer, suite: str, body: AddSuiteVersion, response: Response) -> SuiteVersionOut:
    """201 with a new sealed version; 200 with the one that has this content already."""
    found = service.find(session, caller.actor, project=caller.project, name=suite)
    version, new = service.add_version(session, caller.actor, suite=found, body=body)
    response.status_code = 201 if new else 200
    return with_tags(session, version_out(version, caller.project.name))


@router.post("/{suite}/canaries", status_code=201, responses=_SEALING | responses(refusals.SuiteNoCanaries))
def add_suite_canaries(session: SessionDep, caller: RowShower, suite: str, body: AddCanaries, response: Response) -> SuiteVersionOut:
    """A version that asks for training rows and planted secrets of a dataset; 200 with the one that has this content already.

    It needs `dataset:write` too, because whoever reads the project reads those rows afterwards.
    """
    found = service.find(session, caller.actor, project=caller.project, name=suite)
    version, new = planting.add_version(session, caller.actor, suite=found, body=body)
    response.status_code = 201 if new else 200
    return with_tags(session, version_out(version, caller.project.name))


@router.get("/{suite}/versions")
def list_suite_versions(
    session: SessionDep, caller: Reader, suite: str, ask: Annotated[Ask, asking(SUITE_VERSIONS)]
) -> Page[SuiteVersionOut]:
    """Versions, newest first."""
    found = service.find(session, caller.actor, project=caller.project, name=suite)
    query = visible(caller.actor, SuiteVersion).where(SuiteVersion.suite_id == found.id).options(joinedload(SuiteVersion.suite))
    return page_of(session, query, ask, lambda row: version_out(row, caller.project.name))


@router.get("/{suite}/versions/{selector}")
def get_suite_version(session: SessionDep, caller: Reader, suite: str, selector: str) -> SuiteVersionOut:
    """One version by `v3`, `latest` or digest."""
    return with_tags(session, version_out(_version(session, caller, suite, selector), caller.project.name))


@router.get("/{suite}/versions/{selector}/advice")
def suite_advice(session: SessionDep, caller: Reader, suite: str, selector: str) -> AdviceOut:
    """What its items can show of each critical task and slice, before anything is run."""
    version = _version(session, caller, suite, selector)
    name = f"{caller.project.name}/{version.suite.name}:v{version.number}"
    return AdviceOut(reference=name, digest=version.digest, advice=service.advice(version))


@router.get("/{suite}/versions/{selector}/items", responses=responses(InvalidCursor))
def list_suite_items(
    session: SessionDep,
    caller: Reader,
    suite: str,
    selector: str,
    task: Annotated[str, Query(max_length=128, description="The task.")],
    page: Annotated[Paging, Depends(paging)],
) -> Page[Item]:
    """The items of a task, in their order."""
    version = _version(session, caller, suite, selector)
    listing = f"items.{version.digest}"
    first = decode_cursor(listing, page.cursor) if page.cursor is not None else 0
    found = service.items(version, task)
    last = first + page.limit
    return Page(items=found[first:last], next_cursor=encode_cursor(listing, last) if last < len(found) else None)
