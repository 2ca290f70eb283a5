"""What an ID token says, once it is believed (OpenID Connect Core 1.0, 3.1.3.7): it is for our client, and answers the login that we began."""

import hmac

from ringi.identity import access_tokens
from ringi.identity.access_tokens import AccessTokenRefused, Claims
from ringi.identity.provider import Provider

# An access token (`at+jwt`) is none, also where it is signed by the same keys.
_TYPES = frozenset({None, "jwt"})


def believed(provider: Provider, text: str, *, client_id: str, nonce: str) -> Claims:
    """The claims of an ID token. Raises AccessTokenRefused, IdentityProviderAway."""
    said = access_tokens.verified(provider, text, types=_TYPES)
    claims = Claims(provider, said, wanted=client_id)
    several = isinstance(said["aud"], list) and len(said["aud"]) > 1
    if ("azp" in said or several) and said.get("azp") != client_id:
        raise AccessTokenRefused("it was given to another client", reason="authorized_party")
    given = said.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise AccessTokenRefused("it answers another login", reason="nonce")
    if "iat" not in said:
        raise AccessTokenRefused("it does not say when it was made", reason="malformed")
    return claims
