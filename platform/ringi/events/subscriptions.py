"""Who is told of what: create, change, enable, disable, rotate the secret, test, delete. Each is audited; targets are judged in targets.py."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session, joinedload

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.events import signing, targets
from ringi.events.catalogue import names
from ringi.events.catalogue import receivers as receivers_events
from ringi.events.emission import emit, matches, wake
from ringi.events.models import Delivery, Event, Subscription
from ringi.events.schemas import ChangeSubscription, Channel, CreateSubscription, DeliveryState
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.kit.actor import Actor
from ringi.kit.errors import Conflict, InvalidInput, NotFound
from ringi.settings import get_settings

MAX_PER_PROJECT = 50


class SubscriptionExists(Conflict):
    """The name is in use."""

    code = "subscription_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is already a subscription '{name}' in this project.", next_step="Change it, or choose another name.")


class TooManySubscriptions(Conflict):
    """Every event costs a delivery for each of them."""

    code = "subscription_limit"

    def __init__(self) -> None:
        super().__init__(f"This project has {MAX_PER_PROJECT} subscriptions already.", next_step="Delete one that nobody needs.")


class EmailNotConfigured(Conflict):
    """The deployment has no mail server."""

    code = "email_not_configured"

    def __init__(self) -> None:
        super().__init__("This platform sends no e-mail.", next_step="Ask the operator to set RINGI_SMTP_URL, or use a webhook.")


class UnknownEventType(InvalidInput):
    """A pattern that no event of the catalogue matches would wait for ever."""

    code = "event_type_unknown"

    def __init__(self, patterns: list[str]) -> None:
        super().__init__(
            f"No event is called {', '.join(patterns)}.",
            next_step="The events are listed by: ringi events types.",
            details={"patterns": patterns},
        )


class SubscriptionDisabled(Conflict):
    """Nothing is sent to a disabled subscription."""

    code = "subscription_disabled"

    def __init__(self, name: str) -> None:
        super().__init__(f"Subscription '{name}' is disabled.", next_step="Mend its receiver, then enable it: ringi subscriptions enable.")


class SubscriptionAlready(Conflict):
    """It is enabled, or disabled, already."""

    code = "subscription_state_conflict"

    def __init__(self, name: str, state: str) -> None:
        super().__init__(f"Subscription '{name}' is {state} already.", next_step="There is nothing to do.")


class WrongChannel(InvalidInput):
    """A webhook has an address of the web, an e-mail subscription a mailbox; only webhooks have a secret."""

    code = "subscription_channel_mismatch"

    def __init__(self, channel: Channel, what: str) -> None:
        super().__init__(f"A subscription by {channel} has no {what}.", next_step="Create a subscription of the other channel.")


def _check_patterns(patterns: list[str]) -> list[str]:
    unknown = [one for one in patterns if not any(matches([one], name) for name in names.CATALOGUE)]
    if unknown:
        raise UnknownEventType(unknown)
    return list(dict.fromkeys(patterns))


def judged(*, url: str | None, email: str | None) -> str | None:
    """Judge a target; returns whose slowness it is: the receiver's host, or the one mail server. None without a target.

    Asks DNS, which may take seconds: call it before anything is locked. Raises TargetRefused, TargetUnresolved, EmailNotConfigured.
    """
    if url is not None:
        return targets.check(url).target.host
    if email is None:
        return None
    if get_settings().smtp_url is None:
        raise EmailNotConfigured
    return "smtp"


def create(session: Session, actor: Actor, *, project: Project, body: CreateSubscription) -> Subscription:
    """A new subscription, told of what happens from now on; a webhook's secret is in `secret`."""
    host, event_types = judged(url=body.url, email=body.email), _check_patterns(body.event_types)
    # unscoped: the caller has been let into the project already. Its row is the lock: of two with one name the second sees the first.
    session.execute(select(Project.id).where(Project.id == project.id).with_for_update(key_share=True))
    names = session.scalars(
        visible(actor, Subscription).where(Subscription.project_id == project.id, Subscription.deleted_at.is_(None))
    ).all()
    if body.name in {one.name for one in names}:
        raise SubscriptionExists(body.name)
    if len(names) >= MAX_PER_PROJECT:
        raise TooManySubscriptions
    made = Subscription(
        project_id=project.id, name=body.name, description=body.description, channel=body.channel, target=body.url or body.email or "",
        host=host or "", event_types=event_types, created_by=actor.id,
        secret=signing.draw_secret() if body.channel is Channel.WEBHOOK else None,
    )  # fmt: skip
    session.add(made)
    session.flush()  # its id goes into the audit event
    _record(session, actor, AuditAction.SUBSCRIPTION_CREATE, made, channel=made.channel.value, host=made.host)
    return made


def find(session: Session, actor: Actor, *, project: Project, name: str, lock: bool = False) -> Subscription:
    """A subscription by name."""
    query = listed(actor, project).where(Subscription.name == name)
    if lock:
        query = query.with_for_update(of=Subscription, key_share=True).execution_options(populate_existing=True)
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound("subscription", f"{project.name}/{name}")
    return found


def listed(actor: Actor, project: Project) -> Select[Subscription]:
    """The project's subscriptions that are not deleted."""
    return visible(actor, Subscription).where(Subscription.project_id == project.id, Subscription.deleted_at.is_(None))


