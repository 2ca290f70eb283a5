"""HTTP for erasing a person. It sits up here because a person's texts stand in every domain."""

from typing import Annotated

from fastapi import APIRouter

from ringi.erasure import service
from ringi.identity.dependencies import allowed
from ringi.identity.permissions import Permission
from ringi.identity.refusals import ErasingOneself, LastAdministrator, UserErased
from ringi.identity.schemas import EraseUser, UserOut
from ringi.identity.service import find_user
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.web.errors import responses
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, tags=["identity"], responses=responses(Unauthenticated, Forbidden, NotFound))


@router.post("/users/{user}/erase", responses=responses(PreconditionFailed, UserErased, ErasingOneself, LastAdministrator))
def erase_user(
    session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_MANAGE)], user: str, body: EraseUser, match: IfMatch
) -> UserOut:
    """Erase a person for good: the key of their texts, their names, and every way in. Their decisions and every proof stay."""
    found = find_user(session, actor, user)
    match.check(session, found)
    return UserOut.model_validate(service.erase(session, actor, found, reason=body.reason))
