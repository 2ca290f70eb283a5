"""HTTP for logging in: what a client must know of the identity provider, and the sessions of browsers (docs/identity.md).

`/auth/login` and `/auth/callback` are where a browser is led, so they answer a person with a page, and a program with a problem document.
"""

from collections.abc import Callable
from datetime import datetime
from html import escape
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ringi.identity import browser_login, login_record, refused_logins, sessions
from ringi.identity.browser_login import BrowserLoginNotSetUp, LoginRefused, ReturnToElsewhere, TooManyLogins
from ringi.identity.csrf import CrossSiteRequest, CsrfTokenMissing, CsrfTokenWrong
from ringi.identity.dependencies import CurrentActor
from ringi.identity.models import BrowserSession
from ringi.identity.provider import IdentityProviderAway
from ringi.identity.schemas import LoggedOut, LoginOptions, SessionState
from ringi.kit.errors import Conflict, RingiError, Unauthenticated
from ringi.settings import get_settings
from ringi.web import cookies
from ringi.web.errors import refusal_answer, responses
from ringi.web.rate import get_counter
from ringi.web.session import SessionDep

router = APIRouter(prefix="/auth", tags=["login"])
PUBLIC_PATHS = ("/auth/provider", "/auth/login", "/auth/callback")
# Logins from one address within a minute, begun and ended.
PER_MINUTE = 600
_ACR = r"^[\x21\x23-\x5b\x5d-\x7e]+$"
_QUIET = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Ringi</title></head>
<body style="font-family: sans-serif; max-width: 40rem; margin: 4rem auto">
<p lang="ja">ログインできませんでした。</p>
<p>{message}</p><p>{next_step}</p><p><a href="/auth/login">Log in / ログイン</a></p><p><small>{code} {request_id}</small></p>
</body></html>
"""


class NoSession(Conflict):
    """The caller showed a token, so there is no session to speak of."""

    code = "no_session"

    def __init__(self) -> None:
        super().__init__("You came with a token, and not with the session of a browser.", next_step="See GET /api/v1/whoami.")


@router.get("/provider")
def login_options() -> LoginOptions:
    """How people log in at this platform; `ringi login` asks it first."""
    settings = get_settings()
    return LoginOptions(
        issuer=settings.oidc_issuer, cli_client_id=settings.oidc_cli_client_id, scopes=settings.oidc_scopes, audience=settings.oidc_audience,
        audience_parameter=settings.oidc_audience_parameter, step_up_acr=settings.step_up_acr, step_up_max_age_s=settings.step_up_max_age_s,
    )  # fmt: skip


@router.get(
    "/login", response_class=RedirectResponse, status_code=302,
    responses=responses(BrowserLoginNotSetUp, ReturnToElsewhere, TooManyLogins, IdentityProviderAway),
)  # fmt: skip
def login(
    request: Request,
    session: SessionDep,
    return_to: Annotated[str, Query(max_length=2001, description="The page of this platform to come back to.")] = "/",
    fresh: Annotated[bool, Query(description="Prove the person anew, for what needs a fresh login.")] = False,
    acr: Annotated[str | None, Query(max_length=128, pattern=_ACR, description="How surely; this deployment's step-up by default.")] = None,
) -> Response:
    """Send the browser to the identity provider."""

    def go() -> Response:
        _hold_back(request)
        now = _now(session)
        url, record = browser_login.begun(return_to, fresh=fresh, acr=acr, now=now)
        answer = RedirectResponse(url, status_code=302, headers=_QUIET)
        for name in login_record.superfluous(request, now):
            cookies.take_back(answer, name)
        cookies.put(answer, login_record.name_of(record.state), record.sealed(), lasts_s=login_record.LASTS_S)
        return answer

    return _shown(request, go)


@router.get(
    "/callback", response_class=RedirectResponse, status_code=302,
    responses=responses(BrowserLoginNotSetUp, LoginRefused, TooManyLogins, IdentityProviderAway),
)  # fmt: skip
def callback(request: Request, session: SessionDep) -> Response:
    """Where the provider sends the browser back to: a session begins, and its cookie goes with the answer."""
    over: list[str] = []

    def come() -> Response:
        _hold_back(request)
        now, said = _now(session), browser_login.answer_of(request.query_params.multi_items())
        name = login_record.name_of(said.get("state", ""))
        record = login_record.opened(cookies.read(request, name), now)
        try:
            made = browser_login.ended(
                said, record, earlier=cookies.read(request, cookies.SESSION), now=now, request_id=request.state.request_id
            )
        except LoginRefused:
            # Of this login and of no other tab's; while the provider is away, the same answer may come again.
            over.append(name)
            raise
        over.append(name)
        answer = RedirectResponse(record.return_to if record else "/", status_code=302, headers=_QUIET)
        cookies.put(answer, cookies.SESSION, made.secret, lasts_s=made.lasts_s)
        return answer

    answer = _shown(request, come)
    for name in over:
        cookies.take_back(answer, name)
    return answer


@router.get("/session", responses=responses(Unauthenticated, NoSession))
def own_session(request: Request, response: Response, session: SessionDep, actor: CurrentActor) -> SessionState:
    """The browser's own session, and the token that its changes show."""
    secret = cookies.session_secret(request)
    if actor.login is None or actor.session_id is None or secret is None:
        raise NoSession
    # unscoped: the caller's own session.
    found = session.scalars(select(BrowserSession).where(BrowserSession.id == actor.session_id)).one()
    response.headers.update(_QUIET)
    return SessionState(
        id=found.id, user=actor.name, issuer=found.issuer, acr=found.acr, logged_in_at=found.logged_in_at, ends_at=found.ends_at,
        idle_ends_at=min(found.ends_at, browser_login.idle_end(found.last_seen_at)), csrf_token=sessions.csrf_token(secret),
    )  # fmt: skip


@router.post("/logout", responses=responses(Unauthenticated, CsrfTokenMissing, CsrfTokenWrong, CrossSiteRequest, NoSession))
def logout(response: Response, session: SessionDep, actor: CurrentActor) -> LoggedOut:
    """End the browser's own session."""
    if actor.session_id is None:
        raise NoSession
    # Gives the connection back: the provider may be asked, and must hold neither it nor a lock.
    session.rollback()
    after = browser_login.end_session_url()
    sessions.end(session, actor, BrowserSession.id == actor.session_id)
    cookies.take_back(response, cookies.SESSION)
    response.headers.update(_QUIET)
    return LoggedOut(end_session_url=after)


def _now(session: Session) -> datetime:
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    # Gives the connection back: a provider that takes its time must not hold the pool.
    session.rollback()
    return now


def _hold_back(request: Request) -> None:
    address = request.client.host if request.client else "unknown"
    rate = get_counter().take(f"login:{address}", PER_MINUTE)
    if not rate.allowed:
        raise TooManyLogins(rate.retry_after_s)


def _shown(request: Request, act: Callable[[], Response]) -> Response:
    """The answer; a refusal as a page where a browser asks for one, and in the audit log where it is of a login."""
    try:
        return act()
    except RingiError as refusal:
        if isinstance(refusal, LoginRefused):
            refused_logins.note(request, None, refusal)
        if "text/html" not in request.headers.get("accept", ""):
            return refusal_answer(request, refusal)
        said = {"message": refusal.message, "next_step": refusal.next_step, "code": refusal.code, "request_id": request.state.request_id}
        page = _PAGE.format(**{name: escape(str(value)) for name, value in said.items()})
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "X-Content-Type-Options": "nosniff"}
        return HTMLResponse(page, status_code=refusal.status, headers=_QUIET | policy)