def change(session: Session, actor: Actor, subscription: Subscription, body: ChangeSubscription, *, host: str | None) -> Subscription:
    """Another target, which the caller has `judged`, or other events; what waits goes to the new target at once."""
    channel = Channel(subscription.channel)
    if (body.email if channel is Channel.WEBHOOK else body.url) is not None:
        raise WrongChannel(channel, "email" if channel is Channel.WEBHOOK else "url")
    target = body.url or body.email
    if target is not None and host is not None:
        subscription.target, subscription.host = target, host
        # The old one's failures are not the new one's.
        subscription.failing_since = None
        send_now(session, subscription)
    if body.event_types is not None:
        subscription.event_types = _check_patterns(body.event_types)
    if body.description is not None:
        subscription.description = body.description
    _record(
        session,
        actor,
        AuditAction.SUBSCRIPTION_CHANGE,
        subscription,
        host=subscription.host,
        fields=",".join(sorted(body.model_fields_set)),
    )
    session.flush()  # the answer shows what is stored
    return subscription


def enable(session: Session, actor: Actor, subscription: Subscription) -> Subscription:
    """Send again: what waits goes out at once, the oldest event first."""
    if subscription.disabled_at is None:
        raise SubscriptionAlready(subscription.name, "enabled")
    subscription.disabled_at = subscription.disabled_reason = subscription.failing_since = None
    send_now(session, subscription)
    _record(session, actor, AuditAction.SUBSCRIPTION_ENABLE, subscription)
    session.flush()  # the answer shows what is stored
    return subscription


def send_now(session: Session, subscription: Subscription) -> None:
    """Deliveries that wait for a later attempt become due: the receiver is back."""
    # unscoped: the caller holds the subscription already.
    waiting = update(Delivery).where(Delivery.subscription_id == subscription.id, Delivery.state == DeliveryState.PENDING)
    now = func.clock_timestamp()
    session.execute(waiting.where(Delivery.next_attempt_at > now).values(next_attempt_at=now).execution_options(synchronize_session=False))
    wake(session)


def disable(session: Session, actor: Actor, subscription: Subscription, *, reason: str) -> Subscription:
    """Send nothing more; what waits is kept. What happens meanwhile can be replayed."""
    if subscription.disabled_at is not None:
        raise SubscriptionAlready(subscription.name, "disabled")
    subscription.disabled_at, subscription.disabled_reason = func.clock_timestamp(), reason
    _record(session, actor, AuditAction.SUBSCRIPTION_DISABLE, subscription, payload=reason)
    session.flush()  # the event below is not for the subscription that was just disabled
    told = receivers_events.SubscriptionDisabled(subscription=subscription.name, subscription_id=subscription.id, reason=reason)
    emit(session, told, project_id=subscription.project_id)
    session.refresh(subscription, ["disabled_at"])
    return subscription


def rotate_secret(session: Session, actor: Actor, subscription: Subscription, *, overlap_h: int) -> Subscription:
    """A new secret in `secret`; for `overlap_h` hours the old one signs as well."""
    if subscription.channel != Channel.WEBHOOK:
        raise WrongChannel(Channel(subscription.channel), "secret")
    subscription.previous_secret = subscription.secret if overlap_h else None
    subscription.previous_secret_until = func.clock_timestamp() + timedelta(hours=overlap_h) if overlap_h else None
    subscription.secret = signing.draw_secret()
    _record(session, actor, AuditAction.SUBSCRIPTION_ROTATE_SECRET, subscription, overlap_h=overlap_h)
    session.flush()  # the answer shows the database's time
    session.refresh(subscription, ["previous_secret_until"])
    return subscription


def delete(session: Session, actor: Actor, subscription: Subscription) -> Subscription:
    """End it for good: its secret is forgotten and what waits is dropped; its history stays."""
    subscription.deleted_at = func.clock_timestamp()
    subscription.secret = subscription.previous_secret = None
    # unscoped: the caller holds the subscription already.
    waiting = update(Delivery).where(Delivery.subscription_id == subscription.id, Delivery.state == DeliveryState.PENDING)
    dropped = waiting.values(state=DeliveryState.DROPPED, ended_at=func.clock_timestamp())
    session.execute(dropped.execution_options(synchronize_session=False))
    _record(session, actor, AuditAction.SUBSCRIPTION_DELETE, subscription)
    session.flush()
    return subscription


def test(session: Session, actor: Actor, subscription: Subscription) -> Delivery:
    """A test call: an event of its own, for this subscription alone, on the way of every other delivery."""
    if subscription.disabled_at is not None:
        raise SubscriptionDisabled(subscription.name)
    data = receivers_events.SubscriptionTested(subscription=subscription.name, message="通知のテストです。This is a test.")
    event_id = emit(session, data, project_id=subscription.project_id, only=subscription.id)
    _record(session, actor, AuditAction.SUBSCRIPTION_TEST, subscription)
    # unscoped: the delivery that was just made, to a subscription that the caller holds.
    made = select(Delivery).where(Delivery.event_id == event_id).options(joinedload(Delivery.event).joinedload(Event.project))
    return session.scalars(made.options(joinedload(Delivery.subscription))).one()


def _record(
    session: Session, actor: Actor, action: AuditAction, subscription: Subscription, *, payload: str | None = None, **details: str | int
) -> None:
    # An e-mail address is personal, and a webhook's path may hold a token: neither goes into the log.
    audit.record(
        session, actor, action, object_type="subscription", object_id=subscription.id, project_id=subscription.project_id,
        organization_id=actor.organization_id or _organization(session, subscription), details=details or None, payload=payload,
    )  # fmt: skip


def _organization(session: Session, subscription: Subscription) -> UUID | None:
    # unscoped: the platform itself acts on a subscription that it holds.
    return session.scalar(select(Project.organization_id).where(Project.id == subscription.project_id))
