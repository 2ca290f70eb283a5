"""What processes count: at the API with a token, at a door of their own otherwise; labels that no caller can multiply."""

import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from observe.conftest import METRICS_TOKEN, Watched, samples_of, value_of
from ringi.embedded import valkey
from ringi.observe import metrics
from support.hub_client import free_port
from support.running_platform import start_api
from support.waiting import until

pytestmark = pytest.mark.long


def test_metrics_are_for_who_has_the_token(watched: Watched) -> None:
    for token in (None, "wrong", watched.platform.tokens["admin"], watched.platform.tokens["auditor"]):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = httpx.get(f"{watched.processes.server}/metrics", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert httpx.get(f"http://127.0.0.1:{watched.doors['relay']}/metrics", headers=headers).status_code == 401
    assert watched.scrape()


def test_a_request_is_counted_under_its_template_and_never_under_its_path(watched: Watched) -> None:
    before = len(watched.scrape())
    # Methods that every parser of HTTP knows and no route has.
    for method in ("PROPFIND", "MKCOL", "LOCK", "REPORT", "PURGE") * 4:
        httpx.get(f"{watched.processes.server}/api/v1/jobs/{uuid4()}")
        httpx.get(f"{watched.processes.server}/{uuid4().hex}/秘密")
        httpx.request(method, f"{watched.processes.server}/healthz")
    after = watched.scrape()
    template = {"method": "GET", "route": "/api/v1/jobs/{job_id}"}
    assert (value_of(after, "ringi_http_requests_total", status="401", **template) or 0) >= 20
    assert (value_of(after, "ringi_http_request_duration_seconds_count", **template) or 0) >= 20
    assert (value_of(after, "ringi_http_requests_total", route="unmatched", status="404") or 0) >= 20
    assert (value_of(after, "ringi_http_requests_total", method="OTHER") or 0) >= 20
    # Two templates with their buckets at most: sixty requests to sixty paths made no sixty series.
    assert len(after) - before < 60
    assert value_of(after, "ringi_http_requests_in_flight") == 1, "the scrape itself"
    assert (value_of(after, "ringi_database_pool_limit") or 0) > (value_of(after, "ringi_database_pool_in_use") or 0)


def test_a_job_is_counted_by_the_relay_the_worker_and_the_database(watched: Watched, worker: str, rows: Path) -> None:
    ended = value_of(watched.scrape(), "ringi_jobs_ended_total", kind="validate_dataset", outcome="succeeded") or 0
    sent = value_of(watched.scrape("relay"), "ringi_outbox_deliveries_total", topic="job.ready", outcome="sent") or 0
    _, job = watched.ask(f"counted-{uuid4().hex[:6]}", rows)
    watched.platform.succeeded(job)
    until(lambda: value_of(watched.scrape(worker), "ringi_job_attempts_total", kind="validate_dataset", outcome="succeeded"))
    of_worker = watched.scrape(worker)
    assert (value_of(of_worker, "ringi_job_attempt_duration_seconds_count", kind="validate_dataset") or 0) >= 1
    assert (value_of(of_worker, "ringi_job_wait_seconds_count", kind="validate_dataset") or 0) >= 1
    assert value_of(of_worker, "ringi_worker_jobs_running") == 0
    # A worker that is slow to start is nudged again.
    assert (value_of(watched.scrape("relay"), "ringi_outbox_deliveries_total", topic="job.ready", outcome="sent") or 0) >= sent + 1
    scraped = watched.scrape()
    assert value_of(scraped, "ringi_jobs_ended_total", kind="validate_dataset", outcome="succeeded") == ended + 1
    assert value_of(scraped, "ringi_database_gauges_complete") == 1
    assert (value_of(scraped, "ringi_blob_bytes") or 0) > 0
    assert (value_of(scraped, "ringi_process_last_sign_seconds", role="relay") or 0) < 30
    until(lambda: value_of(watched.scrape(), "ringi_audit_unsigned_leaves") == 0)
    assert (value_of(watched.scrape("sequencer"), "ringi_audit_events_sequenced_total") or 0) > 0


def test_a_broker_that_is_away_shows_as_a_backlog(watched: Watched, nobody: None, rows: Path) -> None:
    valkey.stop(watched.valkey_folder)
    try:
        _, job = watched.ask(f"waiting-{uuid4().hex[:6]}", rows)
        until(lambda: value_of(watched.scrape("relay"), "ringi_outbox_deliveries_total", outcome="away"))
        scraped = watched.scrape()
        assert (value_of(scraped, "ringi_outbox_messages", topic="job.ready") or 0) >= 1
        assert (value_of(scraped, "ringi_outbox_oldest_seconds", topic="job.ready") or 0) > 0
        assert (value_of(scraped, "ringi_jobs", queue="cpu", state="queued") or 0) >= 1
        assert (value_of(scraped, "ringi_jobs_oldest_queued_seconds", queue="cpu") or 0) > 0
    finally:
        valkey.start(watched.valkey_folder)
    until(lambda: not value_of(watched.scrape(), "ringi_outbox_messages", topic="job.ready"), timeout_s=60)
    watched.platform.as_("contributor").jobs.cancel(job)


def test_several_api_processes_on_one_port_answer_for_all_of_them(watched: Watched, tmp_path: Path) -> None:
    port, shared = free_port(), tmp_path / "shared"
    shared.mkdir()
    environment = watched.processes.environment | {"PROMETHEUS_MULTIPROC_DIR": str(shared), "RINGI_PROCESS_NAME": "api"}
    command = [sys.executable, "-m", "ringi.api", "--port", str(port), "--workers", "2"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:

        def answers() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
            except httpx.TransportError:
                return False

        until(answers, timeout_s=120)
        asked = 0

        def both_have_counted() -> bool:
            # A connection each, so that the second process gets some as soon as it is there.
            nonlocal asked
            assert httpx.get(f"http://127.0.0.1:{port}/api/v1/whoami", timeout=30).status_code == 401
            asked += 1
            return len([file for file in shared.glob("counter_*.db") if b"/api/v1/whoami" in file.read_bytes()]) == 2

        until(both_have_counted, timeout_s=120)

        def counted() -> float | None:
            answer = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}, timeout=30)
            return value_of(samples_of(answer.text), "ringi_http_requests_total", route="/api/v1/whoami", status="401")

        # A request is counted when its answer is out.
        until(lambda: counted() == asked)
        assert [counted() for _ in range(4)] == [asked] * 4, "whichever process answers"
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_gauges_of_a_process_that_is_gone_are_left_out(tmp_path: Path) -> None:
    code = "from ringi.observe import metrics; metrics.POOL_LIMIT.set(20); metrics.SEQUENCED.inc(3)"
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    read = "from prometheus_client import generate_latest; from ringi.observe import metrics; print(generate_latest(metrics.readable()).decode())"
    done = subprocess.run([sys.executable, "-c", read], env=environment, check=True, timeout=60, capture_output=True, text=True)
    scraped = samples_of(done.stdout)
    assert value_of(scraped, "ringi_audit_events_sequenced_total") == 6, "what was counted stays counted"
    assert not value_of(scraped, "ringi_database_pool_limit"), "what a dead process held is held no more"


def test_an_api_without_a_token_shows_its_metrics_to_nobody(watched: Watched) -> None:
    port = free_port()
    before = watched.processes.environment
    watched.processes.environment = before | {"RINGI_PUBLIC_URL": f"http://127.0.0.1:{port}", "RINGI_METRICS_TOKEN": ""}
    try:
        start_api(watched.processes, "api-without-token")
        for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer x"}):
            assert httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers).status_code == 401
        watched.processes.kill("api-without-token")
    finally:
        watched.processes.environment = before


def test_every_metric_of_ours_is_named_as_prometheus_names_them() -> None:
    for family in metrics.REGISTRY.collect():
        assert family.name.startswith(("ringi_", "process_"))
        assert family.documentation.endswith((".", "seconds.")) or family.name.startswith("process_")
