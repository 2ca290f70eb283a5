"""HTTP for the sessions of browsers: who has which, and ending them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter

from ringi.identity import sessions
from ringi.identity.dependencies import CurrentActor
from ringi.identity.lists import SESSIONS
from ringi.identity.models import BrowserSession
from ringi.identity.schemas import SessionOut
from ringi.kit.actor import Actor
from ringi.kit.errors import NotFound, Unauthenticated
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, tags=["identity"], responses=responses(Unauthenticated, NotFound))


def session_out(found: BrowserSession, actor: Actor) -> SessionOut:
    """Without the secret."""
    fields = {name: getattr(found, name) for name in SessionOut.model_fields if name not in {"user", "current"}}
    return SessionOut(user=found.user.name, current=found.id == actor.session_id, **fields)


@router.get("/sessions")
def list_sessions(session: SessionDep, actor: CurrentActor, ask: Annotated[Ask, asking(SESSIONS)]) -> Page[SessionOut]:
    """The caller's sessions of browsers, those of the last week that are over included; an identity_admin sees the organisation's."""
    return page_of(session, sessions.in_sight(actor), ask, lambda found: session_out(found, actor))


@router.delete("/sessions/{session_id}")
def end_session(session: SessionDep, actor: CurrentActor, session_id: UUID) -> SessionOut:
    """End a session of one's own now; an identity_admin may end anybody's in the organisation."""
    return session_out(sessions.end_one(session, actor, session_id), actor)
