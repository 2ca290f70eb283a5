"""HTTP for tags of everything. It sits up here because it must find, and ask who may see, things of every domain.

A thing is named by its kind and its id, which every answer of the API shows. Tags of what belongs to a project need `tag:write` there; what
the whole organisation shares (base models, and jobs of no project) needs in addition the right to register base models.
"""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from sqlalchemy.orm import Session

from ringi.adapters.models import Adapter, AdapterVersion
from ringi.approvals.models import ApprovalRequest
from ringi.base_models.models import BaseModel, BaseRevision
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.evaluation.models import Evaluation
from ringi.identity.dependencies import allowed, deny
from ringi.identity.models import Project
from ringi.identity.permissions import Permission, visible
from ringi.jobs import service as jobs
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.releases.models import Channel, Release
from ringi.suites.models import Suite, SuiteVersion
from ringi.tags import service
from ringi.tags.models import Tag
from ringi.tags.schemas import SetTag, Taggable, TagKey, TagOut, TagsOut
from ringi.tags.service import Subject
from ringi.training.models import TrainingRun
from ringi.web.errors import responses
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/tags/{kind}/{object_id}", tags=["tags"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[Actor, allowed(Permission.PROJECT_READ)]
Writer = Annotated[Actor, allowed(Permission.TAG_WRITE)]

_MODELS: dict[Taggable, type[Any]] = {
    Taggable.PROJECT: Project,
    Taggable.DATASET: Dataset,
    Taggable.DATASET_VERSION: DatasetVersion,
    Taggable.BASE_MODEL: BaseModel,
    Taggable.BASE_REVISION: BaseRevision,
    Taggable.ADAPTER: Adapter,
    Taggable.ADAPTER_VERSION: AdapterVersion,
    Taggable.TRAINING_RUN: TrainingRun,
    Taggable.EVALUATION: Evaluation,
    Taggable.SUITE: Suite,
    Taggable.SUITE_VERSION: SuiteVersion,
    Taggable.APPROVAL_REQUEST: ApprovalRequest,
    Taggable.CHANNEL: Channel,
    Taggable.RELEASE: Release,
}


def _subject(session: Session, actor: Actor, kind: Taggable, object_id: UUID) -> Subject:
    """The thing, when the caller may see it; raises NotFound."""
    if kind is Taggable.JOB:
        found: Any = jobs.find(session, actor, object_id)
    else:
        model = _MODELS[kind]
        found = session.scalars(visible(actor, model).where(model.id == object_id)).one_or_none()
    if found is None or actor.organization_id is None:
        raise NotFound(kind.value.replace("_", " "), object_id)
    project_id = found.id if kind is Taggable.PROJECT else getattr(found, "project_id", None)
    return Subject(kind, object_id, actor.organization_id, project_id)


def _writable(session: Session, actor: Actor, kind: Taggable, object_id: UUID) -> Subject:
    subject = _subject(session, actor, kind, object_id)
    if subject.project_id is not None:
        if not actor.may(Permission.TAG_WRITE, subject.project_id):
            raise deny(session, actor, Permission.TAG_WRITE, subject.project_id)
    elif not actor.may(Permission.BASE_REGISTER) and not any(
        Permission.BASE_REGISTER in held for held in actor.project_permissions.values()
    ):
        raise deny(session, actor, Permission.BASE_REGISTER, None)
    return subject


def tag_out(tag: Tag) -> TagOut:
    """One tag."""
    return TagOut(key=tag.key, value=tag.value, set_by=tag.set_by, set_at=tag.set_at, row_version=tag.row_version)


@router.get("")
def list_tags(session: SessionDep, actor: Reader, kind: Taggable, object_id: UUID) -> TagsOut:
    """All tags of a thing, by key."""
    subject = _subject(session, actor, kind, object_id)
    return TagsOut(kind=kind, object_id=object_id, tags=[tag_out(tag) for tag in service.of(session, subject)])


@router.put("/{key}", responses=responses(service.TooManyTags, PreconditionFailed))
def set_tag(session: SessionDep, actor: Writer, kind: Taggable, object_id: UUID, key: TagKey, body: SetTag, match: IfMatch) -> TagOut:
    """Give a key a value; the thing itself, sealed or not, stays as it is."""
    subject = _writable(session, actor, kind, object_id)
    return tag_out(service.put(session, actor, subject, key=key, value=body.value, match=match))


@router.delete("/{key}", responses=responses(PreconditionFailed))
def remove_tag(session: SessionDep, actor: Writer, kind: Taggable, object_id: UUID, key: TagKey, match: IfMatch) -> TagOut:
    """Take a tag away; the answer shows it for the last time."""
    subject = _writable(session, actor, kind, object_id)
    return tag_out(service.remove(session, actor, subject, key=key, match=match))
