"""Log lines: JSON for machines and words for people, with the ids that lead from a request to its job, and without secrets."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from observe.conftest import METRICS_TOKEN, PRIVATE, Watched
from ringi.identity import tokens
from ringi.observe.redaction import HIDDEN, redact, secrets_of
from ringi.observe.requests import request_id_of
from ringi.settings import Settings
from support.running_platform import PROJECT, SETUP_KEY
from support.waiting import until

SAYING = """
import logging
from ringi.observe import context, logs
logs.configure()
with context.scope(request_id="r-1"):
    logging.getLogger("ringi.test").warning("一行目\\n%s", "二行目", extra={"duration_ms": 1.5})
    try:
        raise ValueError("hf_rgi" + "A" * 49)
    except ValueError:
        logging.getLogger("ringi.test").exception("失敗")
"""


def said(**environment: str) -> str:
    """What a process without a terminal writes."""
    done = subprocess.run(
        [sys.executable, "-c", SAYING], capture_output=True, text=True, check=True, timeout=60, env=os.environ | environment
    )
    return done.stderr


def said_to_a_terminal() -> str:
    """What a process writes whose standard error is a terminal."""
    reading, writing = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", SAYING], stderr=writing)
    os.close(writing)
    text = b""
    try:
        while piece := os.read(reading, 4096):
            text += piece
    except OSError:  # Linux: the terminal's last writer is gone
        pass
    os.close(reading)
    assert process.wait(timeout=60) == 0
    return text.decode().replace("\r\n", "\n")


def test_without_a_terminal_every_line_is_json_with_what_is_known() -> None:
    first, second = (json.loads(line) for line in said(RINGI_PROCESS_NAME="検証").splitlines())
    assert (first["level"], first["logger"], first["process"]) == ("warning", "ringi.test", "検証")
    assert (first["message"], first["request_id"], first["duration_ms"]) == ("一行目\n二行目", "r-1", 1.5)
    assert first["time"].endswith("Z")
    assert second["error"]["type"] == "ValueError"
    assert "Traceback" in second["error"]["story"]
    assert "hf_rgi" not in json.dumps(second)


def test_a_terminal_gets_words_and_a_line_feed_of_a_caller_begins_no_line() -> None:
    lines = said_to_a_terminal().splitlines()
    assert lines[0].endswith("WARNING ringi.test 一行目\\n二行目  [request_id=r-1 duration_ms=1.5]")
    assert any(line.startswith("Traceback") for line in lines)
    assert all(not line.startswith("二行目") for line in lines)


def test_the_format_can_be_chosen(tmp_path: Path) -> None:
    assert "WARNING ringi.test" in said(RINGI_LOG_FORMAT="text")
    assert said(RINGI_LOG_FORMAT="text", RINGI_LOG_LEVEL="ERROR").startswith("20")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(tokens.draw(), id="a token"),
        pytest.param(f"/api/v1/x?token={tokens.draw()[:30]}", id="a piece of a token"),
        "Authorization: Bearer abcdef123456",
        "authorization: basic dXNlcjpwYXNzd29yZA==",
        "postgresql+psycopg://ringi_app:s3cr3t-Pass@db.example/ringi",
        "redis://:s3cr3t-Pass@valkey:6379/0",
        "PRIVATE+KEY+ringi.local/audit/1+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    hidden = redact(f"前 {text} 後")
    assert HIDDEN in hidden
    assert not any(secret in hidden for secret in ("s3cr3t", "abcdef123456", "dXNlc", "AYEKF", "MC4C", tokens.PREFIX))
    assert hidden.startswith("前 ")


def test_what_looks_like_no_secret_stays() -> None:
    text = "job 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e: http://127.0.0.1:8400/hf/本番, sha256:abc, 'bearer of news'"
    assert redact(text) == text


def test_the_secrets_of_the_deployment_are_known() -> None:
    settings = Settings(
        setup_key="the-setup-key", metrics_token="the-metrics-token", broker_url="redis://:broker-pass@h/0", database_url="postgresql://u:db-pass-1@h/d"
    )  # fmt: skip
    known = secrets_of(settings)
    assert set(known) == {"the-setup-key", "the-metrics-token", "broker-pass", "db-pass-1"}
    assert redact("x the-setup-key y db-pass-1", known) == f"x {HIDDEN} y {HIDDEN}"


@pytest.mark.parametrize("given", ["checkout-42", "a", "A.b_c:d-9", "9" * 64])
def test_a_callers_request_id_is_taken(given: str) -> None:
    assert request_id_of({b"x-request-id": given.encode()}) == given


@pytest.mark.parametrize("given", ["", "-x", "a" * 65, "a b", "a\nb", "日本語", "<script>", pytest.param(tokens.draw()[:40], id="a token")])
def test_a_request_id_that_is_none_is_replaced(given: str) -> None:
    drawn = request_id_of({b"x-request-id": given.encode()})
    assert drawn != given
    assert len(drawn) == 36


def test_the_id_of_a_request_leads_to_its_lines_in_the_api_and_in_the_worker(watched: Watched, worker: str, rows: Path) -> None:
    given = f"checkout-{uuid4().hex[:6]}"
    answer, job = watched.ask(f"logged-{uuid4().hex[:6]}", rows, **{"X-Request-Id": given})
    assert answer.headers["X-Request-Id"] == given

    def about(name: str) -> list[dict[str, object]]:
        return [line for line in watched.lines(name) if line.get("request_id") == given]

    told = until(lambda: [line for line in about(worker) if str(line["message"]).endswith("succeeded")])[0]
    assert (told["job_id"], told["job_kind"], told["attempt"], told["process"]) == (str(job), "validate_dataset", "1", worker)
    (request,) = [line for line in about("api") if line["logger"] == "ringi.requests"]
    assert (request["route"], request["status"]) == ("/api/v1/projects/{project}/datasets/{dataset}/versions", "202")
    assert request["organization"] == told["organization"]
    assert request["actor"]
    assert request["trace_id"] == told["trace_id"]


def test_the_id_of_a_request_stands_in_the_audit_event_that_it_caused(watched: Watched) -> None:
    given = f"audit-{uuid4().hex[:6]}"
    body = {"name": f"named-{uuid4().hex[:6]}"}
    answer = watched.platform.call("contributor", "POST", f"/projects/{PROJECT}/datasets", json=body, headers={"X-Request-Id": given})
    assert answer.status_code == 201
    with watched.superuser() as database:
        found = database.execute(
            "SELECT action FROM audit_event WHERE convert_from(body, 'UTF8')::jsonb ->> 'request_id' = %s", [given]
        ).fetchall()
    assert found == [("dataset.create",)]


def test_no_log_of_any_process_holds_a_token_a_secret_or_a_users_text(watched: Watched, worker: str, rows: Path) -> None:
    token, server = watched.platform.tokens["contributor"], watched.processes.server
    httpx.get(f"{server}/api/v1/{token}?key={token}", headers={"Authorization": f"Bearer {token}", "X-Request-Id": token})
    httpx.get(f"{server}/api/v1/whoami", headers={"Authorization": f"Basic {SETUP_KEY}"})
    _, job = watched.ask(f"quiet-{uuid4().hex[:6]}", rows)
    watched.platform.succeeded(job)
    secrets = [*watched.platform.tokens.values(), SETUP_KEY, METRICS_TOKEN, PRIVATE]
    secrets += [part for url in (watched.processes.urls.app_url,) if (part := url.partition("//")[2].partition("@")[0].partition(":")[2])]
    for name in ("api", "relay", "sequencer", worker):
        log = watched.processes.log_of(name)
        assert log, name
        assert not [secret for secret in secrets if secret in log], name
    assert "[hidden]" in watched.processes.log_of("api"), "the path with the token was told, without it"


def test_every_line_of_every_process_is_json(watched: Watched, worker: str) -> None:
    until(lambda: any("ready" in str(line["message"]) for line in watched.lines(worker)), timeout_s=60)
    for name in ("api", "relay", "sequencer", worker):
        assert {"time", "level", "logger", "message", "process"} <= set(watched.lines(name)[0])
        assert {line["process"] for line in watched.lines(name)} == {name}
