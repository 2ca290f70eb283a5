"""What happened, who is told of it, and whether it arrived."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from ringi.cli.asked import AskedInOrder
from ringi.cli.errors import Usage
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import Description, IfMatch, Limit
from ringi.cli.output import emit, emit_list, facts, table
from ringi.cli.references import check_name
from ringi.events.schemas import (
    ChangeSubscription,
    Channel,
    CreateSubscription,
    DeliveryOut,
    DeliveryState,
    DeliveryWithAttempts,
    EventOut,
    Replay,
    SubscriptionOut,
    SubscriptionWithSecret,
)
from ringi.kit.times import FORMS, read_time

events = Commands("Events: what happened in a project.")
subscriptions = Commands("Subscriptions: who is told of events, by webhook or e-mail.")
deliveries = Commands("Deliveries: whether an event arrived, attempt by attempt.")


def _moment(text: str) -> datetime:
    return read_time(text).at


def _named(what: str) -> Callable[[str], str]:
    return lambda text: check_name(text, what=what)


Name = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="The subscription.", callback=_named("subscription"))]
Project = Annotated[str, typer.Argument(help="The project.", callback=_named("project"))]
EventTypes = Annotated[list[str], typer.Option("--event", help="A type or a pattern, such as adapter.*; may be given several times.")]
Url = Annotated[str | None, typer.Option("--url", help="Where a webhook goes.", show_default=False)]
Mailbox = Annotated[str | None, typer.Option("--email", help="Which mailbox is written to.", show_default=False)]
When = Annotated[datetime, typer.Option("--since", parser=_moment, metavar="TIME", help=f"{FORMS[0].upper()}{FORMS[1:]}.")]
Until = Annotated[
    datetime | None, typer.Option("--until", parser=_moment, metavar="TIME", help="The same; without it, now.", show_default=False)
]
_ID = "0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e"


class NoTarget(Usage):
    """A subscription needs somebody to tell."""

    code = "no_target"

    def __init__(self) -> None:
        super().__init__("Neither or both of --url and --email were given.", next_step="Give one of them.")


@events.verb("list", "ringi events list risk", "ringi events list risk --type 'adapter.*'")
def list_events(
    project: Project,
    type_: Annotated[str | None, typer.Option("--type", help="A type or a pattern.", show_default=False)] = None,
    limit: Limit = 50,
    *,
    asked: AskedInOrder,
) -> None:
    """List what happened in a project."""
    with connect() as client:
        emit_list(
            client.events.all(project, type_=type_, **asked), limit=limit,
            render=lambda found: table(["event", "type", "at", "what"], [(one.id, one.type, one.occurred_at, _brief(one)) for one in found]),
        )  # fmt: skip


def _brief(event: EventOut) -> str:
    return ", ".join(f"{name} {value}" for name, value in event.data.items() if not name.endswith(("_id", "digest")) and value is not None)


@events.verb("show", f"ringi events show risk {_ID}")
def show_event(project: Project, event: Annotated[UUID, typer.Argument(metavar="EVENT", help="The event's id.")]) -> None:
    """Show one event."""
    with connect() as client:
        found = client.events.get(project, event)
    pairs: list[tuple[str, object]] = [("event", found.id), ("type", found.type), ("at", found.occurred_at), ("project", found.project)]
    emit(found, lambda: facts([*pairs, *((name, _plain(value)) for name, value in found.data.items())]))


def _plain(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


@events.verb("types", "ringi events types")
def types() -> None:
    """List the events there are."""
    with connect() as client:
        found = client.events.types()
    emit(found, lambda: table(["type", "means", ""], [(one.type, one.title, one.description) for one in found]))


@subscriptions.verb(
    "create",
    "ringi subscriptions create risk ops --url https://hooks.example.com/ringi --event 'release.*' --event adapter.version.revoked",
    "ringi subscriptions create risk approvers --email shounin@example.co.jp --event approval.requested --description 承認係",
)
def create(project: Project, name: Name, event: EventTypes, url: Url = None, email: Mailbox = None, description: Description = "") -> None:
    """Be told of events from now on; a webhook's secret is shown once."""
    if (url is None) == (email is None):
        raise NoTarget
    body = CreateSubscription(
        name=name, description=description, event_types=event,
        **({"url": url} if url else {"channel": Channel.EMAIL, "email": email}),
    )  # fmt: skip
    with connect() as client:
        made = client.subscriptions.create(project, body)
    emit(made, lambda: _secret(made))


