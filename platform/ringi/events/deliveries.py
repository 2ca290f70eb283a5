"""The way of an event to a subscription: taken by one notifier at a time, attempted, and tried again with growing pauses.

A subscription has one delivery on its way at a time, whatever the number of notifiers: a lease on the subscription says whose. So first
attempts go out in the order of the events, and a slow receiver holds one slot. A notifier that dies loses its lease and the delivery is
attempted again (at least once). A success after failures lets everything that waits go at once.
"""

import random
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Select, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session, joinedload

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.events import subscriptions
from ringi.events.emission import matches, wake
from ringi.events.models import Delivery, DeliveryAttempt, Event, Subscription
from ringi.events.schemas import AttemptOutcome, DeliveryKind, DeliveryState, Replay
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.kit.actor import Actor, system_actor
from ringi.kit.errors import InvalidInput, NotFound
from ringi.kit.ids import uuid7
from ringi.settings import get_settings

MAX_REPLAY = 10_000
_LONGEST_WISH_S = 86_400.0
_JITTER = (0.8, 1.2)


class ReplayTooLarge(InvalidInput):
    """One replay makes a bounded number of deliveries."""

    code = "replay_too_large"

    def __init__(self) -> None:
        super().__init__(
            f"More than {MAX_REPLAY} events happened in that time.", next_step="Name a shorter period, and replay the next one afterwards."
        )


class Claimed(NamedTuple):
    """A delivery to attempt now, and the subscription as it stands; `at` is the database's time."""

    delivery: Delivery
    subscription: Subscription
    event: Event
    at: datetime


class Attempt(NamedTuple):
    """How an attempt ended. `gone`: the receiver wants nothing any more (410). `wait_s`: it asked for a pause (Retry-After)."""

    outcome: AttemptOutcome
    started_at: datetime
    duration_ms: int
    status_code: int | None = None
    response: str | None = None
    error: str | None = None
    gone: bool = False
    wait_s: float | None = None


def take(session: Session, *, owner: str, lease_s: float, not_hosts: Collection[str] = ()) -> Claimed | None:
    """The first due delivery of a subscription that nobody is sending to, other than to `not_hosts`; None when nothing is due."""
    now = func.clock_timestamp()
    # unscoped: the platform carries everybody's deliveries.
    is_due = (Delivery.state == DeliveryState.PENDING, Delivery.next_attempt_at <= now)
    free = select(Subscription.id).where(
        Subscription.disabled_at.is_(None), Subscription.deleted_at.is_(None), Subscription.host.not_in(not_hosts),
        or_(Subscription.lease_until.is_(None), Subscription.lease_until < now),
        exists().where(Delivery.subscription_id == Subscription.id, *is_due),
    )  # fmt: skip
    # Whose turn was longest ago comes first, however it ended: neither many deliveries nor a dead receiver push the others aside.
    next_one = (
        free.order_by(Subscription.last_taken_at.asc().nulls_first(), Subscription.id)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
    )
    leased = update(Subscription).where(Subscription.id == next_one.scalar_subquery())
    subscription = session.scalars(
        leased.values(last_taken_at=now, lease_owner=owner, lease_until=now + timedelta(seconds=lease_s)).returning(Subscription)
    ).one_or_none()
    if subscription is None:
        return None
    due = select(Delivery).where(Delivery.subscription_id == subscription.id, *is_due).order_by(Delivery.event_id, Delivery.id).limit(1)
    delivery = session.scalars(due.options(joinedload(Delivery.event).joinedload(Event.project))).one_or_none()
    if delivery is None:
        subscription.lease_owner = subscription.lease_until = None
        return None
    at = session.scalars(select(func.clock_timestamp())).one()
    return Claimed(delivery, subscription, delivery.event, at)


def record(session: Session, claimed: Claimed, attempt: Attempt, *, owner: str) -> DeliveryState:
    """Write the attempt down, decide what follows, and give the subscription free. Returns where the delivery stands."""
    # Key share: a change that tells of something refers to the subscription, and neither of the two waits for the other.
    # unscoped: the notifier's own delivery; the rows' locks order the reports of two notifiers, one of which lost its lease.
    subscription = session.scalars(
        select(Subscription).where(Subscription.id == claimed.subscription.id).with_for_update(key_share=True)
    ).one()
    delivery = session.scalars(select(Delivery).where(Delivery.id == claimed.delivery.id).with_for_update(key_share=True)).one()
    if subscription.lease_owner == owner:
        subscription.lease_owner = subscription.lease_until = None
    delivery.attempts += 1
    session.add(
        DeliveryAttempt(
            project_id=delivery.project_id, delivery_id=delivery.id, number=delivery.attempts, outcome=attempt.outcome, started_at=attempt.started_at,
            duration_ms=attempt.duration_ms, status_code=attempt.status_code, response=attempt.response, error=attempt.error,
        )
    )  # fmt: skip
    now: datetime = session.scalars(select(func.clock_timestamp())).one()
    if attempt.outcome is AttemptOutcome.DELIVERED:
        delivery.state, delivery.ended_at = DeliveryState.DELIVERED, now
        if subscription.failing_since is not None:
            subscriptions.send_now(session, subscription)
        subscription.failing_since, subscription.last_delivered_at = None, now
    else:
        _failed(session, subscription, delivery, attempt, now)
    session.flush()
    return DeliveryState(delivery.state)


