"""Whether a server may have the token that a provider is about to give.

A server says itself who its provider is. One that repeats what another server says would get a token that this other server accepts, and the
provider's pages would look as they always do. So the person is asked before anything begins, and the token is looked at before it is shown.
"""

import base64
import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ringi.cli.contexts import Profiles
from ringi.cli.logins.refusals import IssuerOfAnotherServer, ServerNotConfirmed, TokenForAnotherServer
from ringi.identity.schemas import LoginOptions
from ringi.oidc.client import Tokens

_PARTS = 3
_USUAL = {"http": 80, "https": 443}


class Asking(NamedTuple):
    """How a person is asked: `say` shows a line, `confirm` is None where nobody sits there."""

    say: Callable[[str], None]
    confirm: Callable[[str], bool] | None


def check_server(server: str, options: LoginOptions, saved: Profiles, asking: Asking, *, trusted: bool) -> bool:
    """Whether the token must be looked at afterwards (`check_token`), because nobody but its audience speaks for the server.

    Raises IssuerOfAnotherServer, ServerNotConfirmed.
    """
    issuer = options.issuer or ""
    of_issuer = [one.server for one in saved.profiles.values() if one.login is not None and one.login.issuer == issuer]
    if trusted or server in of_issuer:
        return False
    if of_issuer:
        raise IssuerOfAnotherServer(server, issuer, of_issuer[0])
    if options.audience is not None and _origin(options.audience) == _origin(server):
        return True
    asking.say(f"Logging in to {server} through {issuer}: the server gets a token that acts as you.")
    if asking.confirm is None or not asking.confirm("Is this the server that you mean?"):
        raise ServerNotConfirmed(server, issuer)
    return False


def check_token(server: str, access_token: str) -> None:
    """The provider's own word: every audience of the token has the server's origin. Raises TokenForAnotherServer."""
    audience = claims_of(access_token).get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not named or any(not isinstance(one, str) or _origin(one) is None or _origin(one) != _origin(server) for one in named):
        raise TokenForAnotherServer(server, _shown(named))


def claims_of(token: str | None) -> dict[str, Any]:
    """What a token says that came straight from the provider; nothing where it is no signed token. Its signature is not looked at:
    the connection to the token endpoint vouches for it (OpenID Connect Core 1.0, 3.1.3.7, 6).
    """
    parts = (token or "").split(".")
    if len(parts) != _PARTS:
        return {}
    try:
        said = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def subject_of(tokens: Tokens) -> str | None:
    """Who logged in; None where no token says it."""
    for token in (tokens.id_token, tokens.access_token):
        subject = claims_of(token).get("sub")
        if isinstance(subject, str):
            return subject
    return None


def _origin(address: str) -> tuple[str, str, int | None] | None:
    try:
        place = urlsplit(address)
        port = place.port
    except ValueError:
        return None
    if place.scheme not in _USUAL or not place.hostname:
        return None
    return place.scheme, place.hostname, port or _USUAL[place.scheme]


def _shown(named: Iterable[object]) -> str:
    return "".join(one if one.isprintable() else " " for one in ", ".join(map(str, named)))[:200]
