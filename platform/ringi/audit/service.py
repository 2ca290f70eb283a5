"""Write one audit event in the caller's transaction: commit keeps both the change and its event, rollback leaves neither.

The sequencer (`sequence.py`) gives the event its place in the log afterwards, so writers never wait for each other.
"""

import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from rfc8785 import CanonicalizationError
from sqlalchemy import func, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from ringi.audit import personal
from ringi.audit.models import AuditEvent, AuditPayload, AuditPending
from ringi.audit.read_only import raise_if_refused
from ringi.audit.ringi_verify import leaf_hash
from ringi.audit.schemas import MAX_ENTRY_BYTES, AuditAction, Event, EventActor, EventAuth, EventObject, Outcome
from ringi.db.session import must_write
from ringi.kit.actor import Actor, ActorKind
from ringi.kit.digests import Digest, canonical_json, sha256_json
from ringi.kit.errors import RingiError
from ringi.kit.ids import uuid7
from ringi.settings import get_settings

SALT_BYTES = 32


class AuditEntryInvalid(RingiError):
    """The event cannot be written, so the action that it records does not happen either (governance B3.7)."""

    code, status = "audit_entry_invalid", 500


class AuditEntryTooLarge(RingiError):
    """The event's canonical bytes do not fit a 16-bit length."""

    code, status = "audit_entry_too_large", 400

    def __init__(self, size: int) -> None:
        super().__init__(
            f"The audit entry has {size} bytes; an entry holds at most {MAX_ENTRY_BYTES}.",
            next_step="Put large documents in by digest: pass `record=` or `after=`, and keep `details` small.",
            details={"size": size, "limit": MAX_ENTRY_BYTES},
        )


def commit_payload(salt: bytes, text: str) -> str:
    """`hmac-sha256:` + HMAC-SHA-256(key=salt, UTF-8 text): hides a guessable text, unlike its bare hash (governance B6)."""
    return "hmac-sha256:" + hmac.digest(salt, text.encode(), "sha256").hex()


def _event_actor(actor: Actor) -> EventActor:
    # The zero id of the platform's own parts says nothing; a component's name is not personal.
    identity = actor.name if actor.kind is ActorKind.SYSTEM else str(actor.id)
    return EventActor(type=actor.kind.value, id=identity, auth=_event_auth(actor))


def _event_auth(actor: Actor) -> EventAuth | None:
    login = actor.login
    if login is not None:
        at = login.at.strftime("%Y-%m-%dT%H:%M:%SZ") if login.at else None
        return EventAuth(token_id=None, iss=login.issuer, acr=login.acr, amr=list(login.amr), auth_time=at)
    return EventAuth(token_id=str(actor.token_id)) if actor.token_id else None


def _canonical(event: Event) -> bytes:
    body = canonical_json(event.model_dump(mode="json"))
    if len(body) > MAX_ENTRY_BYTES:
        raise AuditEntryTooLarge(len(body))
    return body


def _database_time(session: Session) -> datetime:
    # No NOTIFY here to wake the sequencer: it makes all commits of the database queue for one lock (docstring of its process).
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)


def record(
    session: Session,
    actor: Actor,
    action: AuditAction,
    *,
    object_type: str,
    object_id: UUID | str,
    object_digest: Digest | None = None,
    outcome: Outcome = Outcome.OK,
    project_id: UUID | None = None,
    organization_id: UUID | None = None,
    before: Digest | None = None,
    after: Digest | None = None,
    record: Any | None = None,
    policy: Digest | None = None,
    details: Mapping[str, str | int | bool | None] | None = None,
    payload: str | None = None,
    origin: str | None = None,
) -> UUID:
    """Add the event to `session`'s transaction; returns its id (UUID v7).

    `record` is the JSON document of the state row as an auditor will see it in an export; `after` becomes its digest. `details` holds short
    technical strings, integers and booleans, nothing personal and no floats; `payload` is free text, stored apart encrypted under the actor's data
    key, and only committed to. `origin` is RINGI_AUDIT_ORIGIN unless a log is begun, `organization_id` the actor's unless given. Call it after the
    row lock of the change is held, so that two events of one object stand in the log in the order of the changes.
    Raises AuditEntryInvalid, AuditEntryTooLarge, PersonErased, AuditReadOnly, AuditOriginDiffers.
    """
    if record is not None and after is not None:
        raise AuditEntryInvalid("Both `record` and `after` were given.", next_step="Pass the document or its digest, not both.")
    must_write(session)
    salt = secrets.token_bytes(SALT_BYTES)
    event_id, now, organization = uuid7(), _database_time(session), organization_id or actor.organization_id
    try:
        event = Event(
            origin=origin or get_settings().audit_origin,
            id=str(event_id),
            ts=now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            actor=_event_actor(actor),
            action=action,
            outcome=outcome,
            object=EventObject(type=object_type, id=str(object_id), digest=object_digest),
            organization=str(organization) if organization else None,
            project=str(project_id) if project_id else None,
            before=before,
            after=sha256_json(record) if record is not None else after,
            policy=policy,
            request_id=actor.request_id,
            details=dict(details) if details is not None else None,
            payload_commit=commit_payload(salt, payload) if payload is not None else None,
        )
        body = _canonical(event)
    except (ValidationError, CanonicalizationError) as error:
        raise AuditEntryInvalid(
            f"The event '{action}' cannot be written: {error}", next_step="Report this to the operator; the action did not happen."
        ) from error
    row_id = _insert(session, event, body, event_id=event_id, ts=now, organization_id=organization, project_id=project_id)
    if payload is not None:
        sealed = personal.seal(session, actor, event_id, payload)
        session.execute(insert(AuditPayload).values(event_id=row_id, salt=salt, **sealed._asdict()))
    return event_id


def _insert(
    session: Session, event: Event, body: bytes, *, event_id: UUID, ts: datetime, organization_id: UUID | None, project_id: UUID | None
) -> int:
    """Event and queue row in one statement. Raises AuditReadOnly, AuditOriginDiffers."""
    row = (
        insert(AuditEvent)
        .values(
            event_id=event_id,
            body=body,
            leaf_hash=leaf_hash(body),
            ts=ts,
            action=event.action.value,
            outcome=event.outcome.value,
            actor_type=event.actor.type,
            actor_id=event.actor.id,
            object_type=event.object.type,
            object_id=event.object.id,
            project_id=project_id,
            organization_id=organization_id,
            after_digest=event.after,
        )
        .returning(AuditEvent.id)
        .cte("event")
    )
    queued = insert(AuditPending).from_select(["event_id"], select(row.c.id)).returning(AuditPending.event_id)
    try:
        return session.execute(queued).scalar_one()
    except DBAPIError as error:
        raise_if_refused(error)
        raise


def record_denied(
    sessions: sessionmaker[Session],
    actor: Actor,
    action: AuditAction,
    *,
    object_type: str,
    object_id: UUID | str,
    object_digest: Digest | None = None,
    project_id: UUID | None = None,
    details: Mapping[str, str | int | bool | None] | None = None,
) -> UUID:
    """Write a refusal in a transaction of its own, because the request's is about to be rolled back (governance B3.7)."""
    with sessions.begin() as session:
        return record(
            session,
            actor,
            action,
            object_type=object_type,
            object_id=object_id,
            object_digest=object_digest,
            outcome=Outcome.DENIED,
            project_id=project_id,
            details=details,
        )


def read_event(row: AuditEvent) -> Event:
    """The event of a row, read from its exact bytes and not from the search columns."""
    return Event.model_validate_json(row.body)
