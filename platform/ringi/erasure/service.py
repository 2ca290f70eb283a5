"""Erase a person (GDPR article 17): the key of their texts, every text that stands elsewhere, their names, and their ways in.

What stays is what the log needs: their opaque id, what they decided, when, on which digests. Nothing that was signed changes, so every
proof holds. A vote without its reason is another row than the log vouched for, so its erasure is an event with the digest of the new row.
"""

import secrets
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import String, cast, func, or_, select
from sqlalchemy.orm import Session

from ringi.adapters.models import AdapterVersion
from ringi.approvals.models import ApprovalRequest, ApprovalVote
from ringi.approvals.records import vote_record
from ringi.audit import personal
from ringi.audit import service as audit
from ringi.audit.models import AuditEvent, AuditPayload
from ringi.audit.schemas import AuditAction, Outcome
from ringi.identity import people
from ringi.identity.models import ERASED, User
from ringi.kit.actor import Actor
from ringi.kit.digests import sha256_json
from ringi.releases.models import Release
from ringi.web import idempotency


def erase(session: Session, actor: Actor, user: User, *, reason: str) -> User:
    """Destroy the person's key and blank their texts, for good. Raises ErasingOneself, UserErased."""
    people.end(session, actor, user)
    # The key first: whoever is writing in the person's name ends before, and is seen by everything below; nobody begins after.
    said = {user.name, user.display_name} | _texts_of(session, user)
    personal.destroy(session, person=user.id, organization_id=user.organization_id)
    said = {text for text in said | _texts_elsewhere(session, user) if text}
    answers = idempotency.erase(session, said)
    votes = _votes_of(session, user)
    before = {vote.id: sha256_json(vote_record(vote)) for vote in votes if vote.salt}
    texts = session.scalar(select(func.ringi_erase_person(user.id, f"{ERASED}{secrets.token_hex(6)}")))
    session.refresh(user)
    for vote in votes:
        if vote.id in before:
            session.refresh(vote)
            _note_vote(session, actor, vote, before[vote.id])
    audit.record(
        session, actor, AuditAction.PAYLOAD_ERASED, object_type="user", object_id=user.id, payload=reason,
        details={"texts": texts, "votes": len(before), "answers": answers},
    )  # fmt: skip
    return user


def _texts_of(session: Session, user: User) -> set[str]:
    """What the person wrote, as the log keeps it."""
    # unscoped: the caller holds the user already.
    mine = or_(AuditPayload.person_id == user.id, AuditPayload.person_id.is_(None) & (AuditEvent.actor_id == str(user.id)))
    rows = session.execute(
        select(AuditEvent.id, AuditEvent.event_id).join(AuditPayload, AuditPayload.event_id == AuditEvent.id).where(mine)
    )
    return set(personal.texts(session, {row.id: row.event_id for row in rows}).values())


def _texts_elsewhere(session: Session, user: User) -> set[str]:
    """What was written before the log kept it."""
    # unscoped: the caller holds the user already.
    moves = (AuditAction.ADAPTER_VERSION_DEPRECATE, AuditAction.ADAPTER_VERSION_RETIRE, AuditAction.ADAPTER_VERSION_REVOKE)
    latest = select(func.max(AuditEvent.id)).where(
        AuditEvent.object_type == "adapter_version", AuditEvent.action.in_(moves), AuditEvent.outcome == Outcome.OK
    )  # fmt: skip
    # A version shows the words of who moved it last.
    moved = select(AuditEvent.object_id).where(
        AuditEvent.actor_id == str(user.id), AuditEvent.id.in_(latest.group_by(AuditEvent.object_id))
    )
    queries = (
        select(ApprovalVote.reason).where(ApprovalVote.voter_id == user.id),
        select(ApprovalRequest.note).where(ApprovalRequest.requester_id == user.id),
        select(Release.reason).where(Release.released_by == user.id),
        select(AdapterVersion.state_reason).where(cast(AdapterVersion.id, String).in_(moved)),
    )
    return {text for query in queries for text in session.scalars(query) if text}


def _votes_of(session: Session, user: User) -> Sequence[ApprovalVote]:
    # unscoped: the caller holds the user already, and every vote that is blanked needs its entry, also one that a narrowed token cannot see.
    return session.scalars(select(ApprovalVote).where(ApprovalVote.voter_id == user.id).order_by(ApprovalVote.id)).all()


def _note_vote(session: Session, actor: Actor, vote: ApprovalVote, before: str) -> UUID:
    return audit.record(
        session, actor, AuditAction.PAYLOAD_ERASED, object_type="approval_vote", object_id=vote.id, object_digest=vote.manifest_digest,
        project_id=vote.project_id, before=before, record=vote_record(vote), details={"user": str(vote.voter_id)},
    )  # fmt: skip
