"""HTTP for events, subscriptions and deliveries."""

import inspect
from collections import Counter
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session, joinedload

from ringi.events import deliveries, subscriptions, targets
from ringi.events.catalogue.names import CATALOGUE
from ringi.events.emission import of_pattern
from ringi.events.lists import DELIVERIES, EVENTS, SUBSCRIPTIONS
from ringi.events.models import Delivery, Event, Subscription
from ringi.events.schemas import (
    AttemptOut,
    ChangeSubscription,
    Channel,
    CreateSubscription,
    DeliveryOut,
    DeliveryState,
    DeliveryWithAttempts,
    EventOut,
    EventTypeOut,
    Pattern,
    Replay,
    Replayed,
    RotateSecret,
    SubscriptionOut,
    SubscriptionWithSecret,
)
from ringi.identity.dependencies import InProject, allowed, allowed_in_project
from ringi.identity.permissions import Permission, visible
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of, rows_of
from ringi.web.preconditions import IfMatch, Match, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, tags=["events"], responses=responses(Unauthenticated, Forbidden, NotFound))
IN_PROJECT = "/projects/{project}"
ONE = IN_PROJECT + "/subscriptions/{subscription}"
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Keeper = Annotated[InProject, allowed_in_project(Permission.SUBSCRIPTION_MANAGE)]
_TARGET = (targets.TargetRefused, targets.TargetUnresolved, subscriptions.UnknownEventType, subscriptions.EmailNotConfigured)


def _keeps(caller: InProject) -> bool:
    return caller.actor.may(Permission.SUBSCRIPTION_MANAGE, caller.project.id)


def event_out(event: Event) -> EventOut:
    """An event with its project's name."""
    project = event.project.name if event.project else None
    return EventOut(id=event.id, type=event.type, occurred_at=event.occurred_at, project=project, data=event.data)


def subscriptions_out(session: Session, caller: InProject, found: Sequence[Subscription]) -> list[SubscriptionOut]:
    """Subscriptions with what waits for them; addresses whole only for whoever may change them."""
    # unscoped: the caller holds the subscriptions already.
    waiting = select(Delivery.subscription_id, func.count()).where(
        Delivery.subscription_id.in_([one.id for one in found]), Delivery.state == DeliveryState.PENDING
    )
    counts = Counter({row[0]: row[1] for row in session.execute(waiting.group_by(Delivery.subscription_id))})
    return [
        SubscriptionOut(
            id=one.id, name=one.name, description=one.description, channel=one.channel, target=one.target if _keeps(caller) else _hidden(one),
            event_types=one.event_types, enabled=one.disabled_at is None, disabled_at=one.disabled_at, disabled_reason=one.disabled_reason,
            failing_since=one.failing_since, last_delivered_at=one.last_delivered_at, waiting=counts[one.id], created_at=one.created_at,
            row_version=one.row_version,
        )
        for one in found
    ]  # fmt: skip


def _hidden(one: Subscription) -> str:
    return f"{one.host}/…" if one.channel == Channel.WEBHOOK else f"…@{one.target.rpartition('@')[2]}"


def _out(session: Session, caller: InProject, one: Subscription) -> SubscriptionOut:
    return subscriptions_out(session, caller, [one])[0]


def delivery_out(one: Delivery) -> DeliveryOut:
    """A delivery with names instead of ids."""
    return DeliveryOut(
        id=one.id, subscription=one.subscription.name, event_id=one.event_id, event_type=one.event.type, kind=one.kind, state=one.state,
        attempts=one.attempts, next_attempt_at=one.next_attempt_at if one.state == DeliveryState.PENDING else None, ended_at=one.ended_at,
        created_at=one.created_at,
    )  # fmt: skip


@router.get("/event-types")
def list_event_types(actor: Annotated[Actor, allowed(Permission.ORGANIZATION_READ)]) -> list[EventTypeOut]:  # noqa: ARG001  # for people with a token
    """The catalogue: every event with the JSON Schema of its data."""
    return [
        EventTypeOut(type=name, title=data.TITLE, description=inspect.getdoc(data) or "", json_schema=data.model_json_schema())
        for name, data in CATALOGUE.items()
    ]


