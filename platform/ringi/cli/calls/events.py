"""Calls about what happened and who is told: events, subscriptions, deliveries."""

from typing import Unpack
from uuid import UUID

from ringi.cli.asked import AskedInOrder
from ringi.cli.connection import Connection, route
from ringi.cli.listed import Listed
from ringi.events.schemas import (
    ChangeSubscription,
    CreateSubscription,
    DeliveryOut,
    DeliveryState,
    DeliveryWithAttempts,
    EventOut,
    EventTypeOut,
    Replay,
    Replayed,
    RotateSecret,
    SubscriptionOut,
    SubscriptionWithSecret,
)


class EventCalls:
    """`client.events`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def types(self) -> list[EventTypeOut]:
        """The catalogue."""
        return self._http.get_list("/event-types", EventTypeOut)

    def all(self, project: str, *, type_: str | None = None, **asked: Unpack[AskedInOrder]) -> Listed[EventOut]:
        """What happened in the project, newest first; `type_` is a type or a pattern such as `adapter.*`."""
        return self._http.items(route("projects", project, "events"), EventOut, type=type_, **asked)

    def get(self, project: str, event_id: UUID) -> EventOut:
        """One event."""
        return self._http.get(route("projects", project, "events", str(event_id)), EventOut)


class SubscriptionCalls:
    """`client.subscriptions`; a subscription is named within its project."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def create(self, project: str, body: CreateSubscription) -> SubscriptionWithSecret:
        """Be told of events; the answer holds the secret, once."""
        return self._http.post(route("projects", project, "subscriptions"), SubscriptionWithSecret, body)

    def all(self, project: str, **asked: Unpack[AskedInOrder]) -> Listed[SubscriptionOut]:
        """The project's subscriptions, newest first."""
        return self._http.items(route("projects", project, "subscriptions"), SubscriptionOut, **asked)

    def get(self, project: str, name: str) -> SubscriptionOut:
        """One subscription."""
        return self._http.get(self._path(project, name), SubscriptionOut)

    def change(self, project: str, name: str, body: ChangeSubscription, *, if_match: str | None = None) -> SubscriptionOut:
        """Another target, or other events."""
        return self._http.patch(self._path(project, name), SubscriptionOut, body, if_match=if_match)

    def enable(self, project: str, name: str, *, if_match: str | None = None) -> SubscriptionOut:
        """Send again; what waits goes out at once."""
        return self._http.post(self._path(project, name, "enable"), SubscriptionOut, if_match=if_match)

    def disable(self, project: str, name: str, *, if_match: str | None = None) -> SubscriptionOut:
        """Send nothing more."""
        return self._http.post(self._path(project, name, "disable"), SubscriptionOut, if_match=if_match)

    def rotate_secret(self, project: str, name: str, *, overlap_h: int = 24, if_match: str | None = None) -> SubscriptionWithSecret:
        """A new secret; the old one signs as well for so many hours."""
        body = RotateSecret(overlap_h=overlap_h)
        return self._http.post(self._path(project, name, "secret"), SubscriptionWithSecret, body, if_match=if_match)

    def test(self, project: str, name: str) -> DeliveryOut:
        """A test call; follow the delivery."""
        return self._http.post(self._path(project, name, "test"), DeliveryOut)

    def replay(self, project: str, name: str, body: Replay) -> Replayed:
        """Deliver a period again."""
        return self._http.post(self._path(project, name, "replay"), Replayed, body)

    def delete(self, project: str, name: str, *, if_match: str | None = None) -> SubscriptionOut:
        """End it for good."""
        return self._http.delete(self._path(project, name), SubscriptionOut, if_match=if_match)

    def deliveries(
        self, project: str, name: str, *, state: DeliveryState | None = None, **asked: Unpack[AskedInOrder]
    ) -> Listed[DeliveryOut]:
        """Deliveries to it, newest first."""
        return self._http.items(self._path(project, name, "deliveries"), DeliveryOut, state=state, **asked)

    def delivery(self, project: str, delivery_id: UUID) -> DeliveryWithAttempts:
        """One delivery with every attempt."""
        return self._http.get(route("projects", project, "deliveries", str(delivery_id)), DeliveryWithAttempts)

    def replay_delivery(self, project: str, delivery_id: UUID) -> DeliveryOut:
        """The same event once more."""
        return self._http.post(route("projects", project, "deliveries", str(delivery_id), "replay"), DeliveryOut)

    def _path(self, project: str, name: str, *more: str) -> str:
        return route("projects", project, "subscriptions", name, *more)
