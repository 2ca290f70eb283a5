"""HTTP for base models and their revisions."""

from typing import Annotated

from fastapi import APIRouter
from sqlalchemy.orm import joinedload

from ringi.base_models import service
from ringi.base_models.lists import BASE_REVISIONS, BASES
from ringi.base_models.models import NOT_MEASURED, BaseModel, BaseRevision
from ringi.base_models.schemas import BaseModelOut, CreateBaseModel, FingerprintParts, RegisterRevision, RevisionOut
from ringi.identity.dependencies import allowed
from ringi.identity.permissions import Permission, visible
from ringi.jobs.contracts.base_models import BaseFacts
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.tags.lists import with_tags
from ringi.uploads.service import NotUploaded
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, prefix="/bases", tags=["base models"], responses=responses(Unauthenticated, Forbidden, NotFound))
Reader = Annotated[Actor, allowed(Permission.ORGANIZATION_READ)]
Writer = Annotated[Actor, allowed(Permission.BASE_REGISTER)]


def base_out(base: BaseModel) -> BaseModelOut:
    """A base model."""
    return BaseModelOut.model_validate(base)


def revision_out(revision: BaseRevision) -> RevisionOut:
    """A revision with the fingerprint parts that exist."""
    measured = FingerprintParts(F1=revision.parts.get("F1"), F2=revision.parts.get("F2"), not_measured=list(NOT_MEASURED))
    return RevisionOut(
        id=revision.id, reference=f"{revision.base_model.name}:r{revision.number}", number=revision.number, state=revision.state, digest=revision.digest,
        commit=revision.commit, fingerprint=measured, facts=BaseFacts.model_validate(revision.facts) if revision.facts else None,
        files=[FileRef.model_validate(file) for file in revision.files], note=revision.note, job_id=revision.job_id, created_at=revision.created_at,
    )  # fmt: skip


@router.post("", status_code=201, responses=responses(service.BaseModelExists))
def create_base(session: SessionDep, actor: Writer, body: CreateBaseModel) -> BaseModelOut:
    """A new base model without revisions."""
    return base_out(service.create(session, actor, name=body.name, description=body.description))


@router.get("")
def list_bases(session: SessionDep, actor: Reader, ask: Annotated[Ask, asking(BASES)]) -> Page[BaseModelOut]:
    """Base models of the organisation."""
    return page_of(session, visible(actor, BaseModel), ask, base_out)


@router.get("/{base}")
def get_base(session: SessionDep, actor: Reader, base: str) -> BaseModelOut:
    """One base model."""
    return with_tags(session, base_out(service.find(session, actor, base)))


@router.post("/{base}/revisions", status_code=202, responses=responses(NotUploaded, service.BaseFilesIncomplete))
def register_revision(session: SessionDep, actor: Writer, base: str, body: RegisterRevision) -> RevisionOut:
    """Register uploaded files; the job in the answer computes the fingerprint's parts and seals the revision."""
    found = service.find(session, actor, base)
    return with_tags(session, revision_out(service.register_revision(session, actor, base=found, files=body.files, note=body.note)))


@router.get("/{base}/revisions")
def list_revisions(session: SessionDep, actor: Reader, base: str, ask: Annotated[Ask, asking(BASE_REVISIONS)]) -> Page[RevisionOut]:
    """Revisions, newest first."""
    found = service.find(session, actor, base)
    query = visible(actor, BaseRevision).where(BaseRevision.base_model_id == found.id).options(joinedload(BaseRevision.base_model))
    return page_of(session, query, ask, revision_out)


@router.get("/{base}/revisions/{selector}")
def get_revision(session: SessionDep, actor: Reader, base: str, selector: str) -> RevisionOut:
    """One revision by `r2`, `latest`, `latest@TIME` or digest."""
    found = service.find(session, actor, base)
    return with_tags(session, revision_out(service.find_revision(session, actor, base=found, selector=selector)))
