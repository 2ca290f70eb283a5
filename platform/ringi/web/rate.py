"""Requests a minute per token and per project: the generic cell rate algorithm (ITU-T I.371, as a virtual scheduling "theoretical arrival time").

The state of each is one time: when all that it has used will have been earned back. It is kept in Valkey by that server's clock; while
Valkey is away, in this process by its monotonic clock, so that the API goes on answering (each API process then counts for itself).
A stored time that no right clock could have written is taken as unused: a clock that jumps back locks nobody out.
"""

import logging
import math
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from ringi.kit.errors import RingiError
from ringi.settings import get_settings

WINDOW_S = 60.0
# A Valkey that is away costs a request at most this, and is then left alone for a while.
_ANSWERS_S, _LEFT_ALONE_S = 0.2, 5.0
_MOST_TOKENS = 10_000
_SCHEMES = frozenset({"redis", "rediss", "valkey", "valkeys", "unix"})
log = logging.getLogger("ringi.rate")

# The same steps as `take`, where the state is. KEYS[1] the token; ARGV: cost and window in microseconds. Answers: allowed, time to full.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local cost, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1]) or now)
if full < now or full > now + window then full = now end
local after = full + cost
if after - now > window then return {0, full - now} end
redis.call('SET', KEYS[1], string.format('%d', after), 'PX', math.ceil(window / 1000))
return {1, after - now}
"""


# What requests are counted for, and who may allow it more.
Counted = Literal["token", "project"]
_WHO_GIVES_MORE: dict[Counted, str] = {
    "token": "an identity_admin for more: ringi tokens limit",
    "project": "a system_admin for more: ringi quotas set",
}


class RateLimited(RingiError):
    """The token, or the project, has used its requests of this minute."""

    code, status, retryable = "rate_limited", 429, True

    def __init__(self, limit: int, retry_after_s: int, *, of: Counted) -> None:
        super().__init__(
            f"This {of} may send {limit} requests a minute and has sent them.",
            next_step=f"Wait as long as Retry-After says, or ask {_WHO_GIVES_MORE[of]}.",
            details={"limit": limit, "window_s": int(WINDOW_S), "of": of},
        )
        self.retry_after_s = retry_after_s


class Rate(NamedTuple):
    """How a token stands after this request. `used_s`: seconds until all is earned back; `shared`: counted for all API processes together."""

    limit: int
    allowed: bool
    used_s: float
    shared: bool

    @property
    def remaining(self) -> int:
        """Requests that may follow at once."""
        return max(0, math.floor((WINDOW_S - self.used_s) * self.limit / WINDOW_S + 1e-6))

    @property
    def reset_s(self) -> int:
        """Seconds until the whole minute's requests may be sent at once again."""
        return math.ceil(self.used_s)

    @property
    def retry_after_s(self) -> int:
        """Seconds until one more is allowed; at least 1, the header's smallest step."""
        return max(1, math.ceil(self.used_s + WINDOW_S / self.limit - WINDOW_S))

    def headers(self, of: Counted) -> dict[str, str]:
        """draft-ietf-httpapi-ratelimit-headers-10: the policy and what is left of it."""
        return {
            "RateLimit-Policy": f'"{of}";q={self.limit};w={int(WINDOW_S)}',
            "RateLimit": f'"{of}";r={self.remaining};t={self.reset_s}',
        }


def take(full_at: float | None, now: float, *, cost: float, window: float = WINDOW_S) -> tuple[bool, float]:
    """One request at `now` (seconds): whether it is allowed, and the new time of being full again. Pure."""
    full = now if full_at is None or full_at < now or full_at > now + window else full_at
    after = full + cost
    # A hair of tolerance: sixty times a sixtieth of a minute is a minute.
    return (False, full) if after - now > window + 1e-6 else (True, after)


@dataclass
class LocalCounter:
    """The state in this process."""

    full_at: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, token: str, limit: int) -> Rate:
        """Count one request."""
        with self.lock:
            now = time.monotonic()
            if len(self.full_at) > _MOST_TOKENS:
                self.full_at = {known: full for known, full in self.full_at.items() if full > now}
            allowed, full = take(self.full_at.get(token), now, cost=WINDOW_S / limit)
            self.full_at[token] = full
        return Rate(limit, allowed, max(0.0, full - now), shared=False)


class SharedCounter:
    """The state in Valkey, and in this process while Valkey is away."""

    def __init__(self, url: str) -> None:
        self._local = LocalCounter()
        self._ask_again_at = 0.0
        self._script = None
        if urlsplit(url).scheme in _SCHEMES:
            plain = url.replace("valkey", "redis", 1) if url.startswith("valkey") else url
            client = Redis.from_url(
                plain, socket_timeout=_ANSWERS_S, socket_connect_timeout=_ANSWERS_S, retry=Retry(NoBackoff(), 0), health_check_interval=0
            )
            self._script = client.register_script(_SCRIPT)

    def take(self, token: str, limit: int) -> Rate:
        """Count one request of a token that may send `limit` a minute."""
        if self._script is None or time.monotonic() < self._ask_again_at:
            return self._local.take(token, limit)
        try:
            allowed, used = self._script(keys=[f"ringi:rate:{token}"], args=[int(WINDOW_S * 1e6 / limit), int(WINDOW_S * 1e6)])
        except (RedisError, OSError) as error:
            log.warning("requests are counted in this process alone for %g s: %s", _LEFT_ALONE_S, error)
            self._ask_again_at = time.monotonic() + _LEFT_ALONE_S
            return self._local.take(token, limit)
        return Rate(limit, bool(allowed), int(used) / 1e6, shared=True)


@cache
def get_counter() -> SharedCounter:
    """The process's counter, over the broker's Valkey unless `RINGI_RATE_LIMIT_URL` names another."""
    settings = get_settings()
    return SharedCounter(settings.rate_limit_url or settings.broker_url)
