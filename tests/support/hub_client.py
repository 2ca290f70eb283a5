"""The real huggingface_hub in processes of its own (it reads its settings at import), the hub under uvicorn, and a network that cuts downloads."""

import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx

from support.postgres import DatabaseUrls
from support.waiting import until

# Each expression is evaluated on its own; an exception becomes its class's name and its text.
_PROGRAM = """
import json, sys
from huggingface_hub import *
from huggingface_hub import HfApi
api = HfApi()
answers = {}
for name, expression in json.loads(sys.stdin.read()).items():
    try:
        answers[name] = {"value": eval(expression), "error": None, "message": ""}
    except Exception as error:
        answers[name] = {"value": None, "error": type(error).__name__, "message": str(error)}
json.dump(answers, open(sys.argv[1], "w"), default=str)
"""


@dataclass(frozen=True)
class Answer:
    """What a call returned, or the name and text of what it raised."""

    value: Any
    error: str | None
    message: str


class Request(NamedTuple):
    """A line of the API's log about a request."""

    method: str
    path: str
    status: int


@dataclass(frozen=True)
class HubServer:
    """A hub under uvicorn; `log` holds its lines."""

    url: str
    log: Path

    def requests(self, containing: str) -> list[Request]:
        """What was answered so far about paths that hold `containing`."""
        # A line is written when its answer is out. One more request, and what was asked before it has its line.
        last = f"/{uuid4()}"
        httpx.get(self.url + last)
        until(lambda: any(one.path == last for one in self._lines()))
        return [one for one in self._lines() if containing in one.path]

    def _lines(self) -> list[Request]:
        # What stands behind the last end of a line is being written.
        whole = self.log.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [
            Request(one["message"].split()[0], one["path"], int(one["status"]))
            for one in lines
            if one["logger"] == "ringi.requests" and "path" in one
        ]


@dataclass(frozen=True)
class HubClient:
    """A machine with huggingface_hub: one cache folder, one endpoint, one token."""

    home: Path
    endpoint: str
    token: str | None

    @property
    def environment(self) -> dict[str, str]:
        """Its environment variables."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
        own = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        return inherited | own | ({"HF_TOKEN": self.token} if self.token else {})

    def run(self, **expressions: str) -> dict[str, Answer]:
        """Evaluate the expressions one after the other in one process."""
        self.home.mkdir(parents=True, exist_ok=True)
        out = self.home / "answers.json"
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(out)],
            input=json.dumps(expressions),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (self.home / "stderr.txt").write_text(done.stderr)
        return {name: Answer(**answer) for name, answer in json.loads(out.read_text()).items()}

    def call(self, expression: str) -> Answer:
        """Evaluate one expression."""
        return self.run(it=expression)["it"]

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `hf`."""
        command = [str(Path(sys.executable).with_name("hf")), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def hub_server(folder: Path, *, urls: DatabaseUrls, blobs: Path) -> Iterator[tuple[HubServer, int]]:
    """The platform's application under uvicorn; yields it with its process id."""
    port, log = free_port(), folder / "uvicorn.log"
    environment = os.environ | {"RINGI_DATABASE_URL": urls.tenant_url, "RINGI_PLATFORM_DATABASE_URL": urls.app_url}
    environment |= {"RINGI_BLOB_URL": blobs.as_uri(), "RINGI_DATA_DIR": str(folder)}
    command = [sys.executable, "-m", "uvicorn", "ringi.api.app:app", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or _answers(url), timeout_s=120)
        assert process.poll() is None, log.read_text()
        yield HubServer(url, log), process.pid
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/hf/production/api/agent-harnesses").is_success
    except httpx.TransportError:
        return False


@contextmanager
def cut_once(port: int, *, after: int) -> Iterator[int]:
    """A TCP relay to `port` that drops the first connection which carried `after` bytes back, and lets everything else pass; yields its own port."""
    cut, relays = threading.Event(), list[threading.Thread]()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        own = int(listener.getsockname()[1])
        # thread: a network that loses a connection; it plays no part of the platform.
        accepting = threading.Thread(target=_accept, args=(listener, port, after, cut, relays))
        accepting.start()
        yield own
        # A last connection, closed at once, wakes the thread that waits for one.
        relays.append(accepting)
        socket.create_connection(("127.0.0.1", own)).close()
        for thread in relays:
            thread.join(10)
    assert cut.is_set(), "no connection was cut"


def _accept(listener: socket.socket, port: int, after: int, cut: threading.Event, relays: list[threading.Thread]) -> None:
    while True:
        near, _ = listener.accept()
        if threading.current_thread() in relays:
            near.close()
            return
        # thread: one direction of one connection.
        relays.append(threading.Thread(target=_relay, args=(near, port, after, cut)))
        relays[-1].start()


def _relay(near: socket.socket, port: int, after: int, cut: threading.Event) -> None:
    carried = 0
    with near, socket.create_connection(("127.0.0.1", port)) as far:
        while True:
            for source in select.select([near, far], [], [])[0]:
                try:
                    piece = source.recv(65536)
                    (far if source is near else near).sendall(piece)
                except OSError:
                    return
                carried += len(piece) if source is far else 0
                if not piece or (carried >= after and not cut.is_set()):
                    if piece:
                        cut.set()
                    return