@subscriptions.verb("list", "ringi subscriptions list risk")
def list_subscriptions(project: Project, asked: AskedInOrder, limit: Limit = 50) -> None:
    """List the subscriptions of a project."""
    columns = ["name", "channel", "target", "events", "enabled", "waiting", "failing since", "last delivered"]
    with connect() as client:
        emit_list(
            client.subscriptions.all(project, **asked), limit=limit,
            render=lambda found: table(columns, [
                (one.name, one.channel, one.target, one.event_types, one.enabled, one.waiting, one.failing_since, one.last_delivered_at) for one in found
            ]),
        )  # fmt: skip


@subscriptions.verb("show", "ringi subscriptions show risk ops")
def show(project: Project, name: Name) -> None:
    """Show a subscription, and how its receiver is doing."""
    with connect() as client:
        found = client.subscriptions.get(project, name)
    emit(found, lambda: _drawn(found))


@subscriptions.verb("change", "ringi subscriptions change risk ops --url https://hooks.example.com/new --event '*'")
def change(
    project: Project,
    name: Name,
    event: Annotated[list[str] | None, typer.Option("--event", help="These events instead.", show_default=False)] = None,
    url: Url = None,
    email: Mailbox = None,
    description: Annotated[str | None, typer.Option("--description", help="What it is, in any script.", show_default=False)] = None,
    if_match: IfMatch = None,
) -> None:
    """Tell someone else, or of other events; what is left out stays."""
    given = {"event_types": event or None, "url": url, "email": email, "description": description}
    body = ChangeSubscription.model_validate({field: value for field, value in given.items() if value is not None})
    with connect() as client:
        changed = client.subscriptions.change(project, name, body, if_match=if_match)
    emit(changed, lambda: _drawn(changed))


@subscriptions.verb("enable", "ringi subscriptions enable risk ops")
def enable(project: Project, name: Name, if_match: IfMatch = None) -> None:
    """Send again; what waits goes out at once."""
    with connect() as client:
        changed = client.subscriptions.enable(project, name, if_match=if_match)
    emit(changed, lambda: _drawn(changed))


@subscriptions.verb("disable", "ringi subscriptions disable risk ops")
def disable(project: Project, name: Name, if_match: IfMatch = None) -> None:
    """Send nothing more; what waits is kept."""
    with connect() as client:
        changed = client.subscriptions.disable(project, name, if_match=if_match)
    emit(changed, lambda: _drawn(changed))


@subscriptions.verb("rotate-secret", "ringi subscriptions rotate-secret risk ops --overlap-h 48")
def rotate_secret(
    project: Project,
    name: Name,
    overlap_h: Annotated[int, typer.Option(min=0, max=168, help="For so many hours the old secret signs as well.")] = 24,
    if_match: IfMatch = None,
) -> None:
    """Draw a new secret, shown once."""
    with connect() as client:
        made = client.subscriptions.rotate_secret(project, name, overlap_h=overlap_h, if_match=if_match)
    emit(made, lambda: _secret(made))


@subscriptions.verb("test", "ringi subscriptions test risk ops")
def test(project: Project, name: Name) -> None:
    """Send a test call; look at its delivery afterwards."""
    with connect() as client:
        made = client.subscriptions.test(project, name)
    emit(made, lambda: facts(_pairs(made)))


