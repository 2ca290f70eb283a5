"""A running platform for tests: real PostgreSQL, Valkey, API, relay, sequencer and workers, each its own process.

`platform_session` starts API, relay and sequencer once for the session on one database; workers are started by the tests that need them.
`platform` gives a test an organisation of its own in it, so tests do not see each other. `shared_platform` is the process table.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from ringi.cli.client import RingiClient
from ringi.embedded import valkey
from ringi.embedded.postgres import PostgresHandle
from support.postgres import DatabaseUrls, fresh_database
from support.waiting import until

SETUP_KEY = "setup-key-of-the-tests"


@dataclass
class Processes:
    """The platform's processes over one data folder; a test may start more workers and kill any of them."""

    folder: Path
    urls: DatabaseUrls
    broker_url: str
    environment: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str, **extra: str) -> subprocess.Popen[bytes]:
        """Start `python -m command…` in a session of its own, logging to a file."""
        log = (self.folder / f"{name}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", *command], env=self.environment | {"RINGI_PROCESS_NAME": name} | extra, stdout=log, stderr=log,
            cwd=self.folder, start_new_session=True,
        )  # fmt: skip
        log.close()
        self.running[name] = process
        return process

    def start_worker(self, name: str, queue: str, **extra: str) -> subprocess.Popen[bytes]:
        """A Celery worker process of a queue; returns at once, the queue waits for it."""
        options = ("-Q", queue, "-P", "solo", "-c", "1", "--without-gossip", "--without-mingle", "-n", f"{name}@%h", "-l", "info")
        return self.start(name, "celery", "-A", "ringi_workers.app", "worker", *options, OMP_NUM_THREADS="1", **extra)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Signal a process and its children; kill -9 unless told otherwise."""
        process = self.running.pop(name)
        os.killpg(process.pid, number)
        process.wait(timeout=30)

    def log_of(self, name: str) -> str:
        """What a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End every process."""
        for process in self.running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=10)


def environment_of(folder: Path, urls: DatabaseUrls, broker_url: str, port: int) -> dict[str, str]:
    """The settings of every process; heartbeats are fast so that a dead worker is noticed in seconds."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RINGI_", "HF_", "MLFLOW_"))}
    return inherited | {
        "RINGI_DATABASE_URL": urls.app_url,
        "RINGI_OWNER_DATABASE_URL": urls.owner_url,
        "RINGI_BROKER_URL": broker_url,
        "RINGI_DATA_DIR": str(folder / "data"),
        "RINGI_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "RINGI_SETUP_KEY": SETUP_KEY,
        "RINGI_HEARTBEAT_S": "1",
        "RINGI_RENUDGE_S": "5",
        "RINGI_AUDIT_KEY_FILE": str(folder / "data" / "audit.key"),
        "RINGI_AUDIT_CHECKPOINT_DIR": str(folder / "data" / "checkpoints"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def started(folder: Path, urls: DatabaseUrls, broker_url: str) -> Processes:
    """API, relay and sequencer over a data folder, ready to answer."""
    port = free_port()
    (folder / "data").mkdir()
    processes = Processes(folder, urls, broker_url, environment_of(folder, urls, broker_url, port))
    processes.start("api", "uvicorn", "ringi.api.app:app", "--host", "127.0.0.1", "--port", str(port), "--no-access-log")
    processes.start("relay", "ringi_workers.relay")
    processes.start("sequencer", "ringi_workers.sequencer")

    def ready() -> bool:
        assert processes.running["api"].poll() is None, processes.log_of("api")
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    until(ready, timeout_s=60)
    return processes


@dataclass(frozen=True)
class Platform:
    """One organisation on the running platform, with a client for every role."""

    processes: Processes
    server: str
    organization: str
    project: str
    admin: RingiClient
    tokens: dict[str, str]

    def as_(self, user: str) -> RingiClient:
        """A client with that user's token."""
        return RingiClient(self.server, token=self.tokens[user])


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """One Valkey for the session."""
    with tempfile.TemporaryDirectory(prefix="ringi-valkey-") as folder:
        handle = valkey.start(Path(folder))
        yield handle.url
        valkey.stop(Path(folder))


@pytest.fixture(scope="session")
def shared_platform(postgres_server: PostgresHandle, migrated_template: DatabaseUrls, broker: str) -> Iterator[Processes]:
    """The session's platform with one worker for each queue."""
    urls = fresh_database(postgres_server, f"shared_{uuid4().hex[:8]}", template=migrated_template.name)
    with tempfile.TemporaryDirectory(prefix="ringi-platform-", ignore_cleanup_errors=True) as folder:
        processes = started(Path(folder), urls, broker)
        processes.start_worker("worker-cpu", "cpu")
        processes.start_worker("worker-gpu", "gpu")
        yield processes
        processes.stop()


platform_session = shared_platform


def new_organization(processes: Processes) -> Platform:
    """An organisation with a project and the four users of the story, each with a token."""
    server = processes.environment["RINGI_PUBLIC_URL"]
    name, project = f"org-{uuid4().hex[:8]}", "support"
    created = RingiClient(server, token=SETUP_KEY).create_organization(name=name, admin="admin", display_name="検証株式会社")
    admin = RingiClient(server, token=created.token.token)
    admin.create_project(name=project, display_name="サポート")
    roles = {
        "contributor": project,
        "reviewer": project,
        "deployer": project,
        "auditor": None,
        "viewer": project,
        "incident_commander": project,
    }
    tokens = {"admin": created.token.token}
    for role, place in roles.items():
        admin.create_user(name=role)
        admin.grant_role(user=role, role=role, project=place)
        tokens[role] = admin.issue_token(role, name="test").token
    return Platform(processes, server, name, project, admin, tokens)


@pytest.fixture
def platform(shared_platform: Processes) -> Platform:
    """An organisation of the test's own on the shared platform."""
    return new_organization(shared_platform)
