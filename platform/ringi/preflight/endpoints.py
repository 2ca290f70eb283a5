"""HTTP for the forecast on a registered base. The look at a run before it starts is a route of its adapter (training/endpoints.py)."""

from typing import Annotated

from fastapi import APIRouter, Query

from ringi.base_models import service as base_models
from ringi.base_models.service import RevisionNotSealed
from ringi.identity.dependencies import allowed
from ringi.identity.permissions import Permission
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.preflight import service
from ringi.preflight.known import BaseConfigMissing
from ringi.preflight.prices import PriceTableInvalid
from ringi.preflight.schemas import AskEstimate, Estimate
from ringi.preflight.shapes import ShapeInvalid, UnknownShape
from ringi.web.errors import responses
from ringi.web.route import ApiRoute
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/bases/{base}/revisions/{selector}", tags=["preflight"], responses=responses(Unauthenticated, Forbidden, NotFound)
)  # fmt: skip


@router.get("/estimate", responses=responses(BaseConfigMissing, UnknownShape, ShapeInvalid, PriceTableInvalid, RevisionNotSealed))
def estimate_base(
    session: SessionDep,
    actor: Annotated[Actor, allowed(Permission.ORGANIZATION_READ)],
    base: str,
    selector: str,
    ask: Annotated[AskEstimate, Query()],
) -> Estimate:
    """Memory, time and cost of a training on this base, without starting one."""
    revision = base_models.sealed_revision(session, actor, base=base_models.find(session, actor, base), selector=selector)
    return service.forecast(session, actor, revision=revision, ask=ask)
