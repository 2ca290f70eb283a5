"""What an identity provider publishes about itself (OpenID Connect Discovery 1.0, RFC 8414): read whole, bounded, and only where it was named."""

from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

ANSWERS_S, MOST_BYTES = 5.0, 1024 * 1024
_WELL_KNOWN = "/.well-known/openid-configuration"


class Endpoints(NamedTuple):
    """Where a client turns to; None where the provider has no such endpoint. All have the issuer's scheme."""

    issuer: str
    authorization: str
    token: str
    device_authorization: str | None
    revocation: str | None
    end_session: str | None
    # Whether every answer of the authorization endpoint says `iss` (RFC 9207).
    names_itself: bool
    # How a client with a secret may show it (`token_endpoint_auth_methods_supported`).
    auth_methods: tuple[str, ...]


def client() -> httpx.Client:
    """What asks a provider: it follows nobody elsewhere."""
    return httpx.Client(timeout=ANSWERS_S, follow_redirects=False)


def bounded(http: httpx.Client, method: str, place: str, **request: Any) -> httpx.Response:
    """An answer of at most 1 MiB. Raises httpx.HTTPError, ValueError."""
    with http.stream(method, place, **request) as answer:
        body = b""
        for piece in answer.iter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise ValueError(f"{place} holds more than {MOST_BYTES} bytes")
    # What was decoded once already must not be decoded again.
    return httpx.Response(answer.status_code, content=body)


def document(http: httpx.Client, place: str) -> dict[str, Any]:
    """A JSON object of at most 1 MiB. Raises httpx.HTTPError, ValueError."""
    answer = bounded(http, "GET", place, headers={"Accept": "application/json"})
    if answer.status_code != httpx.codes.OK:
        raise ValueError(f"{place} answers {answer.status_code}")
    found = answer.json()
    if not isinstance(found, dict):
        raise ValueError(f"{place} holds no JSON object")  # noqa: TRY004  # what was read is wrong, not what was passed
    return found


def discovered(http: httpx.Client, issuer: str) -> dict[str, Any]:
    """The discovery document of `issuer`, which must call itself that. Raises httpx.HTTPError, ValueError."""
    found = document(http, issuer.rstrip("/") + _WELL_KNOWN)
    if found.get("issuer") != issuer:
        raise ValueError(f"the provider calls itself {found.get('issuer')!r}")
    return found


def place_of(found: dict[str, Any], name: str) -> str | None:
    """An address in the document. Raises ValueError for one of another scheme than the issuer's."""
    value = found.get(name)
    if value is None:
        return None
    place = urlsplit(value) if isinstance(value, str) else None
    if place is None or place.scheme != urlsplit(found["issuer"]).scheme or not place.hostname:
        raise ValueError(f"its {name} is at an address of another scheme than the issuer's")
    return str(value)


def endpoints_of(found: dict[str, Any]) -> Endpoints:
    """Raises ValueError where the provider does not say where people log in."""
    authorization, token = place_of(found, "authorization_endpoint"), place_of(found, "token_endpoint")
    if authorization is None or token is None:
        raise ValueError("the provider names no authorization_endpoint and token_endpoint")
    methods = found.get("token_endpoint_auth_methods_supported")
    return Endpoints(
        issuer=found["issuer"], authorization=authorization, token=token,
        device_authorization=place_of(found, "device_authorization_endpoint"), revocation=place_of(found, "revocation_endpoint"),
        end_session=place_of(found, "end_session_endpoint"),
        names_itself=found.get("authorization_response_iss_parameter_supported") is True,
        # The default of OpenID Connect Discovery 1.0, section 3.
        auth_methods=tuple(map(str, methods)) if isinstance(methods, list) else ("client_secret_basic",),
    )  # fmt: skip
