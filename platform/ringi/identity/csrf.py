"""A change by cookie alone could be any site's wish: it also shows the session's own token, and where it comes from (OWASP CSRF cheat sheet)."""

import hmac
from urllib.parse import urlsplit

from fastapi import Request

from ringi.identity import sessions
from ringi.kit.errors import RingiError
from ringi.settings import get_settings

HEADER = "X-CSRF-Token"
_NEXT = f"Send the token that GET /auth/session gives in the header {HEADER}, from a page of this platform."


class CsrfTokenMissing(RingiError):
    """A change by the cookie of a session, without the session's own token."""

    code, status = "csrf_token_missing", 403

    def __init__(self) -> None:
        super().__init__(f"A change from a browser needs the header {HEADER}; nothing was done.", next_step=_NEXT)


class CsrfTokenWrong(RingiError):
    """The token is not this session's."""

    code, status = "csrf_token_wrong", 403

    def __init__(self) -> None:
        super().__init__(f"The header {HEADER} does not belong to this session; nothing was done.", next_step=_NEXT)


class CrossSiteRequest(RingiError):
    """The browser says that a page of another origin sent this."""

    code, status = "cross_site_request", 403

    def __init__(self) -> None:
        super().__init__("A page of another origin sent this change; nothing was done.", next_step=_NEXT)


def check(request: Request, secret: str) -> None:
    """Raises CrossSiteRequest, CsrfTokenMissing, CsrfTokenWrong."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if (site is not None and site != "same-origin") or (origin is not None and origin != _own_origin()):
        raise CrossSiteRequest
    given = request.headers.get(HEADER)
    if not given:
        raise CsrfTokenMissing
    if not hmac.compare_digest(given.encode(), sessions.csrf_token(secret).encode()):
        raise CsrfTokenWrong


def _own_origin() -> str:
    place = urlsplit(get_settings().public_url)
    # A browser leaves the scheme's own port out (RFC 6454, 6.1).
    usual = {"http": ":80", "https": ":443"}.get(place.scheme, "")
    return f"{place.scheme}://{place.netloc.removesuffix(usual)}".lower()
