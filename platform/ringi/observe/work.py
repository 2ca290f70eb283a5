"""Around what happens after a request: a message's delivery by the relay, and an attempt at a job by a worker.

Both go on in the trace of the request that caused them, which their rows remember (`traceparent`), and under its request id.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from opentelemetry.trace import SpanKind

from ringi.observe import context, metrics, tracing


@dataclass
class _Attempt:
    outcome: str = "crashed"


_attempt: ContextVar[_Attempt | None] = ContextVar("ringi_attempt", default=None)


@contextmanager
def delivery(*, topic: str, key: str, number: int, traceparent: str | None, request_id: str | None) -> Iterator[None]:
    """One attempt to hand a message over; a failure is counted and raised on."""
    described = tracing.span(
        f"deliver {topic}", SpanKind.PRODUCER, parent=traceparent, ringi__outbox__topic=topic, ringi__outbox__key=key, ringi__outbox__attempt=number
    )  # fmt: skip
    outcome = "away"
    try:
        with context.scope(request_id=request_id, outbox_key=key), described:
            yield
        outcome = "sent"
    finally:
        metrics.DELIVERIES.labels(topic, outcome).inc()


@contextmanager
def attempt(
    *, job_id: UUID, kind: str, queue: str, number: int, organization: UUID | None, created_at: datetime, started_at: datetime | None,
    traceparent: str | None, request_id: str | None,
) -> Iterator[None]:  # fmt: skip
    """One attempt at a job; `ended` says how it went."""
    this, begun = _Attempt(), time.monotonic()
    token = _attempt.set(this)
    if number == 1 and started_at is not None:
        metrics.WAIT_SECONDS.labels(kind).observe((started_at - created_at).total_seconds())
    metrics.RUNNING.inc()
    described = tracing.span(
        f"run {kind}", SpanKind.CONSUMER, parent=traceparent, ringi__job__id=str(job_id), ringi__job__kind=kind, ringi__job__queue=queue,
        ringi__job__attempt=number, ringi__organization=str(organization) if organization else None, ringi__request_id=request_id,
    )  # fmt: skip
    try:
        with context.scope(request_id=request_id, job_id=job_id, job_kind=kind, attempt=number, organization=organization), described:
            try:
                yield
            finally:
                tracing.describe(ringi__job__outcome=this.outcome)
    finally:
        _attempt.reset(token)
        metrics.RUNNING.dec()
        metrics.ATTEMPTS.labels(kind, this.outcome).inc()
        metrics.ATTEMPT_SECONDS.labels(kind).observe(time.monotonic() - begun)


def ended(outcome: str) -> None:
    """How the current attempt went: succeeded, failed, queued, cancelled, paused or lost; outside of one, nothing happens."""
    this = _attempt.get()
    if this is not None:
        this.outcome = outcome
