"""From a request to an Actor, and the one declared action of every route. A route without one fails a test.

`allowed(P.X)` (or, where the body is a stream, `allowed_beforehand(P.X)`) is for routes of the organisation, `allowed_in_project(P.X)` for routes under `/projects/{project}`.
A project that the caller may not see answers 404; one that is seen without the needed role answers 403, and that denial is audited.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.orm import Session

from ringi.audit.schemas import AuditAction
from ringi.db.session import serve_platform, transaction
from ringi.identity import addresses, csrf, denials, refused_logins, service, sessions, step_up
from ringi.identity.authentication import authenticate
from ringi.identity.models import Project
from ringi.identity.permissions import Permission
from ringi.kit.actor import Actor, system_actor
from ringi.kit.errors import Forbidden, Unauthenticated
from ringi.observe.serving import may_scrape
from ringi.settings import get_settings
from ringi.web import cookies
from ringi.web.rate import Counted, Rate, RateLimited, get_counter
from ringi.web.session import SessionDep

_bearer = HTTPBearer(auto_error=False, description="A token of this platform: hf_rgi…")
_READS = frozenset({"GET", "HEAD"})
Check = TypeVar("Check", bound=Callable[..., Any])
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def current_actor(request: Request, session: SessionDep, credentials: Bearer) -> Actor:
    """The caller; 401 without a valid token."""
    return _known(request, session, credentials)


def _known(request: Request, session: Session, credentials: HTTPAuthorizationCredentials | None) -> Actor:
    known: Actor | None = getattr(request.state, "actor", None)
    if known is not None:
        return known
    actor = identified(request, session, credentials)
    admitted(request, actor)
    return actor


def identified(request: Request, session: Session, credentials: HTTPAuthorizationCredentials | None) -> Actor:
    """Who calls, by `Authorization` or, without it, by the cookie of a session. A credential that is refused leaves an audit event.

    Raises Unauthenticated. What the request may do beside that, `admitted` says.
    """
    cookie = cookies.session_secret(request)
    try:
        refused_logins.check_address(request)
        if cookie is None and credentials is not None and sessions.well_formed(credentials.credentials):
            raise Unauthenticated("A session is shown by its cookie alone.", reason="invalid")  # noqa: TRY301  # noted below like the others
        # A cookie that never was one of ours is no credential.
        shown = cookie if cookie is not None and sessions.well_formed(cookie) else credentials.credentials if credentials else None
        actor = authenticate(session, shown, request_id=request.state.request_id)
        addresses.check(actor, request.client.host if request.client else None)
    except Unauthenticated as refusal:
        refused_logins.note(request, session, refusal)
        raise
    return actor


def admitted(request: Request, actor: Actor) -> None:
    """Count the request, and let a change by cookie show that a page of ours sent it. Raises RateLimited, and what csrf.py raises.

    In this order: a page elsewhere that makes a browser send many writes no more entries of denials than there may be requests.
    """
    # Who was made to send it, its denial says.
    request.state.actor = actor
    count_request(request, actor)
    cookie = cookies.session_secret(request)
    if actor.session_id is not None and cookie is not None and request.method not in _READS:
        csrf.check(request, cookie)


def count_request(request: Request, actor: Actor) -> None:
    """Count the request against the minute of its token, or of the person who is logged in. Raises RateLimited."""
    # The deployment's limit holds for what was set before it was lowered, too; 0 is none.
    limit = min(filter(None, (get_settings().requests_per_minute, actor.requests_per_minute)), default=0)
    request.state.rate = _counted(request, "token", actor.token_id or actor.id, limit)


def _counted(request: Request, of: Counted, id_: UUID | None, limit: int | None) -> Rate | None:
    """What is left of a limit after this request, also said on its answer; None where there is no limit. Raises RateLimited."""
    if not limit:
        return None
    rate, said = get_counter().take(str(id_), limit), request.state.answer_headers
    for name, value in rate.headers(of).items():
        said[name] = f"{said[name]}, {value}" if name in said else value
    if not rate.allowed:
        raise RateLimited(limit, rate.retry_after_s, of=of)
    return rate


CurrentActor = Annotated[Actor, Depends(current_actor)]


@dataclass(frozen=True)
class InProject:
    """A caller at work in a project that they may see."""

    actor: Actor
    project: Project


def deny(session: Session | None, actor: Actor, permission: Permission, project_id: UUID | None) -> Forbidden:
    """Audit a denial and make the error to raise. `session` is the request's: it is rolled back, so what it loaded has expired."""
    denials.note(
        session, actor, AuditAction.ACCESS_DENY, object_type="project" if project_id else "organization",
        object_id=str(project_id or actor.organization_id), project_id=project_id, details={"permission": permission.value},
    )  # fmt: skip
    refusal = Forbidden(permission, where="this project" if project_id else "this organisation")
    refusal.noted = True
    return refusal


