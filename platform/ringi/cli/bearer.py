"""The token of each request, renewed when it is over: before a request by its time, and after one that was answered `invalid_token`."""

import time
from collections.abc import Callable, Generator
from typing import NamedTuple

import httpx

# A token is renewed so long before its end: a request is on its way for a while.
EARLY_S = 30.0
_OVER = 'error="invalid_token"'


class Held(NamedTuple):
    """A token and when it is over, in seconds since 1970; None where nobody knows."""

    token: str
    over_at: float | None = None


def over_at(lasts_s: float | None) -> float | None:
    """When a token that was made just now is over."""
    return None if lasts_s is None else time.time() + lasts_s


# Given the token that is worth nothing any more, a newer one. Raises what the command is to end with.
Renew = Callable[[str], Held]


class Bearer(httpx.Auth):
    """Sends the token; `renew` is None for a token that nothing renews."""

    def __init__(self, held: Held, renew: Renew | None = None) -> None:
        self._held, self._renew = held, renew

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """What httpx calls for every request."""
        if self._renew is not None and self._held.over_at is not None and time.time() > self._held.over_at - EARLY_S:
            self._held = self._renew(self._held.token)
        request.headers["Authorization"] = f"Bearer {self._held.token}"
        answer = yield request
        # A body that was read from a file as it was sent is gone.
        replayable = isinstance(request.stream, httpx.ByteStream)
        if answer.status_code != httpx.codes.UNAUTHORIZED or _OVER not in answer.headers.get("www-authenticate", ""):
            return
        if self._renew is not None and replayable:
            self._held = self._renew(self._held.token)
            request.headers["Authorization"] = f"Bearer {self._held.token}"
            yield request