@router.get(IN_PROJECT + "/events")
def list_events(
    session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(EVENTS)], type: Annotated[Pattern | None, Query(description="A type or a pattern.")] = None  # noqa: A002  # the parameter's name
) -> Page[EventOut]:  # fmt: skip
    """What happened in the project, and to what its organisation shares, newest first."""
    query = _events(caller) if type is None else _events(caller).where(of_pattern(type))
    return page_of(session, query, ask, event_out)


def _events(caller: InProject) -> Select[Event]:
    query = visible(caller.actor, Event).where(or_(Event.project_id == caller.project.id, Event.project_id.is_(None)))
    return query.options(joinedload(Event.project))


@router.get(IN_PROJECT + "/events/{event_id}")
def get_event(session: SessionDep, caller: Reader, event_id: UUID) -> EventOut:
    """One event."""
    found = session.scalars(_events(caller).where(Event.id == event_id)).one_or_none()
    if found is None:
        raise NotFound("event", event_id)
    return event_out(found)


@router.post(
    IN_PROJECT + "/subscriptions", status_code=201,
    responses=responses(subscriptions.SubscriptionExists, subscriptions.TooManySubscriptions, *_TARGET),
)  # fmt: skip
def create_subscription(session: SessionDep, caller: Keeper, body: CreateSubscription) -> SubscriptionWithSecret:
    """Be told of events from now on; a webhook's secret is in this answer and nowhere else."""
    made = subscriptions.create(session, caller.actor, project=caller.project, body=body)
    return SubscriptionWithSecret(subscription=_out(session, caller, made), secret=made.secret)


@router.get(IN_PROJECT + "/subscriptions")
def list_subscriptions(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(SUBSCRIPTIONS)]) -> Page[SubscriptionOut]:
    """The project's subscriptions, newest first."""
    query = subscriptions.listed(caller.actor, caller.project)
    found = rows_of(session, query, ask)
    items = subscriptions_out(session, caller, [row[0] for row in found.rows])
    return Page(items=items, next_cursor=found.next_cursor, total=found.total, total_exact=found.total_exact)


@router.get(ONE)
def get_subscription(session: SessionDep, caller: Reader, subscription: str) -> SubscriptionOut:
    """One subscription, without its secret."""
    return _out(session, caller, subscriptions.find(session, caller.actor, project=caller.project, name=subscription))


@router.patch(ONE, responses=responses(subscriptions.WrongChannel, PreconditionFailed, *_TARGET))
def change_subscription(
    session: SessionDep, caller: Keeper, subscription: str, body: ChangeSubscription, match: IfMatch
) -> SubscriptionOut:
    """Another target, or other events; what waits goes to the new target."""
    host = subscriptions.judged(url=body.url, email=body.email)
    found = _locked(session, caller, subscription, match)
    return _out(session, caller, subscriptions.change(session, caller.actor, found, body, host=host))


def _locked(session: Session, caller: InProject, name: str, match: Match | None = None) -> Subscription:
    found = subscriptions.find(session, caller.actor, project=caller.project, name=name, lock=True)
    if match is not None:
        match.require(found.row_version)
    return found


@router.post(ONE + "/enable", responses=responses(subscriptions.SubscriptionAlready, PreconditionFailed))
def enable_subscription(session: SessionDep, caller: Keeper, subscription: str, match: IfMatch) -> SubscriptionOut:
    """Send again; what waits goes out at once."""
    return _out(session, caller, subscriptions.enable(session, caller.actor, _locked(session, caller, subscription, match)))


