"""Which request, caller and job the running code works for: every log line carries it, whoever writes it.

One dictionary per request or attempt. Threads that FastAPI starts for a request see the same one, so that what a dependency learns
(the caller) is known to everything after it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_fields: ContextVar[dict[str, str] | None] = ContextVar("ringi_fields", default=None)


def current() -> Mapping[str, str]:
    """What is known now: `request_id`, `actor`, `organization`, `job_id`, `job_kind`, `attempt`, as far as they apply."""
    return _fields.get() or {}


def note(**fields: object) -> None:
    """Add to what is known, for the rest of the request or attempt; without one, nothing happens."""
    known = _fields.get()
    if known is not None:
        known.update(_texts(fields))


@contextmanager
def scope(**fields: object) -> Iterator[None]:
    """Begin a request or an attempt; what was known around it is known again afterwards. None is left out."""
    token = _fields.set(dict(current()) | _texts(fields))
    try:
        yield
    finally:
        _fields.reset(token)


def _texts(fields: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in fields.items() if value is not None}