@subscriptions.verb(
    "replay",
    "ringi subscriptions replay risk ops --since 2026-04-01",
    "ringi subscriptions replay risk ops --since 2026-04-01T09:00 --until 2026-04-01T18:00 --all",
)
def replay(
    project: Project,
    name: Name,
    since: When,
    until: Until = None,
    all_: Annotated[bool, typer.Option("--all", help="Also what arrived already.", show_default=False)] = False,
) -> None:
    """Deliver again what happened in a period."""
    period = Replay(since=since, until=until, only_undelivered=not all_)
    with connect() as client:
        made = client.subscriptions.replay(project, name, period)
    emit(made, lambda: facts([("deliveries", made.deliveries)]))


@subscriptions.verb("delete", "ringi subscriptions delete risk ops")
def delete(project: Project, name: Name, if_match: IfMatch = None) -> None:
    """End a subscription for good; what waits for it is dropped."""
    with connect() as client:
        ended = client.subscriptions.delete(project, name, if_match=if_match)
    emit(ended, lambda: facts([("deleted", ended.name)]))


@deliveries.verb("list", "ringi deliveries list risk ops", "ringi deliveries list risk ops --state failed")
def list_deliveries(
    project: Project,
    name: Name,
    state: Annotated[DeliveryState | None, typer.Option(help="Only these.", show_default=False)] = None,
    limit: Limit = 50,
    *,
    asked: AskedInOrder,
) -> None:
    """List the deliveries to a subscription."""
    columns = ["delivery", "event", "why", "state", "attempts", "next attempt", "ended", "created"]
    with connect() as client:
        emit_list(
            client.subscriptions.deliveries(project, name, state=state, **asked), limit=limit,
            render=lambda found: table(columns, [
                (one.id, one.event_type, one.kind, one.state, one.attempts, one.next_attempt_at, one.ended_at, one.created_at) for one in found
            ]),
        )  # fmt: skip


DeliveryId = Annotated[UUID, typer.Argument(metavar="DELIVERY", help="The delivery's id.")]


@deliveries.verb("show", f"ringi deliveries show risk {_ID}")
def show_delivery(project: Project, delivery: DeliveryId) -> None:
    """Show every attempt of a delivery, and what the receiver answered."""
    with connect() as client:
        found = client.subscriptions.delivery(project, delivery)
    emit(found, lambda: _history(found))


@deliveries.verb("replay", f"ringi deliveries replay risk {_ID}")
def replay_delivery(project: Project, delivery: DeliveryId) -> None:
    """Deliver the same event once more."""
    with connect() as client:
        made = client.subscriptions.replay_delivery(project, delivery)
    emit(made, lambda: facts(_pairs(made)))


def _drawn(one: SubscriptionOut) -> Table:
    return facts([
        ("subscription", one.name), ("description", one.description), ("channel", one.channel), ("target", one.target), ("events", one.event_types),
        ("enabled", one.enabled), ("disabled", one.disabled_at), ("because", one.disabled_reason), ("waiting", one.waiting),
        ("failing since", one.failing_since), ("last delivered", one.last_delivered_at), ("created", one.created_at),
    ])  # fmt: skip


def _secret(made: SubscriptionWithSecret) -> RenderableType:
    shown: list[tuple[str, object]] = [("secret", made.secret), ("", "shown once: give it to the receiver now")] if made.secret else []
    if made.previous_secret_until is not None:
        shown.append(("old one signs until", made.previous_secret_until))
    return Group(_drawn(made.subscription), facts(shown))


def _pairs(one: DeliveryOut) -> list[tuple[str, object]]:
    return [
        ("delivery", one.id), ("to", one.subscription), ("event", one.event_type), ("event id", one.event_id), ("why", one.kind),
        ("state", one.state), ("attempts", one.attempts), ("next attempt", one.next_attempt_at), ("ended", one.ended_at),
    ]  # fmt: skip


def _history(one: DeliveryWithAttempts) -> RenderableType:
    rows = [
        (each.number, each.outcome, each.status_code, f"{each.duration_ms} ms", each.started_at, each.error or each.response)
        for each in one.history
    ]
    return Group(facts(_pairs(one)), table(["attempt", "outcome", "code", "took", "at", "answer"], rows))
