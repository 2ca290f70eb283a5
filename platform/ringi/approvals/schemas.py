"""Approvals in and out."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from ringi.approvals.policy import PolicyDocument
from ringi.kit.digests import Digest
from ringi.tags.schemas import Tagged
from ringi.web.schemas import Name, Reason, Schema, Text


class RequestState(StrEnum):
    """governance A2. All but `in_review` are final."""

    IN_REVIEW = "in_review"
    APPROVED = "approved"
    CHANGES_REQUESTED = "changes_requested"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    STALE = "stale"


class VoteDecision(StrEnum):
    """承認 approve, 差戻し return, 却下 reject, 確認 acknowledge (never counts towards a quorum)."""

    APPROVE = "approve"
    RETURN = "return"
    REJECT = "reject"
    ACKNOWLEDGE = "acknowledge"


class RequestApproval(Schema):
    """Ask for a grant for one environment."""

    environment: Name = "production"
    note: Text = ""


class CastVote(Schema):
    """A vote on exactly what the digests name; when one of them has moved, the answer is 409 `stale_subject`."""

    decision: VoteDecision
    reason: Reason
    manifest_digest: Digest
    policy_digest: Digest
    evidence_digest: Digest


class Withdraw(Schema):
    """Take the request back."""

    reason: Reason


class VoteOut(Schema):
    """One vote: who, in which seat, what and why."""

    id: UUID
    voter: str
    role: str
    stage: str
    decision: VoteDecision
    reason: str
    created_at: datetime


class RequirementOut(Schema):
    """One requirement of the policy and whether it is met now."""

    code: str
    satisfied: bool
    message: str


class GrantOut(Schema):
    """What may be deployed where, on which evidence, until when."""

    id: UUID
    manifest_digest: Digest
    base_parts: dict[str, str]
    environment: str
    evidence: list[Digest]
    policy_digest: Digest
    valid_from: datetime
    expires_at: datetime
    audit_event_id: UUID


class ApprovalOut(Tagged):
    """One request with its votes, what is still missing, and the grant when there is one."""

    version: str
    environment: str
    state: RequestState
    stage: str | None
    manifest_digest: Digest
    policy_digest: Digest
    evidence_digest: Digest
    evidence: list[dict[str, Any]]
    requester: str
    note: str
    votes: list[VoteOut]
    requirements: list[RequirementOut]
    grant: GrantOut | None
    created_at: datetime
    expires_at: datetime
    row_version: int


class SetPolicy(Schema):
    """A new policy version for the project (or one environment of it); open requests go stale."""

    environment: Name | None = None
    document: PolicyDocument


class PolicyOut(Schema):
    """A policy version."""

    id: UUID
    number: Annotated[int, Field(ge=1)]
    environment: str | None
    digest: Digest
    document: PolicyDocument
    created_at: datetime
    row_version: int
