"""The cookie by which a browser shows its session. Over https its name has the prefix that lets no other host and no plain page set it."""

from typing import Any

from fastapi import Request, Response

from ringi.settings import get_settings

SESSION, LOGIN = "ringi_session", "ringi_login"
# RFC 6265bis, 4.1.3.2: Secure, Path=/ and no Domain, or the browser does not take it.
_HOST = "__Host-"


def _over_https() -> bool:
    return get_settings().public_url.startswith("https://")


def name_of(cookie: str) -> str:
    """The cookie's name in this deployment."""
    return _HOST + cookie if _over_https() else cookie


def _flags() -> dict[str, Any]:
    # Lax: the browser comes back from the provider by a link of another site, and must bring them along.
    return {"path": "/", "secure": _over_https(), "httponly": True, "samesite": "lax"}


def put(response: Response, cookie: str, value: str, *, lasts_s: float) -> None:
    """Give the browser a cookie."""
    response.set_cookie(name_of(cookie), value, max_age=int(lasts_s), **_flags())


def take_back(response: Response, cookie: str) -> None:
    """Let the browser forget it."""
    response.delete_cookie(name_of(cookie), **_flags())


def read(request: Request, cookie: str) -> str | None:
    """What the browser shows."""
    return request.cookies.get(name_of(cookie))


def names(request: Request, beginning: str) -> list[str]:
    """Which cookies the browser shows whose names begin so."""
    host = name_of("")
    return [name.removeprefix(host) for name in request.cookies if name.startswith(host + beginning)]


def session_secret(request: Request) -> str | None:
    """The secret of the browser's session; None for whoever says who they are in `Authorization`, which counts alone then."""
    return None if "authorization" in request.headers else read(request, SESSION)
