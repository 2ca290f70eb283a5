"""One trace from the request over the relay to the worker, in a real OTLP receiver, also over a retry; and no text of users in it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from observe.conftest import PRIVATE, Watched, until_seen
from ringi.observe import tracing
from support.waiting import until

CALLERS = "0af7651916cd43dd8448eb211c80319c"


def test_one_trace_spans_the_caller_the_api_the_relay_and_the_worker(watched: Watched, worker: str, rows: Path) -> None:
    parent = f"00-{CALLERS}-b7ad6b7169203331-01"
    _, job = watched.ask(f"traced-{uuid4().hex[:6]}", rows, traceparent=parent)
    (run,) = until_seen(watched, job, "run validate_dataset")
    (enqueued,) = until_seen(watched, job, "enqueue")
    # A worker that is slow to start is nudged again, in the same trace.
    delivered, *again = until_seen(watched, job, r"deliver job\.ready")
    request = until(lambda: [one for one in watched.spans() if one["span_id"] == enqueued["parent"]])[0]
    assert {one["trace_id"] for one in (run, enqueued, delivered, request, *again)} == {CALLERS}
    assert request["parent"] == "b7ad6b7169203331"
    assert run["parent"] == delivered["parent"] == enqueued["span_id"]
    assert [one["service"] for one in (request, enqueued, delivered, run)] == ["ringi-api", "ringi-api", "ringi-relay", f"ringi-{worker}"]
    assert request["name"] == "POST /api/v1/projects/{project}/datasets/{dataset}/versions"
    assert request["attributes"]["http.response.status_code"] == 202
    assert (run["attributes"]["ringi.job.attempt"], run["attributes"]["ringi.job.outcome"]) == (1, "succeeded")


def test_a_retry_goes_on_in_the_trace_of_the_request(watched: Watched, worker: str, rows: Path) -> None:
    work = watched.processes.data / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.write_text("")  # a file where the workers' folder should be: every attempt fails
    try:
        answer, job = watched.ask(f"retried-{uuid4().hex[:6]}", rows)
        until_seen(watched, job, "run validate_dataset")
    finally:
        work.unlink()
    until(lambda: len(until_seen(watched, job, "run validate_dataset")) >= 2, timeout_s=60)
    until(lambda: len(until_seen(watched, job, r"deliver job\.ready")) >= 2, timeout_s=60)
    runs = until_seen(watched, job, "run validate_dataset")
    assert [one["attributes"]["ringi.job.outcome"] for one in runs] == ["queued", "succeeded"]
    assert [one["attributes"]["ringi.job.attempt"] for one in runs] == [1, 2]
    assert len({one["trace_id"] for one in runs + until_seen(watched, job, r"deliver job\.ready")}) == 1
    assert {one["attributes"]["ringi.request_id"] for one in runs} == {answer.headers["X-Request-Id"]}


def test_spans_hold_no_text_of_users_and_no_secret(watched: Watched, worker: str, rows: Path) -> None:
    name = f"private-{uuid4().hex[:6]}"
    _, job = watched.ask(name, rows)
    until_seen(watched, job, "run validate_dataset")
    told = json.dumps(watched.spans(), ensure_ascii=False)
    assert str(job) in told
    assert PRIVATE not in told
    assert name not in told
    assert all(secret not in told for secret in (*watched.platform.tokens.values(), "検証株式会社", "Bearer"))
    assert {one["events"] for one in watched.spans()} == {0}, "an error's words would be an event"


def test_without_a_listener_the_sdk_is_not_loaded_and_a_callers_trace_is_still_carried() -> None:
    code = f"""
import sys
from ringi.observe import tracing
with tracing.span("GET", parent="00-{CALLERS}-b7ad6b7169203331-01"):
    print(tracing.traceparent(), tracing.current_ids()["trace_id"])
with tracing.span("GET"):
    print(tracing.traceparent())
print(any(name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "requests")) for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == [f"00-{CALLERS}-b7ad6b7169203331-01", CALLERS, "None", "False"]


def test_a_malformed_traceparent_begins_no_trace() -> None:
    for malformed in ("", "00-zz-11-01", f"00-{'0' * 32}-b7ad6b7169203331-01", f"ff-{CALLERS}-b7ad6b7169203331-01", "x" * 10_000):
        with tracing.span("GET", parent=malformed):
            assert tracing.traceparent() is None
