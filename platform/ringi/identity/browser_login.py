"""A login in a browser: to the provider and back, with the authorization code, PKCE, a state and a nonce (docs/decisions/0017)."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from authlib.common.urls import add_params_to_uri

from ringi.identity import id_tokens, sessions
from ringi.identity.access_tokens import SKEW, AccessTokenRefused, Claims
from ringi.identity.login_record import LoginRecord
from ringi.identity.provider import IdentityProviderAway, Provider, get_provider
from ringi.identity.sessions import Begun, LoginOfNobody
from ringi.kit.actor import Login
from ringi.kit.errors import Conflict, InvalidInput, RingiError, ShownToken, Unauthenticated
from ringi.oidc.client import Away, OAuthClient, Refused, authorization_url, code_of, drawn
from ringi.settings import get_settings

# A path of ours in visible ASCII. Two slashes, or one of the other kind that browsers take for it, would begin another host.
_OWN_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,2000}")
# What a provider may say (RFC 6749, 4.1.2.1 and 5.2; OpenID Connect Core 1.0, 3.1.2.6), and what we do; the rest is what anybody may write.
_REASONS = frozenset({
    "access_denied", "login_required", "interaction_required", "consent_required", "account_selection_required", "invalid_request",
    "unauthorized_client", "unsupported_response_type", "invalid_scope", "server_error", "temporarily_unavailable", "invalid_grant",
    "invalid_client", "unmet_authentication_requirements", "state", "issuer", "no_code",
})  # fmt: skip


class BrowserLoginNotSetUp(Conflict):
    """The deployment has no identity provider, or the provider has no client for browsers."""

    code = "browser_login_not_set_up"

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"Nobody logs in with a browser here: {missing} is not set.",
            next_step="Use a token (ringi login --token -), or let the operator set up an identity provider: docs/identity.md.",
        )


class ReturnToElsewhere(InvalidInput):
    """Where the login is to lead is no page of this platform."""

    code = "return_to_elsewhere"

    def __init__(self) -> None:
        super().__init__(
            "After a login a browser is sent to a page of this platform only.",
            next_step="Give return_to as a path that begins with one slash.",
        )


class LoginRefused(Unauthenticated):
    """The answer that came back from the provider is no login here; `details.reason` says why, in one word."""

    code, status = "login_refused", 403

    def __init__(self, what: str, *, reason: str, who: ShownToken | None = None) -> None:
        super().__init__(f"The login was refused: {what}.", reason=reason, token=who)
        self.next_step = "Begin again: /auth/login. If it stays, ask an identity_admin."


class TooManyLogins(RingiError):
    """One address begins or ends logins more often than people do."""

    code, status, retryable = "too_many_logins", 429, True

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("Too many logins from this address within a minute.", next_step="Wait a moment, then begin again: /auth/login.")
        self.retry_after_s = retry_after_s


class Way(NamedTuple):
    """The provider, and our client there."""

    provider: Provider
    client_id: str

    @property
    def client(self) -> OAuthClient:
        """What exchanges the code."""
        endpoints = self.provider.endpoints()
        return OAuthClient(self.client_id, endpoints.token, get_settings().oidc_client_secret, endpoints.auth_methods)


def way() -> Way:
    """Raises BrowserLoginNotSetUp."""
    provider, client_id = get_provider(), get_settings().oidc_client_id
    if provider is None:
        raise BrowserLoginNotSetUp("RINGI_OIDC_ISSUER")
    if client_id is None:
        raise BrowserLoginNotSetUp("RINGI_OIDC_CLIENT_ID")
    return Way(provider, client_id)


def redirect_uri() -> str:
    """Where the provider sends the browser back to; it is registered there."""
    return get_settings().public_url.rstrip("/") + "/auth/callback"


def begun(return_to: str, *, fresh: bool, acr: str | None, now: datetime) -> tuple[str, LoginRecord]:
    """Where the browser goes, and what it keeps. Raises BrowserLoginNotSetUp, ReturnToElsewhere, IdentityProviderAway."""
    # Back to a login would be a circle.
    if not _OWN_PATH.fullmatch(return_to) or return_to.startswith("/auth/"):
        raise ReturnToElsewhere
    to = way()
    record = LoginRecord(state=drawn(), nonce=drawn(), verifier=drawn(), return_to=return_to, fresh=fresh, begun_at=now)
    anew = {"prompt": "login", "max_age": "0"} if fresh else {}
    wanted = acr or (get_settings().step_up_acr if fresh else None)
    url = authorization_url(
        to.provider.endpoints(), client_id=to.client_id, redirect_uri=redirect_uri(), state=record.state, verifier=record.verifier,
        scope="openid", nonce=record.nonce, acr_values=wanted, **anew,
    )  # fmt: skip
    return url, record


def answer_of(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """What came back. Raises LoginRefused where a parameter came twice: each of us would believe another one (RFC 6749, 3.1)."""
    said = dict(pairs)
    if len(said) != len(pairs):
        raise LoginRefused("the answer says something twice", reason="repeated")
    return said


def ended(said: Mapping[str, str], record: LoginRecord | None, *, earlier: str | None, now: datetime, request_id: str | None) -> Begun:
    """The session of whoever comes back. Raises BrowserLoginNotSetUp, LoginRefused, IdentityProviderAway."""
    to = way()
    if record is None:
        raise LoginRefused("this browser began none within the last minutes", reason="not_begun")
    try:
        code = code_of(said, state=record.state, endpoints=to.provider.endpoints())
        got = to.client.by_code(code, verifier=record.verifier, redirect_uri=redirect_uri())
    except Refused as refusal:
        reason = refusal.error if refusal.error in _REASONS else "other"
        raise LoginRefused(refusal.description or f"the provider says '{refusal.error}'", reason=reason) from refusal
    except Away as away:
        raise IdentityProviderAway(str(away)) from away
    claims, login = _identified(to, got.id_token, record, now)
    try:
        return sessions.begin(login, claims.subject, earlier=earlier, request_id=request_id)
    except LoginOfNobody as nobody:
        what = "nobody here has this subject" if nobody.reason == "unknown_subject" else "this user was disabled"
        raise LoginRefused(what, reason=nobody.reason, who=nobody.who) from nobody


def _identified(to: Way, id_token: str | None, record: LoginRecord, now: datetime) -> tuple[Claims, Login]:
    if id_token is None:
        raise LoginRefused("the provider gave no ID token", reason="no_id_token")
    try:
        claims = id_tokens.believed(to.provider, id_token, client_id=to.client_id, nonce=record.nonce)
        login = claims.login(now)
    except AccessTokenRefused as refusal:
        reason = str(refusal.details["reason"])
        raise LoginRefused(f"its ID token is not believed ({reason})", reason=f"id_token_{reason}") from refusal
    # OpenID Connect Core 1.0, 3.1.2.1: a provider that was asked for `max_age` says when; one that does not, proved nobody anew.
    if record.fresh and (login.at is None or login.at < record.begun_at - SKEW):
        raise LoginRefused("the provider did not prove anew who you are", reason="not_fresh")
    return claims, login


def end_session_url() -> str | None:
    """Where the browser ends its session at the provider (OpenID Connect RP-Initiated Logout 1.0); None where there is no such place."""
    try:
        to = way()
        place = to.provider.endpoints().end_session
    except RingiError:
        # The session here is over all the same.
        return None
    if place is None:
        return None
    after = get_settings().public_url.rstrip("/") + "/"
    return str(add_params_to_uri(place, [("client_id", to.client_id), ("post_logout_redirect_uri", after)]))


def idle_end(last_seen_at: datetime) -> datetime:
    """When a session ends without another request."""
    return last_seen_at + timedelta(seconds=get_settings().session_idle_s)
