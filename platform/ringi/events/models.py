"""The outbox (nudges to workers), and what the platform tells the world: events, who wants them, and every attempt to deliver one."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, String, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.db.base import Base, Identified, OwnedByOrganization, OwnedByProject, Versioned
from ringi.events.schemas import AttemptOutcome, Channel, DeliveryKind, DeliveryState
from ringi.identity.models import Project
from ringi.kit.ids import uuid7


class OutboxMessage(Base):
    """One message: undelivered while `sent_at` is null, not before `not_before`."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_due", "not_before", postgresql_where=text("sent_at IS NULL")),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    topic: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(128))
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    not_before: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    sent_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str | None]
    # The trace and the request that the message goes back to (observe/tracing.py).
    traceparent: Mapped[str | None] = mapped_column(String(55))
    request_id: Mapped[str | None] = mapped_column(String(64))


class Event(OwnedByOrganization, Base):
    """What happened, written with the change itself and never changed. Without a project it concerns the whole organisation."""

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_project_id", "project_id", "id"), Index("ix_events_organization_id_id", "organization_id", "id"),
        Index("ix_events_type", "type", "id"),
    )  # fmt: skip

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("projects.id"))
    type: Mapped[str] = mapped_column(String(64))
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    data: Mapped[dict[str, Any]]

    project: Mapped[Project | None] = relationship(lazy="raise")


class Subscription(Versioned, OwnedByProject, Base):
    """Who wants to be told. The lease belongs to the notifier that is sending to it: one delivery at a time, in order."""

    __tablename__ = "subscriptions"
    __table_args__ = (
        Index("uq_subscriptions_project_id_name", "project_id", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
    )

    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(default="")
    channel: Mapped[Channel] = mapped_column(String(16))
    # An address of the web, or of one mailbox; `host` is what may be slow.
    target: Mapped[str]
    host: Mapped[str] = mapped_column(String(255))
    event_types: Mapped[list[Any]]
    secret: Mapped[str | None] = mapped_column(String(64))
    previous_secret: Mapped[str | None] = mapped_column(String(64))
    previous_secret_until: Mapped[datetime | None]
    created_by: Mapped[UUID]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]
    deleted_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    last_delivered_at: Mapped[datetime | None]
    last_taken_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None]

    project: Mapped[Project] = relationship(lazy="raise")


class Delivery(Identified, OwnedByProject, Base):
    """One event on its way to one subscription. `attempts` counts those that ended."""

    __tablename__ = "deliveries"
    __table_args__ = (
        Index("ix_deliveries_subscription_id", "subscription_id", "id"), Index("ix_deliveries_due", "subscription_id", "next_attempt_at", postgresql_where=text("state = 'pending'")),
    )  # fmt: skip

    subscription_id: Mapped[UUID] = mapped_column(ForeignKey("subscriptions.id"))
    event_id: Mapped[UUID] = mapped_column(ForeignKey("events.id"), index=True)
    kind: Mapped[DeliveryKind] = mapped_column(String(16), default=DeliveryKind.EVENT)
    state: Mapped[DeliveryState] = mapped_column(String(16), default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    ended_at: Mapped[datetime | None]

    subscription: Mapped[Subscription] = relationship(lazy="raise")
    event: Mapped[Event] = relationship(lazy="raise")


class DeliveryAttempt(Identified, OwnedByProject, Base):
    """What one attempt met; never changed. `status_code` is the receiver's own (HTTP or SMTP), null when there was no answer."""

    __tablename__ = "delivery_attempts"
    __table_args__ = (UniqueConstraint("delivery_id", "number"),)

    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("deliveries.id"))
    number: Mapped[int]
    outcome: Mapped[AttemptOutcome] = mapped_column(String(16))
    started_at: Mapped[datetime]
    duration_ms: Mapped[int]
    status_code: Mapped[int | None]
    response: Mapped[str | None]
    error: Mapped[str | None]
