"""RingiError -> `application/problem+json` (RFC 9457), with a request id on every response.

Fields: `type` (urn:ringi:error:<code>), `title`, `status`, `detail`, and ours: `code`, `next_step`, `request_id`, plus what the refusal carries.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from ringi.kit.errors import RingiError
from ringi.observe.requests import Observed

log = logging.getLogger("ringi.api")
PROBLEM = "application/problem+json"
# No answer, a broken connection, or none free in the pool for its whole timeout.
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)


def cause(error: SQLAlchemyError) -> object:
    """The driver's own error, without the statement and its values."""
    return getattr(error, "orig", None) or error


def problem(
    request: Request, *, status: int, code: str, detail: str, next_step: str = "", details: Mapping[str, Any] | None = None
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
    if body["request_id"]:
        # The answer to an unforeseen error is made outside of Observed, which sets it on all others.
        headers["X-Request-Id"] = str(body["request_id"])
    return JSONResponse(body | ({"details": dict(details)} if details else {}), status_code=status, media_type=PROBLEM, headers=headers)


def responses(*errors: type[RingiError]) -> dict[int | str, dict[str, Any]]:
    """What a route may refuse, for its OpenAPI document."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        known = by_status.setdefault(error.status, {"description": "", "content": {PROBLEM: {}}})
        known["description"] = ", ".join(filter(None, [known["description"], f"`{error.code}`"]))
    return by_status


def install(app: FastAPI) -> None:
    """Put the handlers and the request id on the application."""
    app.add_middleware(Observed)

    @app.exception_handler(RingiError)
    def refused(request: Request, error: RingiError) -> JSONResponse:
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("%s %s: %s", request.method, request.url.path, error)
        return problem(
            request, status=error.status, code=error.code, detail=error.message, next_step=error.next_step, details=error.details
        )

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
            next_step="Read the state again before repeating a change.",
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

    @app.exception_handler(HTTPException)
    def plain(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "no_such_route", 405: "method_not_allowed", 413: "request_too_large"}.get(error.status_code, "http_error")
        return problem(
            request, status=error.status_code, code=code, detail=str(error.detail), next_step="The routes are listed under /docs."
        )
