"""Requests and answers: the one place where the client speaks HTTP.

A request is repeated with back-off when the connection fails or the answer is 502, 503 or 504: a read as it is, a write with the
`Idempotency-Key` that it had the first time, so that the platform does it once. A streamed upload is not repeated here.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import BaseModel, ValidationError

from ringi.cli import parts
from ringi.cli.bearer import Bearer, Held, Renew
from ringi.cli.errors import AnswerNotUnderstood, ApiError, FileChanged, Unreachable, Usage
from ringi.cli.events import ServerEvent, parsed
from ringi.cli.listed import Listed
from ringi.kit.digests import chunks, sha256_file
from ringi.uploads.schemas import UploadedFile, UploadOut
from ringi.web.schemas import Page

Model = TypeVar("Model", bound=BaseModel)
API = "/api/v1"
BACK_OFF_S = (0.2, 0.5, 1.0)
RETRIED = frozenset({502, 503, 504})
# The first attempt may still be running where its answer was lost.
IN_FLIGHT = "idempotency_key_in_flight"
_FAILED, _CONFLICT, _TOO_MANY = 400, 409, 429
# A longer `Retry-After` is the caller's decision.
LONGEST_WAIT_S = 5.0
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
# An export is written whole before its first byte is sent.
_LONG = httpx.Timeout(3600.0, connect=5.0)
# A stream shows every fifteen seconds that it lives; one that is silent for longer is dead.
_QUIET = httpx.Timeout(60.0, connect=5.0)
EVENT_STREAM = "text/event-stream"

# Called with bytes sent so far and bytes in all.
OnBytes = Callable[[int, int], None]


def route(*segments: str) -> str:
    """A path from its segments, each quoted; raises Usage for a segment that would lead elsewhere."""
    for segment in segments:
        if segment in {"", ".", ".."}:
            raise Usage(f"'{segment}' is not a name.", next_step="Name the thing that is meant.")
    return "/" + "/".join(quote(segment, safe=":") for segment in segments)


class Connection:
    """One server and one token. Every method raises ApiError for a refusal and Unreachable without an answer."""

    def __init__(self, server: str, token: str | Held | None, renew: Renew | None = None) -> None:
        self.server = server.rstrip("/")
        held = (Held(token) if token else None) if isinstance(token, str) else token
        self._http = httpx.Client(base_url=self.server + API, auth=Bearer(held, renew) if held else None, timeout=_TIMEOUT)

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

    def get_text(self, path: str, **query: Any) -> str:
        """Read plain text."""
        return self._get(path, query).text

    def get_bytes(self, path: str, **query: Any) -> bytes:
        """Read a small document of any kind, as it comes."""
        return self._get(path, query).content

    def items(self, path: str, model: type[Model], **query: Any) -> "Listed[Model]":
        """A paged list, newest first unless `sort` says otherwise."""
        return Listed(self, path, model, query)

    def page(self, path: str, model: type[Model], **query: Any) -> Page[Model]:
        """One page of a list."""
        page_model: Any = Page
        found: Page[Model] = self._read(path, page_model[model], self._get(path, query))
        return found

    def post(self, path: str, model: type[Model], body: BaseModel | None = None, *, if_match: str | None = None) -> Model:
        """Write: `body` is sent as JSON, without what was left at its default; with `if_match` only if the thing is still that."""
        return self._read(path, model, self._write("POST", path, body, if_match))

    def put(self, path: str, model: type[Model], body: BaseModel, *, if_match: str | None = None) -> Model:
        """Set something as a whole."""
        return self._read(path, model, self._write("PUT", path, body, if_match))

    def patch(self, path: str, model: type[Model], body: BaseModel, *, if_match: str | None = None) -> Model:
        """Change: what `body` leaves at its default stays as it is."""
        return self._read(path, model, self._write("PATCH", path, body, if_match))

    def delete(self, path: str, model: type[Model], *, if_match: str | None = None) -> Model:
        """End something."""
        return self._read(path, model, self._write("DELETE", path, None, if_match))

    def etag(self, path: str) -> str:
        """The entity tag of one thing."""
        return str(self._get(path, {}).headers["etag"])

    def append(self, path: str, model: type[Model], content: Iterator[bytes], headers: dict[str, str]) -> Model:
        """Send a piece of something larger."""
        return self._read(path, model, self._answer("PATCH", path, content=content, headers=headers))

    def finish(self, path: str, model: type[Model]) -> Model:
        """A write that takes as long as what it is about is large."""
        return self._read(path, model, self._answer("POST", path, timeout=_LONG))

    def upload(
        self, file: Path, *, on_bytes: OnBytes | None = None, in_parts_over: int = parts.IN_PARTS_OVER, part_bytes: int = parts.PART_BYTES
    ) -> UploadOut:
        """Send a file's content under its digest: what arrives is what was read here, or it is refused.

        Files of more than `in_parts_over` bytes go in parts of `part_bytes`, which outlive a cut connection and a restart of either side.
        """
        digest, total = sha256_file(file), file.stat().st_size
        if total > in_parts_over:
            return parts.send(self, file, digest=digest, total=total, part_bytes=part_bytes, on_bytes=on_bytes)

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

    def download(self, path: str, out: BinaryIO, *, method: str = "POST", query: Mapping[str, str | None] | None = None) -> int:
        """Write an answer's body to `out` piece by piece; returns its size in bytes."""
        size, wanted = 0, {name: value for name, value in (query or {}).items() if value is not None}
        try:
            with self._http.stream(method, path, params=wanted, timeout=_LONG) as answer:
                if answer.status_code >= _FAILED:
                    answer.read()
                    raise self._refusal(answer)
                for piece in answer.iter_bytes():
                    size += out.write(piece)
        except httpx.TransportError as error:
            raise Unreachable(self.server, _reason(error)) from error
        return size

    def events(self, path: str, *, last: str | None = None, **query: Any) -> Iterator[ServerEvent | None]:
        """What a stream of events sends until it ends; None shows that it lives. Behind `last`, the id of an event, where it is given."""
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        headers = {"Accept": EVENT_STREAM} | ({"Last-Event-ID": last} if last else {})
        try:
            with self._http.stream("GET", path, params=given, headers=headers, timeout=_QUIET) as answer:
                if answer.status_code >= _FAILED:
                    answer.read()
                    raise self._refusal(answer)
                if answer.status_code == httpx.codes.NO_CONTENT:
                    return
                if not answer.headers.get("content-type", "").startswith(EVENT_STREAM):
                    raise AnswerNotUnderstood(self.server, path, "it is no stream of events")
                yield from parsed(answer.iter_lines())
        except httpx.TransportError as error:
            raise Unreachable(self.server, _reason(error)) from error
        except ValueError as error:
            raise AnswerNotUnderstood(self.server, path, str(error)) from error

    def _get(self, path: str, query: dict[str, Any]) -> httpx.Response:
        return self._repeated("GET", path, params={name: _written(value) for name, value in (query or {}).items() if value is not None})

    def _write(self, method: str, path: str, body: BaseModel | None, if_match: str | None) -> httpx.Response:
        content = None if body is None else body.model_dump_json(exclude_unset=True).encode()
        headers = {"Idempotency-Key": str(uuid4())}
        if content is not None:
            headers["Content-Type"] = "application/json"
        if if_match is not None:
            headers["If-Match"] = quoted_tag(if_match)
        return self._repeated(method, path, content=content, headers=headers)

    def _repeated(self, method: str, path: str, **request: Any) -> httpx.Response:
        for pause in BACK_OFF_S:
            try:
                answer = self._http.request(method, path, **request)
            except httpx.TransportError:
                time.sleep(pause)
                continue
            if answer.status_code not in RETRIED and not _passing(answer):
                return self._checked(answer)
            time.sleep(max(pause, _asked_to_wait_s(answer)))
        return self._answer(method, path, **request)

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


def _written(value: Any) -> str | list[str]:
    if isinstance(value, bool):
        return str(value).lower()
    return [str(one) for one in value] if isinstance(value, list | tuple) else str(value)


def quoted_tag(tag: str) -> str:
    """An `If-Match` value: an ETag or `*` as it is, a bare row version such as 7 with its quotes."""
    return tag if tag == "*" or '"' in tag else f'"{tag}"'


def _passing(answer: httpx.Response) -> bool:
    """Whether a refusal passes by itself within the time that a caller waits anyway."""
    if answer.status_code == _CONFLICT:
        return IN_FLIGHT in answer.text
    return answer.status_code == _TOO_MANY and 0 < _asked_to_wait_s(answer) <= LONGEST_WAIT_S


def _asked_to_wait_s(answer: httpx.Response) -> float:
    asked = answer.headers.get("retry-after", "")
    return min(float(asked), LONGEST_WAIT_S + 1) if asked.isascii() and asked.isdigit() else 0.0


def _shifted(on_bytes: OnBytes, offset: int, total: int) -> OnBytes:
    return lambda sent, _size: on_bytes(offset + sent, total)


def _reason(error: httpx.TransportError) -> str:
    return str(error).rstrip(".") or type(error).__name__
