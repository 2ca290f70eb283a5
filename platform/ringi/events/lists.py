"""The fields of the lists of events, subscriptions and deliveries."""

from ringi.events.models import Delivery, Event, Subscription
from ringi.events.schemas import Channel, DeliveryKind, DeliveryState
from ringi.web.listing import Listing, column

EVENTS = Listing(
    "events", key=Event.id, also=("type",),
    fields={"type": column(Event.type, "Which event."), "occurred_at": column(Event.occurred_at, "When it happened.")},
)  # fmt: skip
SUBSCRIPTIONS = Listing(
    "subscriptions", key=Subscription.id,
    fields={
        "name": column(Subscription.name, "Its name."),
        "channel": column(Subscription.channel, "How it tells.", choices=Channel),
        "host": column(Subscription.host, "The receiver's host."),
        "disabled_at": column(Subscription.disabled_at, "When it was disabled."),
        "failing_since": column(Subscription.failing_since, "Since when nothing has arrived."),
        "last_delivered_at": column(Subscription.last_delivered_at, "When something arrived last."),
        "created_at": column(Subscription.created_at, "When it was made."),
    },
)  # fmt: skip
DELIVERIES = Listing(
    "deliveries", key=Delivery.id, also=("state",),
    fields={
        "state": column(Delivery.state, "How far it is.", choices=DeliveryState),
        "kind": column(Delivery.kind, "Why it is made.", choices=DeliveryKind),
        "attempts": column(Delivery.attempts, "Attempts so far."),
        "next_attempt_at": column(Delivery.next_attempt_at, "When the next attempt is due."),
        "ended_at": column(Delivery.ended_at, "When it ended."),
        "created_at": column(Delivery.created_at, "When it was queued."),
    },
)  # fmt: skip
