"""Figures that are the database's, read when somebody scrapes: every API process gives the same ones, so dashboards take `max`, never `sum`.

Each question has a bound in time of its own and all together have one; a question without an answer leaves its figures out and
`ringi_database_gauges_complete` at 0. Ages are differences of the database's own times, so a clock that jumps elsewhere does not matter.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError

from ringi.audit.generations import GROWING
from ringi.audit.models import AuditCheckpoint, AuditEvent, AuditHead, AuditPending
from ringi.audit.read_only import open_stop
from ringi.evaluation.models import Evaluation
from ringi.events.models import Delivery, OutboxMessage, Subscription
from ringi.events.schemas import DeliveryState
from ringi.jobs.contracts.kinds import JobKind, Queue
from ringi.jobs.models import Job
from ringi.jobs.schemas import NOT_OVER, JobState
from ringi.observe import probes, signs
from ringi.storage.models import Blob

# Of all questions together; each has the statement timeout of a probe.
BUDGET_S = 5.0
Value = tuple[tuple[str, ...], float]


class Family(NamedTuple):
    """One metric that the database answers for."""

    name: str
    about: str
    labels: tuple[str, ...] = ()
    counter: bool = False

    def of(self, values: Sequence[Value]) -> Metric:
        """Its samples."""
        kind = CounterMetricFamily if self.counter else GaugeMetricFamily
        family = kind(self.name, self.about, labels=self.labels)
        for labels, value in values:
            family.add_metric(labels, value)
        return family


JOBS = Family("ringi_jobs", "Jobs that are not over. state: queued, running or paused.", ("queue", "state"))
JOBS_OLDEST = Family("ringi_jobs_oldest_queued_seconds", "How long the oldest due job has been due; missing when none waits.", ("queue",))
JOBS_SILENT = Family("ringi_jobs_leases_expired", "Running jobs whose worker fell silent and that nobody took back yet.")
JOBS_ENDED = Family("ringi_jobs_ended", "Jobs that ended. outcome: succeeded, failed or cancelled.", ("kind", "outcome"), counter=True)
OUTBOX = Family("ringi_outbox_messages", "Messages not delivered yet. state: due, or later.", ("topic", "state"))
OUTBOX_OLDEST = Family("ringi_outbox_oldest_seconds", "Age of the oldest message that is due or was tried in vain.", ("topic",))
DELIVERIES = Family(
    "ringi_deliveries",
    "Deliveries of events that are not done, to subscriptions that are enabled. state: due, or later.",
    ("channel", "state"),
)
DELIVERIES_OLDEST = Family(
    "ringi_deliveries_oldest_due_seconds", "How long the oldest due delivery has been due; missing when none is.", ("channel",)
)
AUDIT_PENDING = Family("ringi_audit_pending", "Audit events without a place in the log.")
AUDIT_PENDING_OLDEST = Family("ringi_audit_pending_oldest_seconds", "Age of the oldest of them; missing when there is none.")
AUDIT_LEAVES = Family("ringi_audit_leaves", "Events in the log.")
AUDIT_UNSIGNED = Family("ringi_audit_unsigned_leaves", "Events in the log that no signed checkpoint covers.")
AUDIT_CHECKPOINT = Family("ringi_audit_checkpoint_age_seconds", "Time since the last signed checkpoint; missing before the first. A log that does not grow is not signed anew.")  # fmt: skip
AUDIT_READ_ONLY = Family(
    "ringi_audit_read_only", "1 while the platform is read-only because its audit log does not agree with what was signed, else 0."
)
VERDICTS = Family("ringi_evaluations_completed", "Completed evaluations by verdict.", ("verdict",), counter=True)
BLOB_BYTES = Family("ringi_blob_bytes", "Bytes of all sealed blobs.")
BLOBS = Family("ringi_blobs", "Sealed blobs.")
SIGNS = Family(
    "ringi_process_last_sign_seconds",
    "Time since the newest sign of life. role: relay, sequencer, notifier or watcher; missing before the first.",
    ("role",),
)
COMPLETE = Family("ringi_database_gauges_complete", "1 when the database answered every question of this scrape, else 0.")
Answered = Iterator[tuple[Family, Sequence[Value]]]
_now = func.clock_timestamp


def _open_jobs(connection: Connection) -> Answered:
    # unscoped: figures of the whole deployment, which no organisation's role may read.
    due = (Job.state == JobState.QUEUED) & (Job.not_before <= _now())
    silent = (Job.state == JobState.RUNNING) & (Job.lease_until < _now())
    age = func.extract("epoch", _now() - func.min(Job.not_before).filter(due))
    asked = select(Job.queue, Job.state, func.count(), age, func.count().filter(silent)).where(Job.state.in_(NOT_OVER))
    rows = connection.execute(asked.group_by(Job.queue, Job.state)).all()
    counts = {(queue.value, state.value): 0.0 for queue in Queue for state in sorted(NOT_OVER)}
    counts |= {(str(queue), str(state)): float(count) for queue, state, count, _, _ in rows}
    yield JOBS, list(counts.items())
    yield JOBS_OLDEST, [((str(queue),), float(age)) for queue, _, _, age, _ in rows if age is not None]
    yield JOBS_SILENT, [((), float(sum(expired for *_, expired in rows)))]


def _ended_jobs(connection: Connection) -> Answered:
    # unscoped: as above.
    asked = select(Job.kind, Job.state, func.count()).where(Job.state.not_in(NOT_OVER)).group_by(Job.kind, Job.state)
    counts = {(kind.value, state.value): 0.0 for kind in JobKind for state in JobState if state not in NOT_OVER}
    counts |= {(str(kind), str(state)): float(count) for kind, state, count in connection.execute(asked)}
    yield JOBS_ENDED, list(counts.items())


def _outbox(connection: Connection) -> Answered:
    due = OutboxMessage.not_before <= _now()
    # A message that was tried in vain is due later again and again: its age counts from its birth.
    age = func.extract("epoch", _now() - func.min(OutboxMessage.created_at).filter(due | (OutboxMessage.attempts > 0)))
    asked = select(OutboxMessage.topic, func.count().filter(due), func.count(), age).where(OutboxMessage.sent_at.is_(None))
    rows = connection.execute(asked.group_by(OutboxMessage.topic)).all()
    counts = [((topic, state), float(count)) for topic, now, all_of, _ in rows for state, count in (("due", now), ("later", all_of - now))]
    yield OUTBOX, counts
    yield OUTBOX_OLDEST, [((topic,), float(age)) for topic, _, _, age in rows if age is not None]


def _deliveries(connection: Connection) -> Answered:
    due = Delivery.next_attempt_at <= _now()
    age = func.extract("epoch", _now() - func.min(Delivery.next_attempt_at).filter(due))
    # unscoped: as above.
    asked = select(Subscription.channel, func.count().filter(due), func.count(), age).join(
        Delivery, Delivery.subscription_id == Subscription.id
    )
    waiting = asked.where(Delivery.state == DeliveryState.PENDING, Subscription.disabled_at.is_(None), Subscription.deleted_at.is_(None))
    rows = connection.execute(waiting.group_by(Subscription.channel)).all()
    yield DELIVERIES, [((str(at), state), float(n)) for at, now, all_of, _ in rows for state, n in (("due", now), ("later", all_of - now))]
    yield DELIVERIES_OLDEST, [((str(channel),), float(age)) for channel, _, _, age in rows if age is not None]


def _audit(connection: Connection) -> Answered:
    pending = connection.execute(select(func.count(), func.min(AuditPending.event_id)).select_from(AuditPending)).one()
    yield AUDIT_PENDING, [((), float(pending[0]))]
    # unscoped: as above.
    age = connection.scalar(select(func.extract("epoch", _now() - AuditEvent.ts)).where(AuditEvent.id == pending[1]))
    yield AUDIT_PENDING_OLDEST, [((), float(age))] if age is not None else []
    size = connection.scalar(select(AuditHead.size)) or 0
    last = connection.execute(
        select(AuditCheckpoint.size, func.extract("epoch", _now() - AuditCheckpoint.created_at))
        .where(AuditCheckpoint.generation == GROWING)
        .order_by(AuditCheckpoint.size.desc())
        .limit(1)
    ).one_or_none()
    yield AUDIT_LEAVES, [((), float(size))]
    yield AUDIT_UNSIGNED, [((), float(max(0, size - (last[0] if last else 0))))]
    yield AUDIT_CHECKPOINT, [((), float(last[1]))] if last else []
    yield AUDIT_READ_ONLY, [((), float(open_stop(connection) is not None))]


def _verdicts(connection: Connection) -> Answered:
    verdict = Evaluation.summary["verdict"].astext
    # unscoped: as above.
    asked = select(verdict, func.count()).where(Evaluation.completed_at.is_not(None)).group_by(verdict)
    yield VERDICTS, [((str(found),), float(count)) for found, count in connection.execute(asked)]


def _blobs(connection: Connection) -> Answered:
    count, size = connection.execute(select(func.count(), func.coalesce(func.sum(Blob.size), 0)).select_from(Blob)).one()
    yield BLOBS, [((), float(count))]
    yield BLOB_BYTES, [((), float(size))]


def _signs(connection: Connection) -> Answered:
    yield SIGNS, [((role,), age) for role, age in signs.seconds_since(connection).items()]


QUESTIONS: tuple[Callable[[Connection], Answered], ...] = (_open_jobs, _outbox, _deliveries, _audit, _signs, _blobs, _verdicts, _ended_jobs)
FAMILIES = (
    JOBS, JOBS_OLDEST, JOBS_SILENT, JOBS_ENDED, OUTBOX, OUTBOX_OLDEST, DELIVERIES, DELIVERIES_OLDEST, AUDIT_PENDING, AUDIT_PENDING_OLDEST, AUDIT_LEAVES, AUDIT_UNSIGNED,
    AUDIT_CHECKPOINT, AUDIT_READ_ONLY, VERDICTS, BLOB_BYTES, BLOBS, SIGNS, COMPLETE,
)  # fmt: skip


class DatabaseGauges(Collector):
    """Asks the database at every scrape."""

    def collect(self) -> Iterator[Metric]:
        """What the database said in time."""
        complete, deadline = True, time.monotonic() + BUDGET_S
        try:
            with probes.connected(platform=True) as connection:
                for ask in QUESTIONS:
                    if time.monotonic() > deadline:
                        complete = False
                        break
                    try:
                        yield from [family.of(values) for family, values in list(ask(connection))]
                    except SQLAlchemyError:
                        complete = False
        except SQLAlchemyError:
            complete = False
        yield COMPLETE.of([((), float(complete))])
