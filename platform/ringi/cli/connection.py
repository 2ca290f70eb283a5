"""Requests and answers: the one place where the client speaks HTTP.

Reads (GET) are repeated with back-off when the connection fails or the answer is 502, 503 or 504; writes never are.
"""

import json
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from ringi.cli.errors import AnswerNotUnderstood, ApiError, Unreachable, Usage
from ringi.kit.digests import chunks, sha256_file
from ringi.uploads.schemas import UploadedFile, UploadOut
from ringi.web.schemas import Page

Model = TypeVar("Model", bound=BaseModel)
API = "/api/v1"
PAGE_SIZE = 100
BACK_OFF_S = (0.2, 0.5, 1.0)
RETRIED = frozenset({502, 503, 504})
_FAILED = 400
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
# An export is written whole before its first byte is sent.
_LONG = httpx.Timeout(3600.0, connect=5.0)

# Called with bytes sent so far and bytes in all.
OnBytes = Callable[[int, int], None]


class FileChanged(Usage):
    """A file became shorter or longer while it was being sent."""

    code = "file_changed"

    def __init__(self, path: Path) -> None:
        super().__init__(f"'{path}' changed while it was being sent.", next_step="Wait until nothing writes to it, then send it again.")


def route(*segments: str) -> str:
    """A path from its segments, each quoted; raises Usage for a segment that would lead elsewhere."""
    for segment in segments:
        if segment in {"", ".", ".."}:
            raise Usage(f"'{segment}' is not a name.", next_step="Name the thing that is meant.")
    return "/" + "/".join(quote(segment, safe=":") for segment in segments)


class Connection:
    """One server and one token. Every method raises ApiError for a refusal and Unreachable without an answer."""

    def __init__(self, server: str, token: str | None) -> None:
        self.server = server.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self.server + API, headers=headers, timeout=_TIMEOUT)

    def close(self) -> None:
        """Give the sockets back."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, path: str, model: type[Model], **query: Any) -> Model:
        """Read one thing."""
        return self._read(path, model, self._get(path, query))

    def get_beside(self, path: str, model: type[Model]) -> Model:
        """Read what stands beside /api/v1: 503 is an answer there, and is neither repeated nor refused."""
        try:
            answer = self._http.get(self.server + path)
        except httpx.TransportError as error:
            raise Unreachable(self.server, _reason(error)) from error
        return self._read(path, model, answer if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE else self._checked(answer))

    def get_list(self, path: str, model: type[Model]) -> list[Model]:
        """Read a list that comes whole."""
        found: list[Any] = json.loads(self._get(path, {}).content)
        return [model.model_validate(item) for item in found]

    def get_text(self, path: str) -> str:
        """Read plain text."""
        return self._get(path, {}).text

    def items(self, path: str, model: type[Model], **query: Any) -> Iterator[Model]:
        """Every item of a paged list, newest first; pages are fetched as they are needed."""
        page_model: Any = Page
        cursor: str | None = None
        while True:
            answer = self._get(path, {**query, "limit": PAGE_SIZE, "cursor": cursor})
            page = self._read(path, page_model[model], answer)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def post(self, path: str, model: type[Model], body: BaseModel | None = None) -> Model:
        """Write: `body` is sent as JSON, without what was left at its default."""
        content = None if body is None else body.model_dump_json(exclude_unset=True).encode()
        headers = {} if content is None else {"Content-Type": "application/json"}
        return self._read(path, model, self._answer("POST", path, content=content, headers=headers))

    def delete(self, path: str, model: type[Model]) -> Model:
        """End something."""
        return self._read(path, model, self._answer("DELETE", path))

    def upload(self, file: Path, *, on_bytes: OnBytes | None = None) -> UploadOut:
        """Send a file's content in pieces, under its digest: what arrives is what was read here, or it is refused."""
        digest, total = sha256_file(file), file.stat().st_size

        def pieces(stream: BinaryIO) -> Iterator[bytes]:
            sent = 0
            for piece in chunks(stream):
                sent += len(piece)
                if sent > total:
                    raise FileChanged(file)
                yield piece
                if on_bytes is not None:
                    on_bytes(sent, total)
            if sent < total:
                raise FileChanged(file)

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(total), "X-Content-Digest": digest}
        with file.open("rb") as stream:
            answer = self._answer("POST", "/uploads", content=pieces(stream), headers=headers)
        return self._read("/uploads", UploadOut, answer)

    def upload_folder(self, folder: Path, files: list[Path], *, on_bytes: OnBytes | None = None) -> list[UploadedFile]:
        """Send `files`, paths relative to `folder`; `on_bytes` counts over all of them."""
        sizes = [(folder / file).stat().st_size for file in files]
        total, before = sum(sizes), 0
        sent: list[UploadedFile] = []
        for file, size in zip(files, sizes, strict=True):
            stored = self.upload(folder / file, on_bytes=_shifted(on_bytes, before, total) if on_bytes else None)
            sent.append(UploadedFile(path=file.as_posix(), digest=stored.digest))
            before += size
        return sent

    def download(self, path: str, out: BinaryIO, *, method: str = "POST") -> int:
        """Write an answer's body to `out` piece by piece; returns its size in bytes."""
        size = 0
        try:
            with self._http.stream(method, path, timeout=_LONG) as answer:
                if answer.status_code >= _FAILED:
                    answer.read()
                    raise self._refusal(answer)
                for piece in answer.iter_bytes():
                    size += out.write(piece)
        except httpx.TransportError as error:
            raise Unreachable(self.server, _reason(error)) from error
        return size

    def _get(self, path: str, query: dict[str, Any]) -> httpx.Response:
        given = {name: str(value) for name, value in query.items() if value is not None}
        for pause in BACK_OFF_S:
            try:
                answer = self._http.get(path, params=given)
            except httpx.TransportError:
                time.sleep(pause)
                continue
            if answer.status_code not in RETRIED:
                return self._checked(answer)
            time.sleep(pause)
        return self._answer("GET", path, params=given)

    def _answer(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._checked(self._http.request(method, path, **request))
        except httpx.TransportError as error:
            raise Unreachable(self.server, _reason(error)) from error

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code >= _FAILED:
            raise self._refusal(answer)
        if answer.is_redirect:
            raise AnswerNotUnderstood(self.server, answer.url.path, f"it redirects to {answer.headers.get('location')}")
        return answer

    def _refusal(self, answer: httpx.Response) -> ApiError:
        request_id = answer.headers.get("x-request-id")
        try:
            problem = json.loads(answer.content)
            return ApiError(
                str(problem["detail"]), code=str(problem["code"]), status=answer.status_code, next_step=str(problem.get("next_step") or ""),
                details=problem.get("details") or {}, request_id=request_id,
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            status = answer.status_code
            return ApiError(
                f"{self.server} answered {status} to {answer.request.method} {answer.url.path}.", code=f"http_{status}", status=status,
                next_step="Check that this is a Ringi server, and read its log.", request_id=request_id,
            )  # fmt: skip

    def _read(self, path: str, model: type[Model], answer: httpx.Response) -> Model:
        try:
            return model.model_validate_json(answer.content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise AnswerNotUnderstood(self.server, path, f"{where}: {first['msg']}") from error


def _shifted(on_bytes: OnBytes, offset: int, total: int) -> OnBytes:
    return lambda sent, _size: on_bytes(offset + sent, total)


def _reason(error: httpx.TransportError) -> str:
    return str(error).rstrip(".") or type(error).__name__
