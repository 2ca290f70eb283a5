"""The client against servers that misbehave: each a real process that answers real requests."""

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from ringi.cli.client import RingiClient
from ringi.cli.connection import route
from ringi.cli.errors import AnswerNotUnderstood, ApiError, FileChanged, Unreachable, Usage
from ringi.kit.digests import sha256_file
from support.hub_client import free_port
from support.running_platform import Platform
from support.waiting import until

# Answers /whoami with what /fail asked for, so many times, then well; counts what it was asked; stores uploads nowhere.
SERVER = """
import hashlib, json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

state = {"GET": 0, "POST": 0, "status": 200, "times": 0, "body": ""}
ME = {"id": "00000000-0000-7000-8000-000000000000", "name": "aiko", "kind": "user", "organization": "acme", "organization_permissions": [],
      "projects": {}, "environment": None}

class Handler(BaseHTTPRequestHandler):
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        state.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(200, b"")

    def do_GET(self):
        if self.path == "/state":
            return self.answer(200, json.dumps(state).encode())
        state["GET"] += 1
        self.serve(json.dumps(ME).encode())

    def do_POST(self):
        state["POST"] += 1
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        size = left
        while left and (piece := self.rfile.read(min(left, 65536))):
            digest.update(piece)
            left -= len(piece)
        state["digest"] = self.headers.get("X-Content-Digest")
        state["keys"] = [*state.get("keys", []), self.headers.get("Idempotency-Key")]
        self.serve(json.dumps({"digest": "sha256:" + digest.hexdigest(), "size": size}).encode())

    def serve(self, good):
        if state["times"]:
            state["times"] -= 1
            return self.answer(state["status"], state["body"].encode())
        self.answer(200, good)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Moody:
    """The server of a test."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def be(self, status: int, times: int, body: str = "") -> None:
        httpx.put(f"{self.url}/set", json={"GET": 0, "POST": 0, "keys": [], "status": status, "times": times, "body": body})

    def state(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(httpx.get(f"{self.url}/state").content)
        return found


@pytest.fixture(scope="module")
def moody() -> Iterator[Moody]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(port)])
    server = Moody(port)

    def answers() -> bool:
        try:
            return bool(server.state())
        except httpx.TransportError:
            return False

    until(answers)
    yield server
    process.terminate()
    process.wait(timeout=10)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_read_is_repeated_while_the_server_is_unwell(moody: Moody, status: int) -> None:
    moody.be(status, times=2)
    with RingiClient(moody.url, "t") as client:
        assert client.identity.whoami().name == "aiko"
    assert moody.state()["GET"] == 3


def test_a_read_is_given_up_after_four_answers_and_says_what_came(moody: Moody) -> None:
    moody.be(503, times=99)
    with RingiClient(moody.url, "t") as client, pytest.raises(ApiError) as refusal:
        client.identity.whoami()
    assert (refusal.value.status, refusal.value.code) == (503, "http_503")
    assert moody.state()["GET"] == 4


@pytest.mark.parametrize("status", [500, 409])
def test_a_refusal_is_not_repeated(moody: Moody, status: int) -> None:
    moody.be(status, times=99)
    with RingiClient(moody.url, "t") as client, pytest.raises(ApiError):
        client.identity.whoami()
    assert moody.state()["GET"] == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_write_is_repeated_with_the_key_that_it_had(moody: Moody, status: int) -> None:
    moody.be(status, times=2)
    with RingiClient(moody.url, "t") as client, pytest.raises(AnswerNotUnderstood):
        client.identity.create_project("risk")
    state = moody.state()
    assert state["POST"] == 3
    keys = state["keys"]
    assert isinstance(keys, list)
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert keys[0]


def test_a_write_whose_first_attempt_still_runs_waits_for_its_answer(moody: Moody) -> None:
    moody.be(409, times=1, body='{"detail": "x", "code": "idempotency_key_in_flight"}')
    with RingiClient(moody.url, "t") as client, pytest.raises(AnswerNotUnderstood):
        client.identity.create_project("risk")
    assert moody.state()["POST"] == 2


def test_a_write_that_is_refused_is_not_repeated(moody: Moody) -> None:
    moody.be(409, times=9, body='{"detail": "x", "code": "name_taken"}')
    with RingiClient(moody.url, "t") as client, pytest.raises(ApiError):
        client.identity.create_project("risk")
    assert moody.state()["POST"] == 1


@pytest.mark.parametrize("body", ["<html>hello</html>", "{}", '{"name": 3}'])
def test_an_answer_in_another_shape_is_named_as_such(moody: Moody, body: str) -> None:
    moody.be(200, times=1, body=body)
    with RingiClient(moody.url, "t") as client, pytest.raises(AnswerNotUnderstood, match="whoami"):
        client.identity.whoami()


def test_nobody_listening_is_unreachable() -> None:
    with RingiClient(f"http://127.0.0.1:{free_port()}", "t") as client, pytest.raises(Unreachable, match="cannot be reached"):
        client.identity.whoami()


def test_an_upload_streams_under_its_digest_in_memory_that_does_not_grow(moody: Moody, tmp_path: Path) -> None:
    moody.be(200, times=0)
    file = tmp_path / "large.bin"
    with file.open("wb") as out:
        out.truncate(64 * 1024 * 1024)
    seen: list[tuple[int, int]] = []
    tracemalloc.start()
    with RingiClient(moody.url, "t") as client:
        stored = client.upload(file, on_bytes=lambda sent, total: seen.append((sent, total)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stored.digest == sha256_file(file) == moody.state()["digest"]
    assert stored.size == 64 * 1024 * 1024
    assert seen[-1] == (stored.size, stored.size)
    assert len(seen) == 64
    assert peak < 8 * 1024 * 1024


def test_a_file_that_shrinks_while_it_is_sent_is_refused(moody: Moody, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"x" * 3 * 1024 * 1024)

    def cut(_sent: int, _total: int) -> None:
        with file.open("r+b") as stream:
            stream.truncate(1024 * 1024)

    with RingiClient(moody.url, "t") as client, pytest.raises(FileChanged, match="changed while it was being sent"):
        client.upload(file, on_bytes=cut)


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_a_path_cannot_be_left(segment: str) -> None:
    with pytest.raises(Usage):
        route("projects", segment, "adapters")


def test_a_path_segment_is_quoted() -> None:
    assert route("projects", "a/b?c#d", "versions", "sha256:ab") == "/projects/a%2Fb%3Fc%23d/versions/sha256:ab"


def test_a_refusal_carries_everything_that_the_platform_said(platform: Platform) -> None:
    with pytest.raises(ApiError) as refusal:
        platform.as_("contributor").adapters.get("support", "nobody")
    error = refusal.value
    assert (error.code, error.status) == ("not_found", 404)
    assert error.message == "There is no adapter 'support/nobody' here."
    assert error.next_step
    assert error.request_id
    with pytest.raises(ApiError) as unknown:
        platform.as_("contributor").jobs.get(uuid4())
    assert unknown.value.code == "not_found"


def test_a_list_is_read_to_its_end_over_all_pages(platform: Platform) -> None:
    contributor = platform.as_("contributor").datasets
    names = [f"d{number}" for number in range(205)]
    for name in names:
        contributor.create("support", name)
    assert [dataset.name for dataset in contributor.all("support")] == names[::-1]
