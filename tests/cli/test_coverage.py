"""The typed client has a call for every operation of the API's document, and calls nothing else. Its own methods are called, over HTTP,
against a server that answers as the document says."""

import functools
import http.server
import inspect
import io
import itertools
import json
import re
import threading
import types
import typing
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import jsonschema_rs
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from architecture.openapi_document import document
from ringi.api.app import API_PREFIX
from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.client import RingiClient
from ringi.kit.errors import RingiError

DOCUMENT = document()
SCHEMAS = DOCUMENT["components"]["schemas"]
METHODS = ("get", "put", "post", "patch", "delete")
# Not the client's: a browser's page of the document, the hub (huggingface_hub is its client), and probes of machines.
ELSEWHERE = re.compile(r"^/(hf|metrics)")
ONE_OF_A_KIND = {
    "^sha256:": "sha256:" + "0" * 64,
    "hf_rgi": "hf_rgi" + "0" * 49,
}
# Arguments that are more than any text.
NAMED = {
    "digest": ONE_OF_A_KIND["^sha256:"],
    "source": ONE_OF_A_KIND["^sha256:"],
    "issuer": "https://login.example",
    "reason": "検証のための十分に長い理由",
    "scopes": ["project:read"],
    "networks": ["10.1.2.0/24"],
}


# Methods that refuse an argument of ours, and why.
REFUSES = {"adapters.advance": "no verb leads back to the state in which a version is made"}


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str

    def matches(self, method: str, path: str) -> bool:
        return method == self.method and _pattern(self.path).fullmatch(path) is not None


@functools.cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{[^}]+\\}", "[^/]+", re.escape(path)))


OPERATIONS = {
    Operation(method.upper(), path): entry
    for path, methods in DOCUMENT["paths"].items()
    for method, entry in methods.items()
    if method in METHODS and not ELSEWHERE.match(path)
}


