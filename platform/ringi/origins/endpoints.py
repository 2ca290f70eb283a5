"""HTTP for origins: recorded beside a version, read there and over a whole project."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from ringi.adapters import service as adapters
from ringi.adapters.models import AdapterVersion
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission, visible
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.origins import service
from ringi.origins.models import VersionOrigin
from ringi.origins.record import OriginTooLarge
from ringi.origins.schemas import ExternalName, Facts, OriginOut, RecordOrigin, SourceName, System
from ringi.web.errors import responses
from ringi.web.listing import Listing, column
from ringi.web.paging import Ask, asking, page_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}", tags=["origins"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Writer = Annotated[InProject, allowed_in_project(Permission.ADAPTER_WRITE)]
_FIELDS = {
    "system": column(VersionOrigin.system, "Which kind of system it came from."),
    "source": column(VersionOrigin.source, "Its address."),
    "name": column(VersionOrigin.name, "Its name there."),
    "version": column(VersionOrigin.version, "Its version there."),
    "run_id": column(VersionOrigin.run_id, "The run that made it."),
    "created_at": column(VersionOrigin.created_at, "When it was moved in."),
}
ORIGINS = Listing("origins", key=VersionOrigin.id, fields=_FIELDS, also=("system", "source", "name"))
ORIGINS_OF_VERSION = Listing("origins-of-version", key=VersionOrigin.id, fields=_FIELDS)


def origin_out(origin: VersionOrigin) -> OriginOut:
    """An origin with the version's reference."""
    of = origin.adapter_version
    return OriginOut(
        id=origin.id, reference=f"{of.adapter.reference}:v{of.number}", system=origin.system, source=origin.source, name=origin.name,
        version=origin.version, run_id=origin.run_id, run_url=origin.run_url, facts=Facts.model_validate(origin.facts), digest=origin.digest,
        imported_by=origin.imported_by, imported_at=origin.created_at,
    )  # fmt: skip


def _version(session: Session, caller: InProject, adapter: str, selector: str) -> AdapterVersion:
    found = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    return adapters.find_version(session, caller.actor, adapter=found, selector=selector)


@router.post("/adapters/{adapter}/versions/{selector}/origins", status_code=201, responses=responses(service.OriginDiffers, OriginTooLarge))
def record_origin(session: SessionDep, caller: Writer, adapter: str, selector: str, body: RecordOrigin) -> OriginOut:
    """Say, once and for ever, which version of another system this is; the same again changes nothing."""
    version = _version(session, caller, adapter, selector)
    return origin_out(service.record(session, caller.actor, version=version, origin=body))


@router.get("/adapters/{adapter}/versions/{selector}/origins")
def list_version_origins(
    session: SessionDep, caller: Reader, adapter: str, selector: str, ask: Annotated[Ask, asking(ORIGINS_OF_VERSION)]
) -> Page[OriginOut]:
    """Where a version came from: nothing for one that was trained here, and several where equal bytes were known by several names."""
    version = _version(session, caller, adapter, selector)
    return page_of(session, service.origins_of(caller.actor, version), ask, origin_out)


@router.get("/origins")
def list_origins(
    session: SessionDep,
    caller: Reader,
    ask: Annotated[Ask, asking(ORIGINS)],
    system: Annotated[System | None, Query()] = None,
    source: Annotated[SourceName | None, Query()] = None,
    name: Annotated[ExternalName | None, Query()] = None,
) -> Page[OriginOut]:
    """Everything that was moved into the project, newest first: what a repeated import reads to know what is in."""
    query = visible(caller.actor, VersionOrigin).where(VersionOrigin.project_id == caller.project.id)
    for known, wanted in ((VersionOrigin.system, system), (VersionOrigin.source, source), (VersionOrigin.name, name)):
        if wanted is not None:
            query = query.where(known == wanted)
    return page_of(session, service.loaded(query), ask, origin_out)


@router.get("/origins/{origin_id}")
def get_origin(session: SessionDep, caller: Reader, origin_id: UUID) -> OriginOut:
    """One origin."""
    query = visible(caller.actor, VersionOrigin).where(VersionOrigin.project_id == caller.project.id, VersionOrigin.id == origin_id)
    found = session.scalars(service.loaded(query)).one_or_none()
    if found is None:
        raise NotFound("origin", origin_id)
    return origin_out(found)
