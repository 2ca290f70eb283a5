"""`ringi logs`, `ringi watch` and `ringi workers` as a person or a script runs them, and the reader of events beneath."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ringi.cli.client import RingiClient, changed
from ringi.cli.commands.logs import BadSince, parse_since
from ringi.cli.errors import AnswerNotUnderstood
from ringi.cli.events import ServerEvent, parsed
from ringi.jobs.schemas import JobState
from support.running_platform import PROJECT, Platform, Processes, new_organization
from support.shell import Shell, idle, shell
from support.tiny_model import make_tiny_rows
from support.waiting import until

__all__ = ["idle", "shell"]


@pytest.mark.parametrize(
    ("lines", "events"),
    [
        (["id: 7", "event: log", 'data: {"a": 1}', ""], [ServerEvent("log", "7", {"a": 1})]),
        (['data:{"a":', "data: 1}", "", "data: {}", ""], [ServerEvent("message", None, {"a": 1}), ServerEvent("message", None, {})]),
        ([": live", ":", "id: 3", "", "retry: 5", 'data: {"行": "線"}', ""], [None, None, ServerEvent("message", "3", {"行": "線"})]),
        (['data: {"unfinished": 1}'], []),
    ],
)
def test_the_format_is_read_as_it_is_written(lines: list[str], events: list[ServerEvent | None]) -> None:
    assert list(parsed(lines)) == events


def test_data_that_is_no_object_is_refused() -> None:
    for broken in ("[1]", "{"):
        with pytest.raises(ValueError, match=r".+"):
            list(parsed([f"data: {broken}", ""]))


def test_a_beginning_is_an_age_or_a_time() -> None:
    assert timedelta(minutes=9) < datetime.now(UTC) - parse_since("10m") < timedelta(minutes=11)
    assert parse_since("2026-11-22T09:30:00Z") == parse_since("2026-11-22T18:30:00+09:00") == parse_since("2026-11-22T09:30:00")
    for wrong in ("yesterday", "10", "-5m", ""):
        with pytest.raises(BadSince):
            parse_since(wrong)


def asked(shell: Shell, rows: Path) -> str:
    """A job that validates a new dataset, as the list of jobs shows it."""
    name = f"support/rows-{uuid4().hex[:8]}"
    shell.ok("datasets", "create", name, "--profile", "contributor")
    with RingiClient(shell.server, json.loads((shell.home / "config.json").read_text())["profiles"]["contributor"]["token"]) as client:
        job = client.datasets.add_version(PROJECT, name.partition("/")[2], rows).job_id
    assert job is not None
    return str(job)


def test_lines_are_shown_followed_and_filtered(shell: Shell, tmp_path: Path) -> None:
    job = asked(shell, make_tiny_rows(tmp_path / "rows.jsonl", 60))
    followed = shell.ok("logs", job, "-f", "--profile", "viewer")
    assert [line.split()[2:] for line in followed.splitlines()] == [
        ["INFO", one] for one in ("reading", "preparing", "dividing", "sealing")
    ]
    assert shell.ok("logs", job, "--profile", "viewer") == followed
    first, *_ = [json.loads(line) for line in shell.ok("logs", job, "--json", "--profile", "viewer").splitlines()]
    assert (first["message"], first["level"], first["attempt"]) == ("reading", "info", 1)
    assert shell.ok("logs", job, "--level", "error", "--profile", "viewer") == ""
    assert shell.ok("logs", job, "--attempt", "2", "--profile", "viewer") == ""
    assert shell.ok("logs", job, "--since", "1h", "--profile", "viewer") == followed
    shell.refused("logs", job, "--since", "soon", "--profile", "viewer", code="bad_since", exit_code=2)
    shell.refused("logs", str(uuid4()), "--profile", "viewer", code="not_found")


def test_watching_shows_what_happens_and_ends_when_nothing_is_open(shell: Shell, tmp_path: Path) -> None:
    rows = make_tiny_rows(tmp_path / "rows.jsonl", 20_000)
    begun = threading.Event()
    watcher = subprocess.Popen(
        [sys.executable, "-c", "from ringi.cli.main import run; run()", "watch", "--project", PROJECT, "--profile", "viewer", "--json"],
        env=shell.environ(), cwd=shell.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    heard: list[dict[str, str]] = []

    def listen() -> None:
        assert watcher.stdout is not None
        for line in watcher.stdout:
            heard.append(json.loads(line))
            begun.set()

    # thread: reads the program's output while it runs.
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        jobs = []

        def told() -> bool:
            # The first jobs may come before the watcher has opened its stream.
            jobs.append(asked(shell, rows))
            return begun.wait(5)

        until(told, timeout_s=60)
        until(lambda: any(one["event"] == "state" and one["state"] == "succeeded" for one in heard), timeout_s=60)
    finally:
        watcher.terminate()
        listener.join(timeout=10)
        watcher.communicate(timeout=10)
    assert {one["job"] for one in heard} <= set(jobs)
    done = shell.run("watch", "--until-idle", "--profile", "viewer")
    assert done.returncode == 0, done.stderr


def test_workers_are_listed_and_shown_and_a_shared_one_is_not_one_tenants(shell: Shell, platform: Platform) -> None:
    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = shell.json("workers", "list", "--profile", "viewer")
        # The one that loads torch takes its time to start.
        return found if {queue for one in found for queue in one["queues"]} == {"cpu", "gpu"} else []

    name = until(listed, timeout_s=120, pause_s=0.5)[0]["name"]
    assert name in shell.ok("workers", "list", "--profile", "viewer")
    assert "measured" in shell.ok("workers", "show", name, "--profile", "viewer")
    shell.refused("workers", "drain", name, "--reason", "保守作業のために止めます", "--profile", "viewer", code="forbidden")
    with new_organization(platform.processes):
        shell.refused("workers", "cordon", name, "--reason", "保守作業のために止めます", "--profile", "admin", code="worker_shared")
    assert shell.json("workers", "demand", "gpu", "--profile", "admin")["queue"] == "gpu"


def test_a_job_that_nobody_takes_says_so_while_one_waits_for_it(idle: Processes, tmp_path: Path) -> None:
    with new_organization(idle) as platform:
        contributor = platform.as_("contributor")
        contributor.datasets.create(PROJECT, "faq")
        job = contributor.datasets.add_version(PROJECT, "faq", make_tiny_rows(tmp_path / "rows.jsonl", 5)).job_id
        assert job is not None
        found = contributor.jobs.get(job)
        assert found.waiting_for is not None
        assert found.waiting_for.text == "no active cpu worker"
        moved = changed(found, ServerEvent("state", "1", {"state": "running", "attempt": 1, "max_attempts": 5, "cancel_requested": False}))
        assert (moved.state, moved.waiting_for) == (JobState.RUNNING, None)


@contextmanager
def without_streams(platform: Platform) -> Iterator[str]:
    """The address of a proxy before the platform that lets no stream through."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0].endswith("/events"):
                status, kind, body = 200, "text/html", "<p>ここでは配信されません</p>".encode()
            else:
                answer = httpx.get(f"{platform.server}{self.path}", headers={"Authorization": self.headers["Authorization"]})
                status, kind, body = answer.status_code, answer.headers["Content-Type"], answer.content
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()  # thread: a proxy of other people
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()


def test_a_server_without_streams_is_not_understood_and_waiting_goes_on_by_looking(platform: Platform, tmp_path: Path) -> None:
    contributor = platform.as_("contributor")
    contributor.datasets.create(PROJECT, "faq")
    job = contributor.datasets.add_version(PROJECT, "faq", make_tiny_rows(tmp_path / "rows.jsonl", 60)).job_id
    assert job is not None
    with without_streams(platform) as server, RingiClient(server, platform.tokens["contributor"]) as client:
        for stream in (client.jobs.follow(), client.jobs.events(job)):
            with pytest.raises(AnswerNotUnderstood):
                next(stream)
        assert client.wait(job).state is JobState.SUCCEEDED
