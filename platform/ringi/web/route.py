"""The class of every route under /api/v1: keys of repeated writes (idempotency.py), tags of what is read (preconditions.py).

FastAPI calls dependencies, endpoint and serialisation inside the handler and commits right after it (web/session.py). So the handler here
sees the finished answer while the transaction is still open, and what it writes is committed with the change or not at all.
"""

import functools
import inspect
import json
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, StreamingResponse

from ringi.db.session import transaction_beside
from ringi.kit.errors import RingiError
from ringi.web import heads, idempotency, preconditions
from ringi.web.errors import AWAY, documented, refusal_answer, responses
from ringi.web.rate import RateLimited
from ringi.web.session import get_session

Endpoint = Callable[..., Any]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# A refusal by the domain is the answer to its request. These are not: the caller, the load or the moment was refused, not the request.
_PASSING = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})
_WRITE_ANSWERS = (responses(idempotency.InvalidKey, idempotency.KeyInFlight, idempotency.SealedForAnotherToken, RateLimited), AWAY)
_READ_ANSWERS = (
    responses(preconditions.InvalidPrecondition, preconditions.PreconditionFailed, RateLimited),
    AWAY,
    {304: {"description": "Not changed."}},
)
_KEY_PARAMETER = {
    "name": idempotency.HEADER, "in": "header", "required": False, "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key gives the same answer for 24 hours and is executed once.",
}  # fmt: skip
_KNOWN_PARAMETER = {
    "name": preconditions.IF_NONE_MATCH, "in": "header", "required": False, "schema": {"type": "string"},
    "description": "An ETag that the client has; 304 if it is still the same.",
}  # fmt: skip
_request: ContextVar[Request] = ContextVar("ringi_request")


class ApiRoute(APIRoute):
    """A route whose writes may be repeated safely and whose reads carry an `ETag`."""

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        writes = bool(WRITES.intersection(options.get("methods") or ()))
        options["responses"] = documented(options.get("responses") or {}, *(_WRITE_ANSWERS if writes else _READ_ANSWERS))
        extra = options.get("openapi_extra") or {}
        parameters = [*extra.get("parameters", []), _KEY_PARAMETER if writes else _KNOWN_PARAMETER]
        options["openapi_extra"] = {**extra, "parameters": parameters}
        super().__init__(path, _attended(endpoint), **options)
        if writes and self._stands_alone():
            parameters[-1] = _KEY_PARAMETER | {"description": "Taken and not needed: the request asked again finds what the first one did."}

    def get_route_handler(self) -> Handler:
        """FastAPI's handler with ours around it; asked for once for the router and once for each place where it is included."""
        handle, checks_match = super().get_route_handler(), preconditions.is_checked_by(self.dependant)
        stands_alone = self._stands_alone()
        known = heads.parameters_of(self.dependant)

        async def attend(request: Request) -> Response:
            _request.set(request)
            request.state.parameters = known
            heads.check_head(request)
            request.state.attempt = None
            if request.method not in WRITES:
                return preconditions.selected(request, await handle(request))
            if not checks_match and preconditions.IF_MATCH in request.headers:
                raise preconditions.PreconditionNotSupported
            # Streamed uploads are named by their digest: the same bytes again change nothing, and reading them here would hold them in memory.
            # What has no transaction of the request has none to keep an answer in; such a route says why a repeat does no harm.
            if stands_alone:
                idempotency.key_of(request)
                return await handle(request)
            # Found out with the first request: for every route at the start it would be a tenth of the start.
            request.state.attempt = await idempotency.attempt_of(request, secret=_holds_secret(self.response_model))
            return await _kept(request, handle)

        return attend

    def _stands_alone(self) -> bool:
        """Whether its answers are not kept: it has no transaction of the request to keep them in."""
        return inspect.iscoroutinefunction(self.endpoint) or not _takes_session(self.dependant)


def _check_parameters(request: Request) -> None:
    # After the caller is known: a token among the parameters is refused for what it is.
    heads.check_parameters(request, request.state.parameters)


def _takes_session(dependant: Dependant) -> bool:
    return any(one.call is get_session or _takes_session(one) for one in dependant.dependencies)


def _attended(endpoint: Endpoint) -> Endpoint:
    """The endpoint, called after every check of caller and body has passed; a known key answers in its place."""
    if inspect.iscoroutinefunction(endpoint):

        @functools.wraps(endpoint)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            _check_parameters(_request.get())
            return await endpoint(*args, **kwargs)

        return awaited

    @functools.wraps(endpoint)
    def call(*args: Any, **kwargs: Any) -> Any:
        request = _request.get()
        attempt: idempotency.Attempt | None = request.state.attempt
        if attempt is not None:
            kept = idempotency.begin(request.state.session, request.state.actor, attempt)
            if kept is not None:
                request.state.attempt = None
                return kept
            request.state.executing = True
        _check_parameters(request)
        result = endpoint(*args, **kwargs)
        request.state.row_version = getattr(result, "row_version", None)
        return result

    return call


async def _kept(request: Request, handle: Handler) -> Response:
    try:
        answer = await handle(request)
    except RingiError as refusal:
        if request.state.attempt is not None and getattr(request.state, "executing", False) and _answers(refusal):
            await run_in_threadpool(_keep_refusal, request, refusal)
        raise
    # A file or a stream is not kept: such a POST changes nothing but the log, and is executed again.
    if request.state.attempt is not None and not isinstance(answer, FileResponse | StreamingResponse):
        await run_in_threadpool(idempotency.keep, request.state.session, request.state.actor, request.state.attempt, answer)
    return answer


def _answers(refusal: RingiError) -> bool:
    return refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR and refusal.status not in _PASSING and not refusal.retryable


def _keep_refusal(request: Request, refusal: RingiError) -> None:
    # The request's transaction gives its connection back first: a refusal that waited for a second one could starve the pool.
    request.state.session.rollback()
    answer = refusal_answer(request, refusal)
    # Raises KeyInFlight when another request with this key came in between: its answer stands, and the client gets it when it asks again.
    with transaction_beside(request.state.session) as own:
        idempotency.keep(own, request.state.actor, request.state.attempt, answer)


@functools.cache
def _holds_secret(model: Any) -> bool:
    """Whether an answer has a field of type `web.schemas.Secret`."""
    return model is not None and '"format": "password"' in json.dumps(TypeAdapter(model).json_schema(mode="serialization"))
