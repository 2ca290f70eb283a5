"""RingiError -> `application/problem+json` (RFC 9457), with a request id on every response.

Fields: `type` (urn:ringi:error:<code>), `title`, `status`, `detail`, and ours: `code`, `next_step`, `request_id`, plus what the refusal carries.
"""

import logging
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError, OperationalError
from starlette.exceptions import HTTPException
from starlette.middleware.base import RequestResponseEndpoint

from ringi.kit.errors import RingiError

log = logging.getLogger("ringi.api")
PROBLEM = "application/problem+json"


def problem(request: Request, *, status: int, code: str, detail: str, next_step: str = "", **extra: Any) -> JSONResponse:
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
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(body | ({"details": extra} if extra else {}), status_code=status, media_type=PROBLEM, headers=headers)


def responses(*errors: type[RingiError]) -> dict[int | str, dict[str, Any]]:
    """What a route may refuse, for its OpenAPI document."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for error in errors:
        known = by_status.setdefault(error.status, {"description": "", "content": {PROBLEM: {}}})
        known["description"] = ", ".join(filter(None, [known["description"], f"`{error.code}`"]))
    return by_status


def install(app: FastAPI) -> None:
    """Put the handlers and the request id on the application."""

    @app.middleware("http")
    async def with_request_id(request: Request, call_next: RequestResponseEndpoint) -> Response:
        request.state.request_id = str(uuid4())
        response = await call_next(request)
        response.headers["X-Request-Id"] = request.state.request_id
        return response

    @app.exception_handler(RingiError)
    def refused(request: Request, error: RingiError) -> JSONResponse:
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("%s %s: %s", request.method, request.url.path, error)
        return problem(request, status=error.status, code=error.code, detail=error.message, next_step=error.next_step, **error.details)

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        # The input itself is left out of the answer: it may hold a secret, and it may not be JSON at all.
        reasons = [{"where": ".".join(str(step) for step in item["loc"]), "what": item["msg"]} for item in error.errors()]
        return problem(
            request, status=422, code="malformed_request", detail="The request does not have the documented shape.",
            next_step="Compare it with the schema under /docs.", reasons=reasons,
        )  # fmt: skip

    @app.exception_handler(IntegrityError)
    def collided(request: Request, error: IntegrityError) -> JSONResponse:
        constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
        return problem(
            request, status=409, code="conflict", detail="Someone else created or changed the same thing at the same time, or its name is taken.",
            next_step="Read its current state, then decide again.", constraint=constraint,
        )  # fmt: skip

    @app.exception_handler(OperationalError)
    def database_away(request: Request, error: OperationalError) -> JSONResponse:
        log.error("database: %s", error.orig)
        return problem(
            request,
            status=503,
            code="database_unavailable",
            detail="The database did not answer; nothing was changed.",
            next_step="Try again in a moment.",
        )

    @app.exception_handler(HTTPException)
    def plain(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "no_such_route", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        return problem(
            request, status=error.status_code, code=code, detail=str(error.detail), next_step="The routes are listed under /docs."
        )
