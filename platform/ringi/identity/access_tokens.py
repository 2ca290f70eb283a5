"""What a signed access token says, once it is believed (RFC 7519, RFC 9068; the attacks of RFC 8725).

A closed list of algorithms, a key of the configured provider by its name, the type of an access token, and then the claims: issuer,
audience, times, subject. Times are judged by the database's clock, like every other expiry of the platform.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError

from ringi.identity.provider import Provider
from ringi.kit.actor import Login
from ringi.kit.errors import Unauthenticated

ALGORITHMS = ("RS256", "ES256", "EdDSA", "Ed25519")
# RFC 9068 and what providers write in its place. A logout token or a DPoP proof has a type of its own.
_TYPES = frozenset({None, "jwt", "at+jwt", "application/at+jwt"})
_SURE_TYPES = frozenset({"at+jwt", "application/at+jwt"})
# Of ID tokens alone (OpenID Connect Core 1.0, 2 and 3.1.3.6; Keycloak's own claim `typ`), and of access tokens alone (RFC 9068, 2.2; Entra's `scp`).
# `azp` and `roles` are in both.
_OF_ID_TOKENS, _KEYCLOAKS_ID = frozenset({"nonce", "at_hash", "c_hash"}), "ID"
_OF_ACCESS_TOKENS = frozenset({"scope", "scp", "client_id"})
SKEW = timedelta(seconds=60)
MOST_CHARACTERS = 16_384
_PARTS, _MOST_METHODS, _LONGEST_WORD = 3, 16, 128


class AccessTokenRefused(Unauthenticated):
    """A signed access token that is not believed; `details.reason` says why, in one word."""

    code = "access_token_refused"
    answer_headers: Mapping[str, str] = {"WWW-Authenticate": 'Bearer error="invalid_token"'}

    def __init__(self, what: str, *, reason: str) -> None:
        super().__init__(f"The access token is refused: {what}.", reason=reason)
        self.next_step = "Log in again at your identity provider, for this platform's audience, and send the new access token."


class Claims:
    """The verified claims of a token for `wanted`, an audience. `login(now)` judges their times."""

    def __init__(self, provider: Provider, claims: dict[str, Any], *, wanted: str) -> None:
        self._claims = claims
        if claims.get("iss") != provider.issuer:
            raise AccessTokenRefused("another issuer made it", reason="issuer")
        audience = claims.get("aud")
        if wanted not in (audience if isinstance(audience, list) else [audience]):
            raise AccessTokenRefused("it is for another audience", reason="audience")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 1 <= len(subject) <= 255:  # noqa: PLR2004  # OpenID Connect Core 1.0, 2: at most 255
            raise AccessTokenRefused("it names no subject", reason="subject")
        self.issuer, self.subject = provider.issuer, subject
        expires = self._time("exp")
        if expires is None:
            raise AccessTokenRefused("it has no end", reason="expiry")
        self.expires_at = expires

    def login(self, now: datetime) -> Login:
        """The login behind the token at `now`. Raises AccessTokenRefused when it is over, or has not begun."""
        if self.expires_at + SKEW <= now:
            raise AccessTokenRefused(f"it expired at {self.expires_at:%Y-%m-%d %H:%M:%S} UTC", reason="expired")
        for name in ("nbf", "iat"):
            begins = self._time(name)
            if begins is not None and begins > now + SKEW:
                raise AccessTokenRefused(f"it begins at {begins:%Y-%m-%d %H:%M:%S} UTC", reason="not_yet")
        at, methods = self._time("auth_time"), self._claims.get("amr")
        if at is not None and at > now + SKEW:
            # It would be a fresh login until then.
            raise AccessTokenRefused(f"its login is at {at:%Y-%m-%d %H:%M:%S} UTC", reason="not_yet")
        age_s = None if at is None else (now - at).total_seconds()
        amr = tuple(word for one in methods[:_MOST_METHODS] if (word := _word(one))) if isinstance(methods, list) else ()
        return Login(issuer=self.issuer, acr=_word(self._claims.get("acr")), amr=amr, at=at, age_s=age_s)

    def _time(self, name: str) -> datetime | None:
        value = self._claims.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise AccessTokenRefused(f"its {name} is no number", reason="malformed")
        try:
            return datetime.fromtimestamp(value, UTC)
        except (OverflowError, ValueError, OSError):
            raise AccessTokenRefused(f"its {name} is no time", reason="malformed") from None


def _word(value: object) -> str | None:
    """What fits an audit entry; anything else is as if the provider had not said it."""
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST_WORD and value.isprintable() else None


def looks_signed(secret: str) -> bool:
    """Whether it has the form of a compact JWS: three parts, with dots between them. Our own tokens have none."""
    return secret.count(".") == _PARTS - 1


def believed(provider: Provider, text: str) -> Claims:
    """The claims of an access token whose signature holds. Raises AccessTokenRefused, IdentityProviderAway."""
    said = verified(provider, text, types=_TYPES)
    if _may_be_id_token(provider, text, said):
        raise AccessTokenRefused("it is an ID token, or nothing says that it is none", reason="id_token")
    return Claims(provider, said, wanted=provider.audience)


def _may_be_id_token(provider: Provider, text: str, said: dict[str, Any]) -> bool:
    """Whether it says who logged in, to one of our clients, and not what may be done here (RFC 9068, 4; RFC 8725, 3.11)."""
    if str(jws.extract_compact(text.encode()).headers().get("typ")).lower() in _SURE_TYPES:
        return False
    if said.get("typ") == _KEYCLOAKS_ID:
        return True
    if provider.audience not in provider.client_ids:
        return False
    return not _OF_ID_TOKENS.isdisjoint(said) or _OF_ACCESS_TOKENS.isdisjoint(name for name, value in said.items() if value)


def verified(provider: Provider, text: str, *, types: frozenset[str | None]) -> dict[str, Any]:
    """What a signed token of one of these types says. Raises AccessTokenRefused, IdentityProviderAway."""
    if len(text) > MOST_CHARACTERS or not text.isascii():
        raise AccessTokenRefused("it is no access token", reason="malformed")
    try:
        header = jws.extract_compact(text.encode()).headers()
    except (JoseError, ValueError) as error:
        raise AccessTokenRefused("it cannot be read", reason="malformed") from error
    if header.get("alg") not in ALGORITHMS:
        raise AccessTokenRefused(f"its algorithm is none of {', '.join(ALGORITHMS)}", reason="algorithm")
    kind = header.get("typ")
    if (kind.lower() if isinstance(kind, str) else kind) not in types:
        raise AccessTokenRefused("it is a signed token of another type", reason="type")
    kid = header.get("kid")
    key = provider.key(kid) if isinstance(kid, str) else None
    if key is None:
        raise AccessTokenRefused("the identity provider publishes no key of that name", reason="unknown_key")
    try:
        # The key's own type, and its `alg` and `use` where it has them, must fit the header's algorithm: the library compares them.
        claims = jwt.decode(text, key, algorithms=list(ALGORITHMS)).claims
    except (JoseError, ValueError, json.JSONDecodeError) as error:
        raise AccessTokenRefused("its signature does not hold", reason="signature") from error
    return dict(claims)