def allowed(permission: Permission) -> Any:
    """The Actor, when a role of theirs allows `permission` in the organisation, or in any project of it."""

    # One call for both questions: each dependency that asks the database costs a change of threads.
    def check(request: Request, session: SessionDep, credentials: Bearer) -> Actor:
        return _allowed_anywhere(request, session, _known(request, session, credentials), permission)

    return Depends(_declared(check, permission))


def allowed_beforehand(permission: Permission) -> Any:
    """The same, asked in a transaction that ends before the body is read: a slow upload must hold no connection and no lock."""

    def check(request: Request, credentials: Bearer) -> Actor:
        with transaction() as session:
            actor = _known(request, session, credentials)
        return _allowed_anywhere(request, None, actor, permission)

    return Depends(_declared(check, permission))


def _allowed_anywhere(request: Request, session: Session | None, actor: Actor, permission: Permission) -> Actor:
    if not actor.may(permission) and not any(permission in held for held in actor.project_permissions.values()):
        raise deny(session, actor, permission, None)
    _stepped_up(request, session, actor, permission, None)
    return actor


def _stepped_up(request: Request, session: Session | None, actor: Actor, permission: Permission, project_id: UUID | None) -> None:
    """What changes something and needs the person asks for a fresh login; its refusal is audited like a denial."""
    if request.method in _READS:
        return
    try:
        step_up.check(actor, permission)
    except step_up.FreshLoginNeeded:
        deny(session, actor, permission, project_id)
        raise


def allowed_in_project(permission: Permission) -> Any:
    """Actor and project, when a role of theirs allows `permission` in the path's project; the request counts against the project's minute."""

    def check(request: Request, session: SessionDep, credentials: Bearer, project: str) -> InProject:
        actor = _known(request, session, credentials)
        found, limit = service.find_limited_project(session, actor, project)
        request.state.project_id = found.id
        if not actor.may(permission, found.id):
            raise deny(session, actor, permission, found.id)
        _stepped_up(request, session, actor, permission, found.id)
        # Whoever may lift the limit is not held back by it.
        request.state.project_rate = _counted(request, "project", found.id, None if permission is Permission.QUOTA_SET else limit)
        return InProject(actor=actor, project=found)

    return Depends(_declared(check, permission))


def setup_actor(request: Request, session: SessionDep, credentials: Bearer) -> Actor:
    """The operator who may create organisations, by the setup key of this deployment; compared in constant time."""
    expected = get_settings().setup_key
    given = credentials.credentials if credentials else ""
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        refusal = Unauthenticated("Creating an organisation needs this deployment's setup key.", reason="setup_key")
        if credentials is not None:
            refused_logins.note(request, session, refusal)
        raise refusal
    serve_platform(session)
    request.state.actor = replace(system_actor("setup"), request_id=request.state.request_id)
    return request.state.actor  # type: ignore[no-any-return]  # as just set


def scraper(request: Request, credentials: Bearer) -> Actor:
    """Prometheus, by the metrics token of this deployment."""
    if not may_scrape(f"Bearer {credentials.credentials}" if credentials else None):
        refusal = Unauthenticated("Reading metrics needs this deployment's metrics token.", reason="metrics_token")
        if credentials is not None:
            refused_logins.note(request, None, refusal)
        raise refusal
    return system_actor("prometheus")


def _declared(check: Check, permission: Permission) -> Check:
    check.ringi_permission = permission  # type: ignore[attr-defined]  # read by the test that walks the routes
    return check


Scraper = Annotated[Actor, Depends(_declared(scraper, Permission.METRICS_READ))]
SetupActor = Annotated[Actor, Depends(_declared(setup_actor, Permission.IDENTITY_MANAGE))]
