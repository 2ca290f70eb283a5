"""What this process counts, in the words of Prometheus (docs/observability.md lists it all; a test keeps the list).

Labels have few values by construction: a route is its template, a status its number, a kind one of a fixed list. Durations are measured on
the monotonic clock, or are differences of the database's own times. With PROMETHEUS_MULTIPROC_DIR set (several API processes on one port)
every process writes into that folder, and whichever one is asked answers for all of them.
"""

import os
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from sqlalchemy import Engine, event
from sqlalchemy.pool import QueuePool

# The moment of birth of every counter would double the series, and nothing here asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library types all but a few
REGISTRY = CollectorRegistry()
_SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WORK_BUCKETS = (0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 12 * 3600.0)

REQUESTS = Counter(
    "ringi_http_requests", "Requests answered by the API. status: the number, or `gone` when the client left before the answer began.",
    ["method", "route", "status"], registry=REGISTRY,
)  # fmt: skip
REQUEST_SECONDS = Histogram(
    "ringi_http_request_duration_seconds", "Time from a request's head to the last byte of its answer; event streams are left out.",
    ["method", "route"], buckets=_REQUEST_BUCKETS, registry=REGISTRY,
)  # fmt: skip
IN_FLIGHT = Gauge(
    "ringi_http_requests_in_flight", "Requests that are being answered now, event streams included.", registry=REGISTRY,
    multiprocess_mode="livesum",
)  # fmt: skip
EVENT_STREAMS = Gauge(
    "ringi_http_event_streams", "Answers of type text/event-stream that are open now.", registry=REGISTRY, multiprocess_mode="livesum"
)
POOL_IN_USE = Gauge(
    "ringi_database_pool_in_use", "Database connections of the API in use: as of the last time one was taken, or a request ended.",
    registry=REGISTRY, multiprocess_mode="livesum",
)  # fmt: skip
POOL_LIMIT = Gauge(
    "ringi_database_pool_limit", "Database connections that the API may open at most; a request waits for one beyond it.", registry=REGISTRY,
    multiprocess_mode="livesum",
)  # fmt: skip
DELIVERIES = Counter(
    "ringi_outbox_deliveries", "Attempts to deliver a message of the outbox (relay). outcome: sent, or away when the receiver did not take it.",
    ["topic", "outcome"], registry=REGISTRY,
)  # fmt: skip
ATTEMPTS = Counter(
    "ringi_job_attempts", "Attempts at jobs by this worker. outcome: succeeded, failed, queued (will be tried again), cancelled, paused, lost or crashed.",
    ["kind", "outcome"], registry=REGISTRY,
)  # fmt: skip
ATTEMPT_SECONDS = Histogram(
    "ringi_job_attempt_duration_seconds",
    "Time that a worker spent on one attempt at a job.",
    ["kind"],
    buckets=_WORK_BUCKETS,
    registry=REGISTRY,
)
WAIT_SECONDS = Histogram(
    "ringi_job_wait_seconds", "Time from a job's creation to its first start, by the database's clock (worker).", ["kind"], buckets=_WORK_BUCKETS,
    registry=REGISTRY,
)  # fmt: skip
RUNNING = Gauge("ringi_worker_jobs_running", "Jobs that this worker works on now.", registry=REGISTRY, multiprocess_mode="livesum")
SEQUENCED = Counter("ringi_audit_events_sequenced", "Audit events that got their place in the log (sequencer).", registry=REGISTRY)
SEQUENCER_PROBLEMS = Counter(
    "ringi_sequencer_problems", "Problems of the sequencer, each counted once while it lasts.", ["code"], registry=REGISTRY
)
ANCHOR_AGE = Gauge(
    "ringi_audit_anchor_age_seconds", "Time since the newest checkpoint was anchored there, or since the start (sequencer). place: a witness, or folder.",
    ["place"], registry=REGISTRY,
)  # fmt: skip
ANCHOR_FAILURES = Counter(
    "ringi_audit_anchor_failures", "Attempts to anchor that failed (sequencer). place: a witness, or folder.", ["place"], registry=REGISTRY
)
AUDIT_CHECKS = Counter(
    "ringi_audit_checks",
    "Comparisons of the log with what stands outside the database (sequencer). kind: quick, or full.",
    ["kind"],
    registry=REGISTRY,
)
AUDIT_FINDINGS = Counter(
    "ringi_audit_findings", "Differences that those found, counted at each of them. code: as in docs/audit.md.", ["code"], registry=REGISTRY
)
REFUSED_LOGINS = Counter(
    "ringi_refused_credentials", "Tokens and logins that were refused. reason: revoked, expired, signature, audience and so on.",
    ["reason"], registry=REGISTRY,
)  # fmt: skip
DENIALS = Counter(
    "ringi_denials",
    "Refusals of callers without the right. logged: yes, or no beyond what a caller has a minute.",
    ["logged"],
    registry=REGISTRY,
)
LOG_LINES = Counter(
    "ringi_log_lines", "Log lines that are worse than information. level: warning, error or critical.", ["level"], registry=REGISTRY
)
# Memory, processor time, open files and start time under the names that Prometheus dashboards know.
ProcessCollector(registry=REGISTRY)


def readable() -> CollectorRegistry:
    """What a scrape shall see: this process, or all that share the folder. Processes that are gone leave their gauges behind: removed here."""
    folder = os.environ.get(_SHARED_FOLDER)
    if not folder:
        return REGISTRY
    for pid in {int(file.stem.rpartition("_")[2]) for file in Path(folder).glob("gauge_live*_*.db")}:
        if not psutil.pid_exists(pid):
            mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]  # the library's only untyped part
    shared = CollectorRegistry()
    MultiProcessCollector(shared, folder)  # type: ignore[no-untyped-call]  # as above
    return shared


def pool_used(engine: Engine) -> None:
    """Note how many connections are taken."""
    if isinstance(engine.pool, QueuePool):
        POOL_IN_USE.set(engine.pool.checkedout())


def watch_pool(engine: Engine, *, limit: int) -> None:
    """Follow an engine's pool from now on; `limit` is how many connections it may open."""
    POOL_LIMIT.set(limit)
    event.listen(engine, "checkout", lambda *_: pool_used(engine))