def _failed(session: Session, subscription: Subscription, delivery: Delivery, attempt: Attempt, now: datetime) -> None:
    settings = get_settings()
    if delivery.state == DeliveryState.PENDING:
        if delivery.attempts > len(settings.delivery_backoff_s):
            delivery.state, delivery.ended_at = DeliveryState.FAILED, now
        else:
            delivery.next_attempt_at = now + timedelta(seconds=pause_s(settings.delivery_backoff_s, delivery.attempts, attempt.wait_s))
    subscription.failing_since = subscription.failing_since or now
    given_up = now - subscription.failing_since >= timedelta(seconds=settings.delivery_give_up_s)
    if (given_up or attempt.gone) and subscription.disabled_at is None and subscription.deleted_at is None:
        why = (
            "its receiver answered 410 Gone"
            if attempt.gone
            else f"nothing was delivered since {subscription.failing_since:%Y-%m-%d %H:%M} UTC"
        )
        # Everybody who may look at the project reads it: what the receiver said in full stands with the attempt, for who keeps the subscription.
        last = f"; the last attempt: {attempt.outcome}" + (f", {attempt.status_code}" if attempt.status_code else "")
        subscriptions.disable(session, system_actor("notifier"), subscription, reason=why + last)
    elif delivery.state == DeliveryState.FAILED and not _waiting(session, subscription):
        # Nothing is left that fails: what happens next begins anew.
        subscription.failing_since = None


def _waiting(session: Session, subscription: Subscription) -> bool:
    session.flush()  # the delivery at hand has just ended
    # unscoped: the notifier holds the subscription.
    pending = exists().where(Delivery.subscription_id == subscription.id, Delivery.state == DeliveryState.PENDING)
    return bool(session.scalar(select(pending)))


def pause_s(schedule: Sequence[float], attempts: int, wish_s: float | None = None) -> float:
    """Seconds after so many attempts that failed, with jitter of a fifth; a receiver's own wish is granted for up to a day."""
    pause = schedule[attempts - 1] * random.uniform(*_JITTER)  # noqa: S311  # jitter, not a secret
    return max(pause, min(wish_s or 0.0, _LONGEST_WISH_S))


def listed(actor: Actor, subscription: Subscription) -> Select[Delivery]:
    """A subscription's deliveries with what rendering them needs."""
    query = visible(actor, Delivery).where(Delivery.subscription_id == subscription.id)
    return query.options(joinedload(Delivery.event).joinedload(Event.project), joinedload(Delivery.subscription))


def find(session: Session, actor: Actor, *, project: Project, delivery_id: UUID) -> Delivery:
    """One delivery of the project."""
    query = visible(actor, Delivery).where(Delivery.id == delivery_id, Delivery.project_id == project.id)
    query = query.options(joinedload(Delivery.event).joinedload(Event.project), joinedload(Delivery.subscription))
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound("delivery", delivery_id)
    return found


def history(session: Session, delivery: Delivery) -> Sequence[DeliveryAttempt]:
    """Every attempt, the first one first."""
    # unscoped: the caller holds the delivery already.
    return session.scalars(select(DeliveryAttempt).where(DeliveryAttempt.delivery_id == delivery.id).order_by(DeliveryAttempt.number)).all()


def replay(session: Session, actor: Actor, *, subscription: Subscription, delivery: Delivery) -> Delivery:
    """The same event once more, in a delivery of its own with the same `webhook-id`."""
    _refuse_ended(subscription)
    again = Delivery(
        id=uuid7(), project_id=delivery.project_id, subscription_id=subscription.id, event_id=delivery.event_id, kind=DeliveryKind.REPLAY,
    )  # fmt: skip
    session.add(again)
    session.flush()  # the answer shows the database's times
    _note(session, actor, subscription, 1)
    return session.scalars(listed(actor, subscription).where(Delivery.id == again.id)).one()


def replay_period(session: Session, actor: Actor, *, subscription: Subscription, organization_id: UUID | None, body: Replay) -> int:
    """Deliver again what happened in a period and what the subscription asks for; returns how many deliveries were made."""
    _refuse_ended(subscription)
    # unscoped: events of the subscription's own project, and those of its organisation as a whole.
    mine = or_(Event.project_id == subscription.project_id, Event.project_id.is_(None) & (Event.organization_id == organization_id))
    happened = select(Event.id, Event.type).where(mine, Event.occurred_at >= body.since, Event.type != "subscription.tested")
    if body.until is not None:
        happened = happened.where(Event.occurred_at < body.until)
    if body.only_undelivered:
        arrived = (DeliveryState.DELIVERED, DeliveryState.PENDING)
        happened = happened.where(
            ~exists().where(Delivery.event_id == Event.id, Delivery.subscription_id == subscription.id, Delivery.state.in_(arrived))
        )
    rows = session.execute(happened.order_by(Event.id).limit(MAX_REPLAY + 1)).all()
    if len(rows) > MAX_REPLAY:
        raise ReplayTooLarge
    wanted = [
        {
            "id": uuid7(),
            "project_id": subscription.project_id,
            "subscription_id": subscription.id,
            "event_id": row.id,
            "kind": DeliveryKind.REPLAY,
        }
        for row in rows
        if matches(subscription.event_types, row.type)
    ]
    if wanted:
        session.execute(insert(Delivery), wanted)
    _note(session, actor, subscription, len(wanted))
    return len(wanted)


def _refuse_ended(subscription: Subscription) -> None:
    if subscription.deleted_at is not None:
        raise NotFound("subscription", subscription.name)
    if subscription.disabled_at is not None:
        raise subscriptions.SubscriptionDisabled(subscription.name)


def _note(session: Session, actor: Actor, subscription: Subscription, count: int) -> None:
    audit.record(
        session, actor, AuditAction.SUBSCRIPTION_REPLAY, object_type="subscription", object_id=subscription.id,
        project_id=subscription.project_id, details={"deliveries": count},
    )  # fmt: skip
    wake(session)
