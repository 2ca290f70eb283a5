"""A running platform for tests: real PostgreSQL, Valkey, API, relay, sequencer, notifier, watcher and workers, each its own process.

`shared_platform` starts one for the session, with a worker for each queue; `platform` gives a test an organisation of its own in it, so
tests do not see each other. `started()` makes a platform of its own for tests that stop its servers or kill its workers.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import httpx
import pytest

from ringi.api.audit_schemas import AuditEntryOut
from ringi.cli.client import RingiClient
from ringi.embedded import valkey
from ringi.embedded.postgres import PostgresHandle
from ringi.identity.schemas import Role
from ringi.jobs.schemas import OPEN, JobOut, JobState
from support.hub_client import free_port
from support.postgres import DatabaseUrls, fresh_database
from support.waiting import until

SETUP_KEY = "setup-key-of-the-tests"
MONITOR_TOKEN = "monitor-token-of-the-tests"
PROJECT = "support"
STORY = {role.value: role for role in (Role.CONTRIBUTOR, Role.REVIEWER, Role.DEPLOYER, Role.VIEWER, Role.INCIDENT_COMMANDER, Role.AUDITOR)}
# The platform is done with a job in seconds; a machine under load may need more.
JOB_S = 240.0


@dataclass
class Processes:
    """The platform's processes over one data folder; a test may start more workers and kill any of them."""

    folder: Path
    urls: DatabaseUrls
    broker_url: str
    environment: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def server(self) -> str:
        """The API's address."""
        return self.environment["RINGI_PUBLIC_URL"]

    @property
    def data(self) -> Path:
        """The data folder."""
        return Path(self.environment["RINGI_DATA_DIR"])

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

    def send(self, name: str, number: int) -> None:
        """Send a signal to a process and its children."""
        os.killpg(self.running[name].pid, number)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a process and its children; kill -9 unless told otherwise."""
        process = self.running.pop(name)
        os.killpg(process.pid, number)
        process.wait(timeout=30)

    @property
    def gpu_workers(self) -> list[str]:
        """Names of the workers that train and evaluate; tests that kill some start others of other names."""
        return [name for name in self.running if name.startswith("worker-gpu")]

    def name_of(self, lease_owner: str) -> str:
        """The name under which the process that holds a lease was started."""
        pid = int(lease_owner.rpartition("/")[2])
        return next(name for name, process in self.running.items() if process.pid == pid)

    def log_of(self, name: str) -> str:
        """What a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End every process, also a stopped one. Nothing is asked of them any more, so they get little time."""
        for process in self.running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                os.killpg(process.pid, signal.SIGCONT)
        for process in self.running.values():
            try:
                process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=10)


def environment_of(folder: Path, urls: DatabaseUrls, broker_url: str, port: int) -> dict[str, str]:
    """The settings of every process; heartbeats are fast so that a dead worker is noticed in seconds."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RINGI_", "HF_", "MLFLOW_"))}
    return inherited | {
        "RINGI_DATABASE_URL": urls.tenant_url,
        "RINGI_PLATFORM_DATABASE_URL": urls.app_url,
        "RINGI_OWNER_DATABASE_URL": urls.owner_url,
        "RINGI_BROKER_URL": broker_url,
        "RINGI_DATA_DIR": str(folder / "data"),
        "RINGI_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "RINGI_SETUP_KEY": SETUP_KEY,
        "RINGI_MONITOR_TOKEN": MONITOR_TOKEN,
        "RINGI_HEARTBEAT_S": "1",
        "RINGI_RENUDGE_S": "5",
        "RINGI_WATCH_SHORTEST_S": "1",
        "RINGI_AUDIT_KEY_FILE": str(folder / "data" / "audit.key"),
        "RINGI_PERSONAL_KEY_FILE": str(folder / "data" / "personal.key"),
        "RINGI_AUDIT_CHECKPOINT_DIR": str(folder / "data" / "checkpoints"),
        # Tests edit rows of this database on purpose, and others work in it meanwhile: the log is compared when it starts.
        "RINGI_ANCHOR_EVERY_S": "86400",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def start_api(processes: Processes, name: str = "api", **extra: str) -> None:
    """The API, ready to answer."""
    port = processes.server.rpartition(":")[2]
    process = processes.start(name, "ringi.api", "--host", "127.0.0.1", "--port", port, **extra)

    said = "nothing"

    def ready() -> bool:
        nonlocal said
        assert process.poll() is None, processes.log_of(name)
        try:
            answer = httpx.get(f"{processes.server}/readyz")
        except httpx.TransportError as error:
            said = repr(error)
            return False
        said = f"{answer.status_code} {answer.text}"
        return answer.status_code == 200

    try:
        until(ready, timeout_s=120)
    except AssertionError:
        print(f"{name} is not ready; it said {said}, and its log ends with {processes.log_of(name)[-4000:]}")
        raise


def start_watcher(processes: Processes, name: str = "watcher", **extra: str) -> subprocess.Popen[bytes]:
    """Celery beat, which looks at what is live."""
    return processes.start(name, "celery", "-q", "-A", "ringi_workers.app", "beat", "-S", "ringi_workers.watching:Watching", **extra)


def started(folder: Path, urls: DatabaseUrls, broker_url: str) -> Processes:
    """API, relay, sequencer, notifier and watcher over a data folder, ready to answer."""
    (folder / "data").mkdir()
    processes = Processes(folder, urls, broker_url, environment_of(folder, urls, broker_url, free_port()))
    processes.start("relay", "ringi_workers.relay")
    processes.start("sequencer", "ringi_workers.sequencer")
    processes.start("notifier", "ringi_workers.notifier")
    start_watcher(processes)
    start_api(processes)
    return processes


class Tokens(dict[str, str]):
    """The token of each user. The people of the story join when they are first asked for: most tests need one or two of them."""

    def __init__(self, admin: str, join: Callable[[str], None]) -> None:
        super().__init__(admin=admin)
        self._join, self._one_at_a_time = join, threading.Lock()

    def __missing__(self, user: str) -> str:
        if user not in STORY:
            raise KeyError(user)
        with self._one_at_a_time:
            if user not in self:
                self._join(user)
        return self[user]


class Platform:
    """One organisation on a running platform, with a client for every role."""

    def __init__(self, processes: Processes, organization: str, admin_token: str) -> None:
        self.processes, self.organization, self.project = processes, organization, PROJECT
        self.tokens = Tokens(admin_token, self._join)
        self.clients: dict[str, RingiClient] = {}

    def _join(self, user: str) -> None:
        self.add_user(user, STORY[user], project=None if STORY[user] is Role.AUDITOR else PROJECT)

    def with_everybody(self) -> Self:
        """The same, after all people of the story have joined: for tests that name one whom nobody has asked for."""
        for user in STORY:
            _ = self.tokens[user]
        return self

    @property
    def server(self) -> str:
        """The API's address."""
        return self.processes.server

    def as_(self, user: str) -> RingiClient:
        """The client with that user's token."""
        if user not in self.clients:
            self.clients[user] = RingiClient(self.server, self.tokens[user])
        return self.clients[user]

    def call(self, user: str | None, method: str, path: str, **request: Any) -> httpx.Response:
        """A plain HTTP call below /api/v1, for what the typed client would not send."""
        headers = request.pop("headers", {}) | ({"Authorization": f"Bearer {self.tokens[user]}"} if user else {})
        return httpx.request(method, f"{self.server}/api/v1{path}", headers=headers, timeout=60, **request)

    def ended(self, job_id: UUID | None, *, timeout_s: float = JOB_S) -> JobOut:
        """The job once it has ended, however it did."""
        assert job_id is not None

        def look() -> JobOut | None:
            job = self.as_("contributor").jobs.get(job_id)
            return job if job.state not in OPEN else None

        found = until(look, timeout_s=timeout_s, pause_s=0.1)
        assert found is not None
        return found

    def succeeded(self, job_id: UUID | None, *, timeout_s: float = JOB_S) -> JobOut:
        """The job once it has succeeded."""
        job = self.ended(job_id, timeout_s=timeout_s)
        assert job.state is JobState.SUCCEEDED, job.error
        return job

    def logged(self, action: str, **details: str) -> list[AuditEntryOut]:
        """The organisation's entries of an action whose details hold these values, newest first."""
        events = self.as_("auditor").audit.events(action=action)
        return [one for one in events if details.items() <= (one.details or {}).items()]

    def add_user(self, name: str, *roles: Role, project: str | None = PROJECT) -> None:
        """One more user with a token."""
        admin = self.as_("admin").identity
        admin.create_user(name)
        for role in roles:
            admin.grant_role(name, role, project=project)
        self.tokens[name] = admin.issue_token(name).token

    def close(self) -> None:
        """Give the sockets back."""
        for client in self.clients.values():
            client.close()
        self.clients.clear()


@contextmanager
def new_organization(processes: Processes) -> Iterator[Platform]:
    """An organisation with a project; the users of the story get their tokens when they are first asked for."""
    name = f"org-{uuid4().hex[:8]}"
    with RingiClient(processes.server, SETUP_KEY) as operator:
        created = operator.identity.create_organization(name, admin="admin", display_name="検証株式会社")
    platform = Platform(processes, name, created.token.token)
    try:
        platform.as_("admin").identity.create_project(PROJECT, display_name="サポート")
        yield platform
    finally:
        platform.close()


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
        try:
            processes.start_worker("worker-cpu", "cpu")
            processes.start_worker("worker-gpu", "gpu")
            yield processes
        finally:
            processes.stop()


@pytest.fixture
def platform(shared_platform: Processes) -> Iterator[Platform]:
    """An organisation of the test's own on the shared platform."""
    with new_organization(shared_platform) as platform:
        yield platform
    # Shown when the test fails.
    print(shared_platform.log_of("api")[-4000:])
