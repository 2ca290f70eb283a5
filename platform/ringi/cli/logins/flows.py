"""A login from a terminal: with a browser on this machine, or with a code that is entered on another (`--device`)."""

import hmac
import threading
import time
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from ringi.cli.bearer import over_at
from ringi.cli.contexts import Profile, SavedLogin
from ringi.cli.logins.loopback import Loopback
from ringi.cli.logins.refusals import IssuerUnsafe, LoginFailed, LoginTimedOut, NoDeviceLogin, NoLoginHere, ProviderUnreachable
from ringi.cli.logins.trust import claims_of, subject_of
from ringi.identity.schemas import LoginOptions
from ringi.oidc import discovery
from ringi.oidc.client import Away, OAuthClient, Refused, Tokens, authorization_url, code_of, drawn
from ringi.oidc.discovery import Endpoints

PATIENCE_S = 300.0
# RFC 8628, 3.5: what `slow_down` adds to the pause between two questions.
SLOWER_S = 5.0
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})
Say = Callable[[str], None]


@dataclass(frozen=True)
class Login:
    """What is to be done, and what the server says about its provider."""

    server: str
    options: LoginOptions
    endpoints: Endpoints
    client_id: str
    fresh: bool = False

    @property
    def client(self) -> OAuthClient:
        """A public client: a program on people's machines keeps no secret (RFC 8252, 8.5)."""
        return OAuthClient(self.client_id, self.endpoints.token)

    @property
    def audience(self) -> dict[str, str]:
        """The parameter that asks for a token for this platform; empty where the provider knows by the client or the scopes."""
        name, value = self.options.audience_parameter, self.options.audience
        return {name: value} if name != "none" and value else {}

    @property
    def wishes(self) -> dict[str, str | None]:
        """What every authorization request asks for; a fresh login proves the person anew, as surely as this server's step-up wants."""
        asked: dict[str, str | None] = {"scope": self.options.scopes, **self.audience}
        if self.fresh:
            asked |= {"prompt": "login", "max_age": "0", "acr_values": self.options.step_up_acr}
        return asked

    def profile(self, tokens: Tokens, *, project: str | None) -> Profile:
        """What is saved."""
        saved = SavedLogin(
            issuer=self.endpoints.issuer, subject=subject_of(tokens), client_id=self.client_id, token_endpoint=self.endpoints.token,
            revocation_endpoint=self.endpoints.revocation, asked=self.audience, refresh_token=tokens.refresh_token, over_at=over_at(tokens.lasts_s),
        )  # fmt: skip
        return Profile(server=self.server, token=tokens.access_token, project=project, login=saved)


def prepared(server: str, options: LoginOptions, *, fresh: bool) -> Login:
    """Ask the provider where people log in. Raises NoLoginHere, IssuerUnsafe, ProviderUnreachable."""
    issuer, client_id = options.issuer, options.cli_client_id
    if issuer is None:
        raise NoLoginHere(server, "has no identity provider; its people are local users")
    if client_id is None:
        raise NoLoginHere(server, "names no client for terminals (RINGI_OIDC_CLI_CLIENT_ID)")
    try:
        place = urlsplit(issuer)
    except ValueError as error:
        raise IssuerUnsafe(issuer) from error
    if place.scheme != "https" and place.hostname not in _HERE:
        raise IssuerUnsafe(issuer)
    try:
        with discovery.client() as http:
            endpoints = discovery.endpoints_of(discovery.discovered(http, issuer))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ProviderUnreachable(issuer, " ".join(str(error).split())[:200] or type(error).__name__) from error
    return Login(server, options, endpoints, client_id, fresh)


def with_browser(login: Login, say: Say, *, port: int = 0, patience_s: float = PATIENCE_S) -> Tokens:
    """Authorization code with PKCE. Raises LoginFailed, LoginTimedOut, ProviderUnreachable."""
    state, nonce, verifier, waiting = drawn(), drawn(), drawn(), Loopback(port)
    url = authorization_url(
        login.endpoints, client_id=login.client_id, redirect_uri=waiting.redirect_uri, state=state, nonce=nonce, verifier=verifier,
        **login.wishes,
    )  # fmt: skip
    say(f"Log in at {login.endpoints.issuer}; your browser opens, or open this address yourself:\n{url}")
    # A browser in the terminal ends only when its page has come, and the page comes from here.
    threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
    said = waiting.wait(patience_s)
    try:
        code = code_of(said, state=state, endpoints=login.endpoints)
        got = login.client.by_code(code, verifier=verifier, redirect_uri=waiting.redirect_uri, **login.audience)
    except Refused as refusal:
        raise LoginFailed(refusal.error, refusal.description) from refusal
    except Away as away:
        raise ProviderUnreachable(login.endpoints.issuer, str(away)) from away
    if got.id_token is not None and not hmac.compare_digest(str(claims_of(got.id_token).get("nonce")).encode(), nonce.encode()):
        raise LoginFailed("nonce", "the provider's ID token answers another login")
    return got


def with_code(login: Login, say: Say, *, pause: Callable[[float], None] = time.sleep) -> Tokens:
    """Device grant: ask until the person has agreed elsewhere. Raises NoDeviceLogin, LoginFailed, LoginTimedOut, ProviderUnreachable."""
    place = login.endpoints.device_authorization
    if place is None:
        raise NoDeviceLogin(login.endpoints.issuer)
    try:
        device = login.client.begin_device(place, **login.wishes)
        say(f"On any device, open {device.verification_uri} and enter the code: {device.user_code}")
        if device.verification_uri_complete:
            say(f"With the code in it: {device.verification_uri_complete}")
        left_s, interval_s = device.lasts_s, device.interval_s
        while left_s > 0:
            pause(interval_s)
            left_s -= interval_s
            try:
                return login.client.by_device(device.device_code)
            except Away:
                # RFC 8628, 3.5: a question that found nobody is asked less often.
                interval_s *= 2
            except Refused as refusal:
                if refusal.error not in {"authorization_pending", "slow_down"}:
                    raise
                interval_s += SLOWER_S if refusal.error == "slow_down" else 0.0
    except Refused as refusal:
        raise LoginFailed(refusal.error, refusal.description) from refusal
    except Away as away:
        raise ProviderUnreachable(login.endpoints.issuer, str(away)) from away
    raise LoginTimedOut(device.lasts_s)
