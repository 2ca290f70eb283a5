"""A platform that is watched: servers of its own that tests may stop, a metrics token, doors for every process, and an OTLP receiver."""

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from ringi.embedded import postgres, valkey
from ringi.embedded.postgres import PostgresHandle
from support.hub_client import free_port
from support.postgres import empty_database, migrate
from support.running_platform import PROJECT, Platform, Processes, environment_of, new_organization, start_api, start_watcher
from support.waiting import until

METRICS_TOKEN = "metrics-token-of-the-tests"
# Stands in every row that is uploaded, and nowhere else.
PRIVATE = "社外秘の文言"


def samples_of(text: str) -> list[Sample]:
    """Every sample of a scrape, read by Prometheus's own parser of the format."""
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value_of(samples: list[Sample], name: str, **labels: str) -> float | None:
    """The sum of a metric's samples with these labels; None where there is none."""
    found = [one.value for one in samples if one.name == name and labels.items() <= one.labels.items()]
    return sum(found) if found else None


@dataclass
class Watched:
    """The platform, its organisation, its servers and where its spans arrive."""

    processes: Processes
    platform: Platform
    database: PostgresHandle
    valkey_folder: Path
    spans_file: Path
    doors: dict[str, int]

    def scrape(self, name: str | None = None, token: str | None = METRICS_TOKEN) -> list[Sample]:
        """What the API says, or another process at its own door."""
        address = f"http://127.0.0.1:{self.doors[name]}" if name else self.processes.server
        answer = httpx.get(f"{address}/metrics", headers={"Authorization": f"Bearer {token}"} if token else {}, timeout=30)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/plain")
        return samples_of(answer.text)

    def ready(self) -> tuple[int, dict[str, Any]]:
        """What /readyz says."""
        answer = httpx.get(f"{self.processes.server}/readyz", timeout=30)
        return answer.status_code, answer.json()

    def state_of(self, dependency: str) -> str:
        """One dependency's state."""
        return str(self.ready()[1]["dependencies"][dependency]["state"])

    def spans(self) -> list[dict[str, Any]]:
        """Every span that has arrived."""
        if not self.spans_file.exists():
            return []
        return [json.loads(line) for line in self.spans_file.read_text(encoding="utf-8").splitlines()]

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A process's log, which must be JSON line for line, but for the one line that Celery writes past every logger when it ends."""
        return [json.loads(line) for line in self.processes.log_of(name).splitlines() if line and not line.startswith("worker: ")]

    def start_worker(self, name: str) -> None:
        """A worker of the cpu queue with a door."""
        self.doors[name] = free_port()
        self.processes.start_worker(name, "cpu", RINGI_METRICS_PORT=str(self.doors[name]))

    def start_relay(self) -> None:
        """The relay."""
        self.processes.start("relay", "ringi_workers.relay", RINGI_METRICS_PORT=str(self.doors["relay"]))

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection]:
        """What only tests may do."""
        with self.database.connect(self.processes.urls.name) as connection:
            yield connection

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """A process that hangs."""
        self.processes.send(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self.processes.send(name, signal.SIGCONT)

    def ask(self, name: str, rows: Path, **headers: str) -> tuple[httpx.Response, UUID]:
        """Register a dataset version by hand; returns the answer to the last request, and its job."""
        contributor = self.platform.as_("contributor")
        contributor.datasets.create(PROJECT, name)
        stored = contributor.upload(rows)
        body = {"source": stored.digest}
        answer = self.platform.call("contributor", "POST", f"/projects/{PROJECT}/datasets/{name}/versions", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        return answer, UUID(answer.json()["job_id"])


@pytest.fixture(scope="package")
def watched() -> Iterator[Watched]:
    with tempfile.TemporaryDirectory(prefix="ringi-observe-", ignore_cleanup_errors=True) as name:
        folder, receiver_port = Path(name), free_port()
        spans = folder / "spans.jsonl"
        receiver = subprocess.Popen([sys.executable, str(Path(__file__).with_name("otlp_receiver.py")), str(receiver_port), str(spans)])
        database = postgres.start(folder / "database", durable=False)
        broker = valkey.start(folder / "broker")
        urls = empty_database(database, "observed")
        migrate(urls)
        (folder / "platform" / "data").mkdir(parents=True)
        environment = environment_of(folder / "platform", urls, broker.url, free_port()) | {
            "RINGI_METRICS_TOKEN": METRICS_TOKEN,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        processes = Processes(folder / "platform", urls, broker.url, environment)
        doors = {part: free_port() for part in ("relay", "sequencer", "notifier", "watcher")}
        try:
            for part, port in doors.items():
                if part == "watcher":
                    start_watcher(processes, RINGI_METRICS_PORT=str(port))
                else:
                    processes.start(part, f"ringi_workers.{part}", RINGI_METRICS_PORT=str(port))
            start_api(processes)
            with new_organization(processes) as platform:
                yield Watched(processes, platform, database, folder / "broker", spans, doors)
        finally:
            processes.stop()
            receiver.terminate()
            receiver.wait()
            valkey.stop(folder / "broker")
            postgres.stop(folder / "database", grace_s=10)


@pytest.fixture(scope="package")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    made = ({"prompt": f"{PRIVATE}、第{number}の質問", "completion": f"第{number}の答えです。", "category": "案内"} for number in range(60))
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made), encoding="utf-8")
    return file


WORKER = "worker-cpu-1"


@pytest.fixture
def worker(watched: Watched) -> str:
    """The worker of the cpu queue; it stays for the tests that follow."""
    if WORKER not in watched.processes.running:
        watched.start_worker(WORKER)
    return WORKER


@pytest.fixture
def nobody(watched: Watched) -> None:
    """No worker: what is asked for stays queued."""
    if WORKER in watched.processes.running:
        watched.processes.kill(WORKER, signal.SIGTERM)


def until_seen(watched: Watched, job: UUID, name: str) -> list[dict[str, Any]]:
    """The spans of this name about a job, once one has arrived."""
    keys = ("ringi.job.id", "ringi.outbox.key")

    def look() -> list[dict[str, Any]]:
        about = [one for one in watched.spans() if str(job) in {one["attributes"].get(key) for key in keys}]
        return [one for one in about if re.fullmatch(name, one["name"])]

    return until(look)
