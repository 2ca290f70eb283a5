"""A client of an identity provider: the authorization code with PKCE (RFC 6749, RFC 7636, RFC 9207), refreshing, the device grant (RFC 8628)
and revocation (RFC 7009). The texts of requests are authlib's; what is sent and believed is said here.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from ringi.oidc.discovery import Endpoints, bounded, client

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_LONGEST_WORD, _LONGEST_TEXT, _LONGEST_TOKEN = 64, 200, 64 * 1024


class Refused(Exception):
    """The provider, or what came in its name, says no. `error` is its word (RFC 6749, 5.2), or ours: `state`, `issuer`, `no_code`."""

    def __init__(self, error: str, description: str = "") -> None:
        self.error, self.description = _printable(error, _LONGEST_WORD), _printable(description, _LONGEST_TEXT)
        super().__init__(f"{self.error}: {self.description}" if self.description else self.error)


class Away(Exception):
    """The provider does not answer, or not in the form of its standard."""


class Tokens(NamedTuple):
    """What the token endpoint gave. `lasts_s` is None where it does not say."""

    access_token: str
    refresh_token: str | None
    id_token: str | None
    lasts_s: float | None


class Device(NamedTuple):
    """What a person enters elsewhere (RFC 8628, 3.2), in seconds where it is a time."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    lasts_s: float
    interval_s: float


@dataclass(frozen=True)
class OAuthClient:
    """One client at one provider; without a secret it is a public one."""

    client_id: str
    token_endpoint: str
    client_secret: str | None = None
    auth_methods: tuple[str, ...] = ()

    def by_code(self, code: str, *, verifier: str, redirect_uri: str, **more: str) -> Tokens:
        """Exchange a code. Raises Refused, Away."""
        return self._tokens("authorization_code", code=code, code_verifier=verifier, redirect_uri=redirect_uri, **more)

    def by_refresh(self, refresh_token: str, **more: str) -> Tokens:
        """New tokens for an old one, which may be worth nothing afterwards. Raises Refused, Away."""
        return self._tokens("refresh_token", refresh_token=refresh_token, **more)

    def by_device(self, device_code: str) -> Tokens:
        """Ask once whether the person has agreed. Raises Refused (`authorization_pending`, `slow_down`, …), Away."""
        return self._tokens(DEVICE_GRANT, device_code=device_code)

    def begin_device(self, place: str, **asked: str | None) -> Device:
        """Begin a login elsewhere. Raises Refused, Away."""
        said = self._post(place, urlencode({name: value for name, value in asked.items() if value is not None}))
        lasts_s, interval_s = _number(said.get("expires_in")), _number(said.get("interval"))
        try:
            return Device(
                device_code=_text(said["device_code"]), user_code=_printable(_text(said["user_code"]), _LONGEST_WORD),
                verification_uri=_printable(_text(said["verification_uri"]), _LONGEST_TEXT),
                verification_uri_complete=_optional(said.get("verification_uri_complete")),
                # The standard's own default of the interval; an end is required there, and a quarter of an hour is common.
                lasts_s=lasts_s or 900.0, interval_s=interval_s or 5.0,
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise Away("the provider's answer is no device authorization") from error

    def revoke(self, place: str, token: str, *, kind: str) -> None:
        """End a token at the provider. Raises Refused, Away."""
        self._post(place, urlencode({"token": token, "token_type_hint": kind}), empty=True)

    def _tokens(self, grant: str, **asked: str) -> Tokens:
        said = self._post(self.token_endpoint, prepare_token_request(grant, **asked))
        try:
            return Tokens(
                access_token=_text(said["access_token"]), refresh_token=_optional(said.get("refresh_token")),
                id_token=_optional(said.get("id_token")), lasts_s=_number(said.get("expires_in")),
            )  # fmt: skip
        except (KeyError, TypeError) as error:
            raise Away("the provider's answer holds no access token") from error

    def _post(self, place: str, body: str, *, empty: bool = False) -> dict[str, Any]:
        auth = ClientAuth(self.client_id, self.client_secret, self._auth_method())
        place, headers, body = auth.prepare("POST", place, dict(_FORM), body)  # type: ignore[no-untyped-call]
        try:
            with client() as http:
                answer = bounded(http, "POST", place, headers=headers, content=body.encode())
            if empty and answer.is_success:
                return {}
            said = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise Away(" ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_TEXT]) from error
        if isinstance(said, dict) and isinstance(said.get("error"), str) and not answer.is_success:
            raise Refused(said["error"], str(said.get("error_description") or ""))
        if not answer.is_success or not isinstance(said, dict):
            raise Away(f"the provider answers {answer.status_code}")
        return said

    def _auth_method(self) -> str:
        if self.client_secret is None:
            return "none"
        known = self.auth_methods
        return "client_secret_post" if "client_secret_post" in known and "client_secret_basic" not in known else "client_secret_basic"


def drawn() -> str:
    """256 random bits that need no quoting: a state, a nonce, a code verifier (RFC 7636, 4.1: 43 characters)."""
    return secrets.token_urlsafe(32)


def authorization_url(endpoints: Endpoints, *, client_id: str, redirect_uri: str, state: str, verifier: str, **asked: str | None) -> str:
    """Where the person's browser goes; `asked` are further parameters, those of None left out."""
    challenge = create_s256_code_challenge(verifier)  # type: ignore[no-untyped-call]
    return str(
        prepare_grant_uri(
            endpoints.authorization, client_id, "code", redirect_uri=redirect_uri, state=state, code_challenge=challenge,
            code_challenge_method="S256", **asked,
        )
    )  # fmt: skip


def code_of(said: Mapping[str, str], *, state: str, endpoints: Endpoints) -> str:
    """The code in what came back to the redirect address. Raises Refused: for a foreign state or issuer, and with the provider's own error."""
    if not hmac.compare_digest(said.get("state", "").encode(), state.encode()):
        raise Refused("state", "the answer belongs to another login")
    # RFC 9207, 2.4: an answer that another provider made must not send the code of this one there, or the other way round.
    if said.get("iss", endpoints.issuer) != endpoints.issuer or (endpoints.names_itself and "iss" not in said):
        raise Refused("issuer", "the answer is not this provider's")
    if "error" in said:
        raise Refused(said["error"], said.get("error_description", ""))
    if not said.get("code"):
        raise Refused("no_code", "the answer holds no code")
    return said["code"]


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TOKEN or not (value.isascii() and value.isprintable()):
        raise TypeError("it is no text")
    return value


def _optional(value: object) -> str | None:
    return None if value is None else _text(value)


def _number(value: object) -> float | None:
    """Providers write numbers as texts here and there."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except ValueError:
        return None
    return number if number is not None and 0 < number < 10**9 else None


def _printable(text: str, longest: int) -> str:
    return "".join(one if one.isprintable() else " " for one in text)[:longest].strip()
