"""The words of events: topics of the outbox, subscriptions, deliveries. The events themselves are in catalogue/."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from ringi.web.schemas import Integer, Name, Schema, Secret, Text, Truth


class Topic(StrEnum):
    """`job.ready`: a worker of the queue in the payload may claim the job whose id is the key."""

    JOB_READY = "job.ready"


class Channel(StrEnum):
    """How a subscription is told."""

    WEBHOOK = "webhook"
    EMAIL = "email"


class DeliveryKind(StrEnum):
    """Why there is a delivery."""

    EVENT = "event"
    REPLAY = "replay"
    TEST = "test"


class DeliveryState(StrEnum):
    """pending -> delivered | failed (its attempts are used up; replay it) | dropped (its subscription was deleted)."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"


class AttemptOutcome(StrEnum):
    """`refused`: the receiver answered, and not with 2xx. `unreachable`: no answer. `forbidden`: its address may not be called."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    FORBIDDEN = "forbidden"


# `adapter.version.sealed`, `adapter.*` (whatever follows), or `*`.
Pattern = Annotated[str, StringConstraints(pattern=r"^(\*|[a-z][a-z_]*(\.[a-z][a-z_]*)*(\.\*)?)$", max_length=64)]
Patterns = Annotated[list[Pattern], Field(min_length=1, max_length=50, description="Event types, or patterns such as `adapter.*` and `*`.")]
Url = Annotated[str, StringConstraints(max_length=2000, pattern=r"^https?://[!-~]+$")]
# One mailbox, in ASCII, without quotes or comments: nothing that a header could be broken with.
Email = Annotated[
    str,
    StringConstraints(
        max_length=254, pattern=r"^[A-Za-z0-9_%+-]+(\.[A-Za-z0-9_%+-]+)*@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+$"
    ),
]  # fmt: skip


class CreateSubscription(Schema):
    """Who is told of what: `url` for a webhook, `email` for a mailbox."""

    name: Name
    description: Text = ""
    channel: Channel = Channel.WEBHOOK
    url: Url | None = None
    email: Email | None = None
    event_types: Patterns

    @model_validator(mode="after")
    def _one_target(self) -> "CreateSubscription":
        wanted, other = (self.url, self.email) if self.channel is Channel.WEBHOOK else (self.email, self.url)
        if wanted is None or other is not None:
            raise ValueError("a webhook has a url and no email, an e-mail subscription an email and no url")
        return self


class ChangeSubscription(Schema):
    """What changes; what is left out stays."""

    description: Text | None = None
    url: Url | None = None
    email: Email | None = None
    event_types: Patterns | None = None


class RotateSecret(Schema):
    """For so many hours both secrets sign, so that the receiver can change over without losing a delivery."""

    overlap_h: Annotated[Integer, Field(ge=0, le=168)] = 24


class Replay(Schema):
    """Deliver again what happened from `since` until (without it) now; `only_undelivered` leaves out what arrived."""

    since: AwareDatetime
    until: AwareDatetime | None = None
    only_undelivered: Truth = True


class SubscriptionOut(Schema):
    """`target` shows the host alone to whoever may not manage subscriptions: an address may carry a token."""

    id: UUID
    name: str
    description: str
    channel: Channel
    target: str
    event_types: list[str]
    enabled: bool
    disabled_at: datetime | None
    disabled_reason: str | None
    failing_since: datetime | None
    last_delivered_at: datetime | None
    waiting: int = Field(description="Deliveries that are not done.")
    created_at: datetime
    row_version: int


class SubscriptionWithSecret(Schema):
    """`secret` (`whsec_…`) is in this answer and nowhere else; null for e-mail."""

    subscription: SubscriptionOut
    secret: Secret | None
    previous_secret_until: datetime | None = None


class EventOut(Schema):
    """What happened; `project` is null for what concerns the whole organisation."""

    id: UUID
    type: str
    occurred_at: datetime
    project: str | None
    data: dict[str, Any]


class EventTypeOut(Schema):
    """One event of the catalogue: what it says, and the JSON Schema of its `data`."""

    type: str
    title: str
    description: str
    json_schema: dict[str, Any]


class AttemptOut(Schema):
    """One attempt. `response` is the beginning of the answer, for whoever may manage subscriptions."""

    number: int
    outcome: AttemptOutcome
    started_at: datetime
    duration_ms: int
    status_code: int | None
    response: str | None
    error: str | None


class DeliveryOut(Schema):
    """One event on its way to one subscription."""

    id: UUID
    subscription: str
    event_id: UUID
    event_type: str
    kind: DeliveryKind
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None
    ended_at: datetime | None
    created_at: datetime


class DeliveryWithAttempts(DeliveryOut):
    """A delivery with its history, the first attempt first."""

    history: list[AttemptOut]


class Replayed(Schema):
    """How many deliveries were made."""

    deliveries: int
