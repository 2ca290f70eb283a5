"""`emit`: an event, and a delivery for everyone who wants it, in the transaction of the change that it tells of.

Commit keeps the change, its audit event and this; rollback leaves none of them. The notifier carries the deliveries afterwards.
"""

from uuid import UUID

from sqlalchemy import ColumnElement, func, insert, select, true
from sqlalchemy.orm import Session

from ringi.db.session import must_write
from ringi.events.catalogue.data import EventData
from ringi.events.models import Delivery, Event, Subscription
from ringi.events.schemas import DeliveryKind
from ringi.identity.models import Project
from ringi.kit.ids import uuid7

CHANNEL = "ringi_deliveries"


def matches(patterns: list[str], type_: str) -> bool:
    """Whether one of the patterns (`*`, `adapter.*`, a type) is of this event."""
    return any(pattern in ("*", type_) or (pattern.endswith(".*") and type_.startswith(pattern[:-1])) for pattern in patterns)


def of_pattern(pattern: str) -> ColumnElement[bool]:
    """The same for one pattern, as a condition on events."""
    if pattern == "*":
        return true()
    return Event.type.startswith(pattern[:-1], autoescape=True) if pattern.endswith(".*") else Event.type == pattern


def emit(
    session: Session, data: EventData, *, project_id: UUID | None = None, organization_id: UUID | None = None, only: UUID | None = None
) -> UUID:
    """Tell of `data` in the caller's transaction; returns the event's id (UUID v7: its order is the order of time).

    Without a project it concerns the whole organisation, and every project's subscriptions hear it. `only` names the one subscription
    that does, whatever it asked for.
    """
    must_write(session)
    event_id = uuid7()
    # unscoped: the platform tells of what it has just done; who hears it is decided by the project or organisation below.
    owner = select(Project.organization_id).where(Project.id == project_id).scalar_subquery() if project_id else organization_id
    written = insert(Event).values(
        id=event_id, organization_id=owner, project_id=project_id, type=data.NAME, data=data.model_dump(mode="json")
    )
    # One statement for both: writing the event costs a change no second trip to the database.
    asked = select(Subscription.id, Subscription.project_id, Subscription.event_types).add_cte(written.cte("event"))
    asked = asked.where(*_listening(project_id, organization_id))
    heard = [
        {"id": uuid7(), "project_id": row.project_id, "subscription_id": row.id, "event_id": event_id, "kind": DeliveryKind.TEST if only else DeliveryKind.EVENT}
        for row in session.execute(asked.order_by(Subscription.id))
        if row.id == only or (only is None and matches(row.event_types, data.NAME))
    ]  # fmt: skip
    if heard:
        session.execute(insert(Delivery), heard)
        wake(session)
    return event_id


def wake(session: Session) -> None:
    """Wake the notifiers at the commit. Never called when nobody listens: NOTIFY takes a lock of the whole server."""
    session.execute(select(func.pg_notify(CHANNEL, "")))


def _listening(project_id: UUID | None, organization_id: UUID | None) -> list[ColumnElement[bool]]:
    if project_id is not None:
        place = Subscription.project_id == project_id
    else:
        # unscoped: ids only, of the organisation that the event belongs to.
        place = Subscription.project_id.in_(select(Project.id).where(Project.organization_id == organization_id))
    return [place, Subscription.disabled_at.is_(None), Subscription.deleted_at.is_(None)]
