"""Refusals as hub clients understand them, and the route class that turns every refusal of the platform into one.

The header `X-Error-Code` decides which exception a client raises and whether it falls back to its cache (docs: only RevisionNotFound does not).
"""

import logging
from collections.abc import Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from ringi.hub.access import HubCode, Refusal
from ringi.hub.documents import header_text
from ringi.identity.denials import note_refusal
from ringi.kit.errors import NotFound, RingiError
from ringi.web.errors import DATABASE_AWAY, cause
from ringi.web.heads import check_head

log = logging.getLogger("ringi.hub")
INVALID_CREDENTIALS = "Invalid credentials in Authorization header"

ANONYMOUS = Refusal(
    401, HubCode.REPOSITORY_NOT_FOUND, "This hub serves nothing without a token. Set HF_TOKEN, or run: hf auth login.", "hub_anonymous"
)
# Hub clients know this text; it says the same of an unknown, an expired and a revoked token.
_AWAY = Refusal(503, None, "The database did not answer. Try again in a moment.", "database_unavailable")
BAD_TOKEN = Refusal(401, None, INVALID_CREDENTIALS, "hub_bad_token")


class HubRefused(RingiError):
    """A refusal on its way to the client. `commit` is known when only a file is missing."""

    code, status = "hub_refused", 404

    def __init__(self, refusal: Refusal, *, commit: str | None = None, noted: bool = False) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.commit = commit
        self.noted = noted


def repository_not_found(repository: str, channel: str) -> HubRefused:
    """One answer for a repository or channel that does not exist and for one that the caller may not see."""
    message = f"There is no repository '{repository}' on the channel '{channel}' that this token may read."
    return HubRefused(Refusal(404, HubCode.REPOSITORY_NOT_FOUND, message, "hub_repository"))


def revision_not_found(repository: str, revision: str) -> HubRefused:
    """No such branch, tag or commit."""
    message = f"'{repository}' has no revision '{revision}'."
    return HubRefused(Refusal(404, HubCode.REVISION_NOT_FOUND, message, "hub_revision"))


def entry_not_found(repository: str, path: str, commit: str) -> HubRefused:
    """The revision has no such file or folder."""
    message = f"'{repository}' has no entry '{path}' at {commit}."
    return HubRefused(Refusal(404, HubCode.ENTRY_NOT_FOUND, message, "hub_entry"), commit=commit)


def answer(refusal: Refusal, *, commit: str | None = None) -> JSONResponse:
    """The refusal with its headers; the body carries the message in full and in its own script."""
    headers = {"X-Error-Message": header_text(refusal.message)}
    if refusal.code is not None:
        headers["X-Error-Code"] = refusal.code.value
    if commit is not None:
        headers["X-Repo-Commit"] = commit
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": refusal.message}, status_code=refusal.status, headers=headers)


def _noted(request: Request, error: RingiError) -> Response:
    """The answer, after a denial was written down: a repository that the caller may not know of, or nobody's right."""
    try:
        if isinstance(error, NotFound):
            note_refusal(request, error)
        elif isinstance(error, HubRefused) and error.refusal.code in {None, HubCode.REPOSITORY_NOT_FOUND}:
            note_refusal(request, error, status=error.refusal.status, code=error.refusal.rule)
    except DATABASE_AWAY as away:
        log.error("database: %s", cause(away))  # noqa: TRY400  # the trace says nothing more
        return answer(_AWAY)
    return _refused(error)


def _refused(error: RingiError) -> Response:
    if isinstance(error, HubRefused):
        return answer(error.refusal, commit=error.commit)
    if isinstance(error, NotFound):
        return answer(Refusal(404, HubCode.REPOSITORY_NOT_FOUND, str(error), error.code))
    # Bytes that are missing or rotten are the platform's fault, whatever the error says elsewhere: a 404 would read as "no such file".
    status = max(error.status, 500) if error.code.startswith("blob_") else error.status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s", error)
    refused = answer(Refusal(status, None, str(error), error.code))
    if error.retry_after_s is not None:
        refused.headers["Retry-After"] = str(error.retry_after_s)
    return refused


class HubRoute(APIRoute):
    """Answers refusals the hub's way and writes one log line a request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint with its dependencies, and what becomes of their refusals."""
        handle = super().get_route_handler()

        async def hub_handler(request: Request) -> Response:
            try:
                check_head(request)
                response = await handle(request)
            except RingiError as error:
                response = await run_in_threadpool(_noted, request, error)
            except RequestValidationError:
                response = answer(
                    Refusal(400, None, "The request does not have the shape that the hub protocol gives it.", "hub_malformed")
                )
            except DATABASE_AWAY as error:
                log.error("database: %s", cause(error))  # noqa: TRY400  # the trace says nothing more
                response = answer(_AWAY)
            _log(request, response)
            return response

        return hub_handler


def _log(request: Request, response: Response) -> None:
    # Header values and the path are the client's: %r keeps each on its line.
    given = request.headers.get
    log.info(
        "%s %r -> %d %s agent=%r download=%r trace=%r", request.method, request.scope.get("raw_path", b"").decode("ascii", "replace"),
        response.status_code, response.headers.get("X-Error-Code", "-"), given("user-agent", "-"), given("x-hf-download-counter", "-"),
        given("x-amzn-trace-id", "-"),
    )  # fmt: skip


def held_back(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """`pieces`, each one late.

    When the store finds at the end that the bytes are rotten, the last piece is not sent: the client sees a cut download, not a complete wrong file.
    """
    late: bytes | None = None
    for piece in pieces:
        if late is not None:
            yield late
        late = piece
    if late is not None:
        yield late
