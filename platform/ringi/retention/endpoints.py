"""What the store holds, and a round of the collector at an operator's wish. The relay does the same by itself (housekeeping.py)."""

from typing import Annotated

from fastapi import APIRouter

from ringi.identity.dependencies import allowed, allowed_beforehand
from ringi.identity.permissions import Permission
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, Unauthenticated
from ringi.retention import service
from ringi.retention.schemas import Collect, CollectionOut, UsageOut
from ringi.storage.blobs import StoreUnavailable
from ringi.web.errors import responses
from ringi.web.route import ApiRoute
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, tags=["storage"], responses=responses(Unauthenticated, Forbidden))


@router.get("/storage/usage")
def get_usage(session: SessionDep, actor: Annotated[Actor, allowed(Permission.STORAGE_READ)]) -> UsageOut:
    """How much is stored."""
    return service.usage(session, actor)


@router.post("/storage/collections", responses=responses(StoreUnavailable))
def collect(actor: Annotated[Actor, allowed_beforehand(Permission.STORAGE_COLLECT)], body: Collect) -> CollectionOut:
    """Remove what nothing refers to and is older than the grace period, or say what that would be."""
    return service.collect_now(actor, dry_run=body.dry_run)
