"""Around every request of the API: its id, its place in a trace, its figures and its line in the log. Plain ASGI, so bodies stream through.

`X-Request-Id` of the caller is taken when it has 1 to 64 characters of `A-Za-z0-9._:-` and begins with a letter or digit; otherwise, and when
it looks like a token, a new one is drawn. It correlates and proves nothing: two requests may carry the same one.
"""

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from uuid import uuid4

from opentelemetry.trace import SpanKind
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringi.db import callers
from ringi.db.session import get_engine
from ringi.observe import context, metrics, tracing
from ringi.observe.redaction import redact
from ringi.settings import get_settings

log = logging.getLogger("ringi.requests")
UNMATCHED = "unmatched"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
# Asked every few seconds by machines.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_LONGEST_PATH = 300


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The caller's id where it is acceptable, else a new one."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _ACCEPTED_ID.fullmatch(given) and redact(given) == given else str(uuid4())


def route_of(scope: Scope) -> str:
    """The template of the matched route with its prefix, such as `/api/v1/jobs/{job_id}`; never the path that was asked for."""
    # FastAPI keeps the route as it was declared in `route`, and as it is mounted here.
    mounted = scope.get("fastapi", {}).get("effective_route_context")
    found = getattr(mounted, "path_format", None) or getattr(scope.get("route"), "path", None)
    return str(found) if found else UNMATCHED


class Answer:
    """What is seen of an answer as it goes out; `headers` go onto every answer, also onto refusals."""

    def __init__(self, send: Send, request_id: str, headers: Mapping[str, str]) -> None:
        self._send, self._request_id, self._headers = send, request_id, headers
        self.status: int | None = None
        self.streams_events = False

    async def send(self, message: Message) -> None:
        """Pass on; the head gets the request's id."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            for name, value in self._headers.items():
                # Structured lists (RFC 9651): the limit that refused stands beside the one that every request counts against.
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            self.status = message["status"]
            if headers.get("content-type", "").startswith("text/event-stream"):
                self.streams_events = True
                metrics.EVENT_STREAMS.inc()
        await self._send(message)


class Observed:
    """The outermost of our middlewares."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        metrics.watch_pool(get_engine(), limit=2 * get_settings().database_pool_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request within its scope and span."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = request_id_of(headers)
        state = scope.setdefault("state", {})
        state["request_id"], state["answer_headers"] = request_id, {}
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        parent = headers.get(b"traceparent", b"").decode("latin-1") or None
        answer, begun = Answer(send, request_id, state["answer_headers"]), time.monotonic()
        metrics.IN_FLIGHT.inc()
        with (
            context.scope(request_id=request_id),
            callers.request(),
            tracing.span(method, SpanKind.SERVER, parent=parent, http__request__method=method) as span,
        ):
            failed: BaseException | None = None
            try:
                await self.app(scope, receive, answer.send)
            except BaseException as error:
                failed = error
                if not isinstance(error, asyncio.CancelledError):
                    # The server tells it again, without the ids, when it gets there.
                    log.exception("nobody foresaw this")
                raise
            finally:
                route, status = route_of(scope), _status_of(answer, failed)
                span.update_name(f"{method} {route}")
                _describe(route, status, request_id)
                _count(method, route, status, answer, time.monotonic() - begun)
                _tell(scope, method, route, status, time.monotonic() - begun)


def _status_of(answer: Answer, failed: BaseException | None) -> str:
    if answer.status is not None:
        return str(answer.status)
    # An error that nobody foresaw is answered outside of us, with 500.
    return "gone" if failed is None or isinstance(failed, asyncio.CancelledError) else "500"


def _describe(route: str, status: str, request_id: str) -> None:
    known = context.current()
    tracing.describe(
        http__route=route, http__response__status_code=int(status) if status.isdigit() else None, ringi__request_id=request_id,
        ringi__actor=known.get("actor"), ringi__organization=known.get("organization"),
    )  # fmt: skip


def _count(method: str, route: str, status: str, answer: Answer, seconds: float) -> None:
    metrics.IN_FLIGHT.dec()
    metrics.REQUESTS.labels(method, route, status).inc()
    if answer.streams_events:
        metrics.EVENT_STREAMS.dec()
    else:
        metrics.REQUEST_SECONDS.labels(method, route).observe(seconds)
    metrics.pool_used(get_engine())


def _tell(scope: Scope, method: str, route: str, status: str, seconds: float) -> None:
    level = logging.DEBUG if route in _QUIET else logging.INFO
    if log.isEnabledFor(level):
        # The path without its query: that may hold anything.
        told = {"route": route, "path": scope["path"][:_LONGEST_PATH], "status": status, "duration_ms": round(1000 * seconds, 1)}
        log.log(level, "%s %s %s", method, route, status, extra=told)
