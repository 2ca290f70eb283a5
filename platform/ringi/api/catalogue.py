"""HTTP for the lists of adapters and versions. They sit up here because their fields come from every domain."""

from typing import Annotated

from fastapi import APIRouter
from sqlalchemy.orm import joinedload

from ringi.adapters import service
from ringi.adapters.endpoints import adapter_out, version_out
from ringi.adapters.models import Adapter, AdapterVersion
from ringi.adapters.schemas import AdapterOut, VersionOut
from ringi.api.catalogue_lists import ADAPTERS, VERSIONS
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission, visible
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}", tags=["adapters"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]


@router.get("/adapters")
def list_adapters(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(ADAPTERS)]) -> Page[AdapterOut]:
    """Adapters of the project."""
    query = visible(caller.actor, Adapter).where(Adapter.project_id == caller.project.id)
    return page_of(session, query.options(joinedload(Adapter.project), joinedload(Adapter.base_model)), ask, adapter_out)


@router.get("/adapters/{adapter}/versions")
def list_versions(session: SessionDep, caller: Reader, adapter: str, ask: Annotated[Ask, asking(VERSIONS)]) -> Page[VersionOut]:
    """Versions, newest first."""
    found = service.find(session, caller.actor, project=caller.project, name=adapter)
    query = visible(caller.actor, AdapterVersion).where(AdapterVersion.adapter_id == found.id)
    return page_of(session, query.options(*service.loads()), ask, version_out)


@router.get("/versions")
def list_all_versions(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(VERSIONS)]) -> Page[VersionOut]:
    """Versions of every adapter of the project, newest first."""
    query = visible(caller.actor, AdapterVersion).where(AdapterVersion.project_id == caller.project.id)
    return page_of(session, query.options(*service.loads()), ask, version_out)
