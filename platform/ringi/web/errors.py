"""RingiError -> `application/problem+json` (RFC 9457), with a request id on every response.

Fields: `type` (urn:ringi:error:<code>), `title`, `status`, `detail`, and ours: `code`, `next_step`, `request_id`, plus what the refusal carries.
"""

import logging
import re
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import compile_path

from ringi.kit.errors import RingiError
from ringi.observe.requests import Observed

log = logging.getLogger("ringi.api")
PROBLEM = "application/problem+json"
DATABASE_RETRY_S = 1
# No answer, a broken connection, or none free in the pool for its whole timeout.
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)


def cause(error: SQLAlchemyError) -> object:
    """The driver's own error, without the statement and its values."""
    return getattr(error, "orig", None) or error


def problem(
    request: Request,
    *,
    status: int,
    code: str,
    detail: str,
    next_step: str = "",
    details: Mapping[str, Any] | None = None,
    retry_after_s: int | None = None,
) -> JSONResponse:
    """One problem document."""
    body = {
        "type": f"urn:ringi:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "next_step": next_step,
        "request_id": getattr(request.state, "request_id", None),
    }
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if body["request_id"]:
        # The answer to an unforeseen error is made outside of Observed, which sets it on all others.
        headers["X-Request-Id"] = str(body["request_id"])
    return JSONResponse(body | ({"details": dict(details)} if details else {}), status_code=status, media_type=PROBLEM, headers=headers)


def refusal_answer(request: Request, error: RingiError) -> JSONResponse:
    """The answer to a refusal."""
    answer = problem(
        request, status=error.status, code=error.code, detail=error.message, next_step=error.next_step, details=error.details,
        retry_after_s=error.retry_after_s,
    )  # fmt: skip
    answer.headers.update(error.answer_headers)
    return answer


Documented = dict[int | str, dict[str, Any]]
# Of every route; changes are refused while the audit log does not agree with what was signed (audit/read_only.py).
AWAY: Documented = {503: {"description": "`database_unavailable`, `audit_read_only`", "content": {PROBLEM: {}}}}


def responses(*errors: type[RingiError]) -> Documented:
    """What a route may refuse, for its OpenAPI document."""
    by_status: Documented = {}
    for error in errors:
        known = by_status.setdefault(error.status, {"description": "", "content": {PROBLEM: {}}})
        known["description"] = ", ".join(filter(None, [known["description"], f"`{error.code}`"]))
    return by_status


def documented(known: Documented, *more: Documented) -> Documented:
    """Refusals of a route together with those of every route, status by status."""
    merged = dict(known)
    for status, answer in (item for one in more for item in one.items()):
        mine = merged.get(status)
        described = ", ".join([mine["description"], answer["description"]]) if mine and mine.get("description") else answer["description"]
        merged[status] = {**answer, **(mine or {}), "description": described}
    return merged


def _cut_off(request: Request, _error: Exception) -> JSONResponse:
    # Nobody reads it; it keeps a line that broke from counting as a failure of ours.
    return problem(
        request, status=400, code="request_cut_off", detail="The connection ended before the request was whole; nothing was done.",
        next_step="Send it again.",
    )  # fmt: skip


def install(app: FastAPI, *, before_refusal: Callable[[Request, RingiError], None] = lambda _request, _error: None) -> None:
    """Put the handlers and the request id on the application. `before_refusal` is told of every refusal before its answer is made."""
    app.add_middleware(Observed)

    @app.exception_handler(RingiError)
    def refused(request: Request, error: RingiError) -> JSONResponse:
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("%s %s: %s", request.method, request.url.path, error)
        try:
            before_refusal(request, error)
        except DATABASE_AWAY as away:
            return database_away(request, away)
        return refusal_answer(request, error)

    app.add_exception_handler(ClientDisconnect, _cut_off)

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        # The input itself is left out of the answer: it may hold a secret, and it may not be JSON at all.
        reasons = [{"where": ".".join(str(step) for step in item["loc"]), "what": item["msg"]} for item in error.errors()]
        return problem(
            request, status=422, code="malformed_request", detail="The request does not have the documented shape.",
            next_step="Compare it with the schema under /docs.", details={"reasons": reasons},
        )  # fmt: skip

    @app.exception_handler(IntegrityError)
    def collided(request: Request, error: IntegrityError) -> JSONResponse:
        constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
        return problem(
            request, status=409, code="conflict", detail="Someone else created or changed the same thing at the same time, or its name is taken.",
            next_step="Read its current state, then decide again.", details={"constraint": constraint},
        )  # fmt: skip

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    @app.exception_handler(PoolTimeout)
    def database_away(request: Request, error: SQLAlchemyError) -> JSONResponse:
        log.error("database: %s", cause(error))
        return problem(
            request, status=503, code="database_unavailable", detail="The database did not answer.",
            next_step="Send it again in a moment. A change with an Idempotency-Key is never done twice; without one, read the state first.",
            retry_after_s=DATABASE_RETRY_S,
        )  # fmt: skip

    @app.exception_handler(DataError)
    def unstorable(request: Request, error: DataError) -> JSONResponse:  # noqa: ARG001  # its statement holds the value
        return problem(
            request, status=422, code="malformed_request", detail="A value cannot be stored: it holds a NUL character or is out of range.",
            next_step="Send text without NUL characters and numbers of a sensible size.",
        )  # fmt: skip

    @app.exception_handler(Exception)
    def unforeseen(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001  # told in the log alone
        # Starlette raises the error again after this answer, so the log has its whole story; the client gets none of it.
        return problem(
            request, status=500, code="internal_error", detail="The platform failed in a way that nobody foresaw; nothing was changed.",
            next_step="Try again; if it stays, give the request id to the operator.",
        )  # fmt: skip

    app.add_exception_handler(HTTPException, _plain)


def _plain(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses by itself: no such route, another method, a body that is no JSON."""
    if not isinstance(error, HTTPException):  # the only kind that it is registered for
        raise error
    code = {400: "malformed_request", 404: "no_such_route", 405: "method_not_allowed", 413: "request_too_large"}
    answer = problem(
        request, status=error.status_code, code=code.get(error.status_code, "http_error"), detail=str(error.detail),
        next_step="The routes and their documents are described under /docs.",
    )  # fmt: skip
    answer.headers.update(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = ", ".join(sorted(_methods_of(request)))
    return answer


def _methods_of(request: Request) -> set[str]:
    """Every method of the path (RFC 9110, 15.5.6): the framework names those of the first route that fits alone."""
    contexts = iter_route_contexts(request.app.routes)
    fitting = (one for one in contexts if _pattern(str(one.path)).match(request.url.path))
    return {method for one in fitting for method in one.methods or () if method != "HEAD"}


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return compile_path(path)[0]