@router.post(ONE + "/disable", responses=responses(subscriptions.SubscriptionAlready, PreconditionFailed))
def disable_subscription(session: SessionDep, caller: Keeper, subscription: str, match: IfMatch) -> SubscriptionOut:
    """Send nothing more; what waits is kept, and what happens meanwhile can be replayed."""
    reason = f"by {caller.actor.name}"
    return _out(session, caller, subscriptions.disable(session, caller.actor, _locked(session, caller, subscription, match), reason=reason))


@router.post(ONE + "/secret", status_code=201, responses=responses(subscriptions.WrongChannel, PreconditionFailed))
def rotate_secret(session: SessionDep, caller: Keeper, subscription: str, body: RotateSecret, match: IfMatch) -> SubscriptionWithSecret:
    """A new secret, in this answer and nowhere else; the old one signs beside it for `overlap_h` hours."""
    found = _locked(session, caller, subscription, match)
    rotated = subscriptions.rotate_secret(session, caller.actor, found, overlap_h=body.overlap_h)
    return SubscriptionWithSecret(
        subscription=_out(session, caller, rotated), secret=rotated.secret, previous_secret_until=rotated.previous_secret_until
    )


@router.post(ONE + "/test", status_code=201, responses=responses(subscriptions.SubscriptionDisabled))
def test_subscription(session: SessionDep, caller: Keeper, subscription: str) -> DeliveryOut:
    """A test call on the way of every other delivery; follow it under /deliveries."""
    return delivery_out(subscriptions.test(session, caller.actor, _locked(session, caller, subscription)))


@router.post(ONE + "/replay", status_code=201, responses=responses(subscriptions.SubscriptionDisabled, deliveries.ReplayTooLarge))
def replay_period(session: SessionDep, caller: Keeper, subscription: str, body: Replay) -> Replayed:
    """Deliver again what happened in a period."""
    found = _locked(session, caller, subscription)
    made = deliveries.replay_period(session, caller.actor, subscription=found, organization_id=caller.project.organization_id, body=body)
    return Replayed(deliveries=made)


@router.delete(ONE, responses=responses(PreconditionFailed))
def delete_subscription(session: SessionDep, caller: Keeper, subscription: str, match: IfMatch) -> SubscriptionOut:
    """End it for good; what waits is dropped, its history stays in the database."""
    return _out(session, caller, subscriptions.delete(session, caller.actor, _locked(session, caller, subscription, match)))


@router.get(ONE + "/deliveries")
def list_deliveries(
    session: SessionDep,
    caller: Reader,
    ask: Annotated[Ask, asking(DELIVERIES)],
    subscription: str,
    state: Annotated[DeliveryState | None, Query()] = None,
) -> Page[DeliveryOut]:
    """Deliveries to a subscription, newest first."""
    found = subscriptions.find(session, caller.actor, project=caller.project, name=subscription)
    query = deliveries.listed(caller.actor, found)
    if state is not None:
        query = query.where(Delivery.state == state)
    return page_of(session, query, ask, delivery_out)


@router.get(IN_PROJECT + "/deliveries/{delivery_id}")
def get_delivery(session: SessionDep, caller: Reader, delivery_id: UUID) -> DeliveryWithAttempts:
    """One delivery with every attempt."""
    found = deliveries.find(session, caller.actor, project=caller.project, delivery_id=delivery_id)
    history = [AttemptOut.model_validate(one) for one in deliveries.history(session, found)]
    if not _keeps(caller):
        history = [one.model_copy(update={"response": None, "error": None}) for one in history]
    return DeliveryWithAttempts(**delivery_out(found).model_dump(), history=history)


@router.post(IN_PROJECT + "/deliveries/{delivery_id}/replay", status_code=201, responses=responses(subscriptions.SubscriptionDisabled))
def replay_delivery(session: SessionDep, caller: Keeper, delivery_id: UUID) -> DeliveryOut:
    """The same event once more, in a delivery of its own with the same `webhook-id`."""
    found = deliveries.find(session, caller.actor, project=caller.project, delivery_id=delivery_id)
    return delivery_out(deliveries.replay(session, caller.actor, subscription=found.subscription, delivery=found))
