"""The JSON documents of approval rows whose digests stand in the audit log; an export writes them out again from the live rows."""

from typing import Any

from ringi.approvals.models import ApprovalGrant, ApprovalVote


def vote_record(vote: ApprovalVote) -> dict[str, Any]:
    """A vote; `salt` is 32 random bytes in hex, so that the digest commits to the reason without giving it away. Both are null once erased."""
    kept = bool(vote.salt)
    return {
        "id": str(vote.id), "request": str(vote.request_id), "voter": str(vote.voter_id), "role": str(vote.role), "stage": vote.stage,
        "decision": str(vote.decision), "reason": vote.reason if kept else None, "salt": vote.salt.hex() if kept else None, "manifest_digest": vote.manifest_digest,
        "policy_digest": vote.policy_digest, "evidence_digest": vote.evidence_digest,
    }  # fmt: skip


def grant_record(grant: ApprovalGrant) -> dict[str, Any]:
    """A grant; times are RFC 3339 in UTC with microseconds."""
    return {
        "id": str(grant.id), "request": str(grant.request_id), "manifest_digest": grant.manifest_digest, "base_parts": dict(grant.base_parts),
        "environment": grant.environment, "evidence": list(grant.evidence), "policy_digest": grant.policy_digest,
        "valid_from": f"{grant.valid_from:%Y-%m-%dT%H:%M:%S.%fZ}", "expires_at": f"{grant.expires_at:%Y-%m-%dT%H:%M:%S.%fZ}",
    }  # fmt: skip
