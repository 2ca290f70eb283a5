"""HTTP for compatibility: what the newer revisions of its base mean for an adapter, and for a whole base."""

from typing import Annotated

from fastapi import APIRouter

from ringi.adapters import service as adapters
from ringi.base_models import service as base_models
from ringi.compatibility import service
from ringi.compatibility.lists import ASSESSMENTS
from ringi.compatibility.models import CompatibilityAssessment
from ringi.compatibility.rules import Assessment
from ringi.compatibility.schemas import AssessmentOut
from ringi.identity.dependencies import InProject, allowed, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, tags=["compatibility"], responses=responses(Unauthenticated, Forbidden, NotFound))


def assessment_out(row: CompatibilityAssessment) -> AssessmentOut:
    """An assessment with names instead of ids."""
    version = row.version
    return AssessmentOut(
        id=row.id, version=f"{version.adapter.reference}:v{version.number}",
        trained_on=f"{version.base_revision.base_model.name}:r{version.base_revision.number}",
        base=f"{row.base_revision.base_model.name}:r{row.base_revision.number}", assessment=Assessment.model_validate(row.report),
        report_digest=row.report_digest, created_at=row.created_at,
    )  # fmt: skip


@router.get("/projects/{project}/adapters/{adapter}/versions/{selector}/compatibility")  # noqa: FAST003  # a dependency takes the project
def version_compatibility(
    session: SessionDep,
    caller: Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)],
    adapter: str,
    selector: str,
    ask: Annotated[Ask, asking(ASSESSMENTS)],
) -> Page[AssessmentOut]:
    """The version against every other revision of its base, newest assessment first."""
    found = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    version = adapters.find_version(session, caller.actor, adapter=found, selector=selector)
    query = service.listed(caller.actor).where(CompatibilityAssessment.version_id == version.id)
    return page_of(session, query, ask, assessment_out)


@router.get("/bases/{base}/revisions/{selector}/compatibility")
def revision_compatibility(
    session: SessionDep,
    actor: Annotated[Actor, allowed(Permission.ORGANIZATION_READ)],
    base: str,
    selector: str,
    ask: Annotated[Ask, asking(ASSESSMENTS)],
) -> Page[AssessmentOut]:
    """Every adapter version in sight, judged against this revision of its base."""
    found = base_models.find(session, actor, base)
    revision = base_models.find_revision(session, actor, base=found, selector=selector)
    query = service.listed(actor).where(CompatibilityAssessment.base_revision_id == revision.id)
    return page_of(session, query, ask, assessment_out)