def example(schema: dict[str, Any]) -> Any:
    """The smallest document that fits a schema of ours."""
    if "$ref" in schema:
        return example(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return example(schema[choice][0])
    if "const" in schema or "enum" in schema or "default" in schema:
        return schema.get("const", schema.get("enum", [schema.get("default")])[0])
    match schema.get("type"):
        case "object":
            return {name: example(field) for name, field in schema.get("properties", {}).items() if name in schema.get("required", ())}
        case "array":
            return [example(schema["items"])] * max(1, schema.get("minItems", 1)) if "items" in schema else []
        case "integer" | "number":
            least = max(schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
            return least if least < schema.get("exclusiveMaximum", least + 1) else schema["exclusiveMaximum"] / 2
        case "boolean":
            return True
        case "null":
            return None
    return text_of(schema)


def text_of(schema: dict[str, Any]) -> str:
    """A text that fits the schema's format and pattern."""
    if (known := schema.get("format")) in {"uuid", "date-time", "date"}:
        return {"uuid": str(uuid4()), "date-time": "2026-11-22T00:00:00Z", "date": "2026-11-22"}[known]
    for beginning, value in ONE_OF_A_KIND.items():
        if beginning in schema.get("pattern", ""):
            return value
    return "x" * max(12, schema.get("minLength", 1)) if "pattern" not in schema or re.search(schema["pattern"], "x" * 12) else "v1"


class Request(NamedTuple):
    """What the client sent."""

    method: str
    path: str
    body: bytes
    query: frozenset[str]


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers every operation of the document with an example of its success, and remembers what was asked."""

    asked: typing.ClassVar[list[Request]] = []
    protocol_version = "HTTP/1.1"
    # Head and body are two writes: without it each answer waits 40 ms for an acknowledgement.
    disable_nagle_algorithm = True

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append(Request(self.command, path, body, frozenset(urllib.parse.parse_qs(query))))
        found = next((entry for operation, entry in OPERATIONS.items() if operation.matches(self.command, path)), None)
        status, kind, body = success(found) if found else (404, "application/json", b"{}")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815  # the names that http.server looks for

    def log_message(self, *_: object) -> None:
        """Quiet."""


def success(entry: dict[str, Any]) -> tuple[int, str, bytes]:
    status, response = next((int(code), one) for code, one in entry["responses"].items() if code.startswith("2"))
    if "text/event-stream" in response.get("content", {}):
        return status, "text/event-stream", b": live\n\n"
    schema = response.get("content", {}).get("application/json", {}).get("schema")
    answer = example(schema) if schema else None
    if isinstance(answer, dict) and "next_cursor" in answer:
        answer["next_cursor"] = None
    return status, "application/json", json.dumps(answer).encode() if schema else b""


@pytest.fixture
def server() -> Iterator[str]:
    Recorder.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as peer:
        threading.Thread(target=peer.serve_forever, daemon=True).start()  # thread: the peer that the client is called against
        yield f"http://127.0.0.1:{peer.server_port}"
        peer.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What any of the uploads finds enough in."""
    for name in ("adapter_config.json", "config.json", "adapter_model.safetensors", "model.safetensors", "rows.jsonl"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def argument(name: str, kind: Any, folder: Path) -> Any:
    origin = typing.get_origin(kind)
    if origin in {typing.Union, types.UnionType, typing.Annotated}:
        return argument(name, typing.get_args(kind)[0], folder)
    if name in NAMED:
        return NAMED[name]
    if kind is Path:
        return folder / "rows.jsonl" if name in {"file", "rows", "path"} else folder
    if kind is typing.BinaryIO:
        return io.BytesIO()
    if isinstance(kind, type) and issubclass(kind, Enum):
        return list(kind)[-1]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        found = example(inlined(kind))
        try:
            return kind.model_validate(found)
        except ValidationError:
            # A rule between fields, which no schema shows: the server here does not ask.
            return kind.model_construct(**found)
    if origin in {list, tuple, set, frozenset} or kind in {list, tuple}:
        return []
    plain = {str: "v1", int: 1, float: 0.5, bool: True, bytes: b"", UUID: uuid4(), datetime: datetime.now(UTC)}
    return plain[kind] if kind in plain else TypeAdapter(kind).validate_python(example(TypeAdapter(kind).json_schema()))


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model; what it refers to is known to the document, or becomes so."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    for name, inner in schema.pop("$defs", {}).items():
        SCHEMAS.setdefault(name, inner)
    return schema


def asked_of(hints: dict[str, Any]) -> dict[str, Any]:
    """What a list is asked with, each of it once."""
    kinds = [typing.get_args(one)[0] for one in hints.values() if typing.get_origin(one) is typing.Unpack]
    fields = [name for kind in kinds if kind in {Asked, AskedInOrder} for name in typing.get_type_hints(kind)]
    return {name: ["name=x"] if name == "filter" else "name" for name in fields}


def calls_of(method: Any, folder: Path) -> Iterator[dict[str, Any]]:
    """Arguments for the method: every value of an enumeration, with what may be left out and without."""
    hints = typing.get_type_hints(method)
    parameters = {
        name: one for name, one in inspect.signature(method).parameters.items() if one.kind not in {one.VAR_KEYWORD, one.VAR_POSITIONAL}
    }
    needed = [name for name, one in parameters.items() if one.default is one.empty]
    for chosen in (needed, list(parameters)):
        given = {name: argument(name, hints[name], folder) for name in chosen if not name.startswith("on_")}
        choices = [name for name in needed if isinstance(given[name], Enum)]
        if chosen is not needed:
            given |= asked_of(hints)
        every: list[list[Any]] = [list(type(given[name]).__members__.values()) for name in choices]
        for picked in itertools.product(*every):
            yield given | dict(zip(choices, picked, strict=True))


def misfit(request: Request) -> str | None:
    """Why a body is not what the document says of its operation."""
    known = next((operation for operation in OPERATIONS if operation.matches(request.method, request.path)), None)
    if known and (other := request.query - {one["name"] for one in OPERATIONS[known].get("parameters", [])}):
        return f"asked with {', '.join(sorted(other))}"
    asked = OPERATIONS[known].get("requestBody", {}) if known else {}
    wanted = asked.get("content", {})
    if not request.body:
        return "no body" if "application/json" in wanted and asked.get("required") else None
    if not wanted:
        return "a body that is not asked for"
    if known is None or "application/json" not in wanted:
        return None
    return "; ".join(error.message for error in _body(known).iter_errors(json.loads(request.body))) or None


@functools.cache
def _body(operation: Operation) -> Any:
    schema = OPERATIONS[operation]["requestBody"]["content"]["application/json"]["schema"]
    return jsonschema_rs.validator_for({**schema, "components": {"schemas": SCHEMAS}}, validate_formats=True)


def call(method: Any, given: dict[str, Any]) -> None:
    positional = [name for name, one in inspect.signature(method).parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
    ordered = [given.pop(name) for name in positional if name in given]
    result = method(*ordered, **given)
    if isinstance(result, Iterator):
        list(itertools.islice(result, 2))


def test_the_client_covers_every_operation_and_calls_no_other(server: str, folder: Path) -> None:
    refused: dict[str, str] = {}
    with RingiClient(server, "hf_rgi" + "0" * 49) as client:
        rooms = {name: room for name, room in vars(client).items() if type(room).__module__.startswith("ringi.cli.calls")}
        assert len(rooms) > 10
        for room_name, room in rooms.items():
            for name, method in inspect.getmembers(room, inspect.ismethod):
                for given in calls_of(method, folder) if not name.startswith("_") else ():
                    try:
                        call(method, given)
                    except (RingiError, ValueError, KeyError) as error:
                        refused[f"{room_name}.{name}"] = str(error)
        client.upload(folder / "rows.jsonl")
    assert refused.keys() == REFUSES.keys(), refused
    misfits = {(one.method, one.path): why for one in Recorder.asked if (why := misfit(one))}
    assert misfits == {}
    asked = {(one.method, one.path) for one in Recorder.asked}
    unknown = {one for one in asked if not any(operation.matches(*one) for operation in OPERATIONS)}
    assert unknown == set(), refused
    missing = {operation for operation in OPERATIONS if not any(operation.matches(*one) for one in asked)}
    assert {operation for operation in missing if operation.path.startswith(API_PREFIX)} == set(), refused
