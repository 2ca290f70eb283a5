"""The JSON documents of approval rows whose digests stand in the audit log; an export writes them out again from the live rows."""

from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ringi.approvals.models import ApprovalGrant, ApprovalRequest, ApprovalVote


def vote_record(vote: ApprovalVote) -> dict[str, Any]:
    """A vote; `salt` is 32 random bytes in hex, so that the digest commits to the reason without giving it away. Both are null once erased."""
    return {
        "id": str(vote.id), "request": str(vote.request_id), "voter": str(vote.voter_id), "role": str(vote.role), "stage": vote.stage,
        "decision": str(vote.decision), "reason": vote.reason or None, "salt": vote.salt.hex() or None, "manifest_digest": vote.manifest_digest,
        "policy_digest": vote.policy_digest, "evidence_digest": vote.evidence_digest,
    }  # fmt: skip


def request_record(request: ApprovalRequest) -> dict[str, Any]:
    """What a request asks for; the states that it goes through have events of their own, and its note is its requester's text."""
    return {
        "id": str(request.id), "version": str(request.version_id), "environment": request.environment, "policy": str(request.policy_id),
        "manifest_digest": request.manifest_digest, "policy_digest": request.policy_digest, "evidence_digest": request.evidence_digest,
        "evidence": list(request.evidence), "requester": str(request.requester_id), "expires_at": f"{request.expires_at:%Y-%m-%dT%H:%M:%S.%fZ}",
    }  # fmt: skip


def votes_cast(session: Session, request_id: UUID) -> int:
    """How many votes a request has: where it ends, its entry says so, and none of them can be left out of an export unseen."""
    # unscoped: the caller holds the request already.
    return session.scalar(select(func.count()).where(ApprovalVote.request_id == request_id)) or 0


def grant_record(grant: ApprovalGrant) -> dict[str, Any]:
    """A grant; times are RFC 3339 in UTC with microseconds."""
    return {
        "id": str(grant.id), "request": str(grant.request_id), "manifest_digest": grant.manifest_digest, "base_parts": dict(grant.base_parts),
        "environment": grant.environment, "evidence": list(grant.evidence), "policy_digest": grant.policy_digest,
        "valid_from": f"{grant.valid_from:%Y-%m-%dT%H:%M:%S.%fZ}", "expires_at": f"{grant.expires_at:%Y-%m-%dT%H:%M:%S.%fZ}",
    }  # fmt: skip
