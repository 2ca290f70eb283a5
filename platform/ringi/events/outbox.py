"""The only way anything leaves the database: `put` in the caller's transaction, `deliver_due` and `purge` in the relay."""

import random
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from ringi.events.models import OutboxMessage
from ringi.events.schemas import Topic
from ringi.observe import context, tracing, work

CHANNEL = "ringi_outbox"
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 30.0


def put(
    session: Session, topic: Topic, *, key: str, payload: dict[str, str], delay_s: float = 0.0, traceparent: str | None = None,
    request_id: str | None = None,
) -> None:  # fmt: skip
    """Announce `key` on `topic` once the caller's transaction commits, at the earliest after `delay_s` seconds.

    `traceparent` and `request_id` say what it goes back to, by default what is being worked on now.
    """
    message = insert(OutboxMessage).values(
        topic=topic, key=key, payload=payload, not_before=func.clock_timestamp() + timedelta(seconds=delay_s),
        traceparent=traceparent or tracing.traceparent(), request_id=request_id or context.current().get("request_id"),
    )  # fmt: skip
    # PostgreSQL sends the notification at the commit, so the relay wakes exactly when the row becomes visible.
    session.execute(message.returning(func.pg_notify(CHANNEL, "")))


def deliver_due(session: Session, send: Callable[[OutboxMessage], None], *, batch: int = 100) -> int:
    """Send what is due and return how many went out. SKIP LOCKED lets relays run side by side.

    The first failure ends the batch: the broker is away, and the rest would only wait for it while holding their rows.
    A crash between `send` and the commit sends again: receivers treat a message as a nudge, not as a fact.
    """
    due = select(OutboxMessage).where(OutboxMessage.sent_at.is_(None), OutboxMessage.not_before <= func.clock_timestamp())
    sent = 0
    for message in session.scalars(due.order_by(OutboxMessage.id).limit(batch).with_for_update(skip_locked=True)).all():
        message.attempts += 1
        try:
            with work.delivery(
                topic=message.topic,
                key=message.key,
                number=message.attempts,
                traceparent=message.traceparent,
                request_id=message.request_id,
            ):
                send(message)
        except OSError as error:
            message.last_error = f"{type(error).__name__}: {error}"[:500]
            message.not_before = func.clock_timestamp() + timedelta(seconds=_backoff_s(message.attempts))
            break
        message.sent_at = func.clock_timestamp()
        message.last_error = None
        sent += 1
    return sent


def purge(session: Session, *, sent_before: timedelta, batch: int = 1000) -> int:
    """Remove messages that went out longer ago than `sent_before`, the oldest first; returns how many."""
    old = select(OutboxMessage.id).where(OutboxMessage.sent_at < func.clock_timestamp() - sent_before)
    oldest = old.order_by(OutboxMessage.id).limit(batch).with_for_update(skip_locked=True)
    return len(session.scalars(delete(OutboxMessage).where(OutboxMessage.id.in_(oldest)).returning(OutboxMessage.id)).all())


def _backoff_s(attempts: int) -> float:
    longest: float = min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2 ** min(attempts, 10))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret
