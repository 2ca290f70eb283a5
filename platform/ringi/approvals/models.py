"""Policies, requests, votes and grants: immutable once written, except for the request's state."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.adapters.models import AdapterVersion
from ringi.approvals.schemas import RequestState, VoteDecision
from ringi.db.base import Base, Identified, OwnedByProject, Versioned
from ringi.identity.models import User
from ringi.identity.schemas import Role


class ApprovalPolicy(Identified, OwnedByProject, Base):
    """A policy version of a project, for one environment or for all that have none of their own."""

    __tablename__ = "approval_policies"
    __table_args__ = (UniqueConstraint("project_id", "environment", "number", postgresql_nulls_not_distinct=True),)

    environment: Mapped[str | None] = mapped_column(String(64))
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(String(71))
    document: Mapped[dict[str, Any]]
    created_by: Mapped[UUID]


class ApprovalRequest(Versioned, OwnedByProject, Base):
    """A proposal (稟議) to deploy a version in an environment, bound to the digests of manifest, policy and evidence."""

    __tablename__ = "approval_requests"
    __table_args__ = (
        Index("uq_approval_requests_open", "version_id", "environment", unique=True, postgresql_where=text("state = 'in_review'")),
    )

    version_id: Mapped[UUID] = mapped_column(ForeignKey("adapter_versions.id"), index=True)
    environment: Mapped[str] = mapped_column(String(64))
    state: Mapped[RequestState] = mapped_column(String(32), default=RequestState.IN_REVIEW)
    policy_id: Mapped[UUID] = mapped_column(ForeignKey("approval_policies.id"))
    manifest_digest: Mapped[str] = mapped_column(String(71))
    policy_digest: Mapped[str] = mapped_column(String(71))
    evidence_digest: Mapped[str] = mapped_column(String(71))
    evidence: Mapped[list[Any]]
    requester_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    note: Mapped[str] = mapped_column(default="")
    expires_at: Mapped[datetime]

    version: Mapped[AdapterVersion] = relationship(lazy="raise")
    policy: Mapped[ApprovalPolicy] = relationship(lazy="raise")
    requester: Mapped[User] = relationship(lazy="raise")


class ApprovalVote(Identified, OwnedByProject, Base):
    """One vote. The random `salt` makes the digest of its record a commitment: it reveals nothing of the reason. Without a salt it is erased."""

    __tablename__ = "approval_votes"

    request_id: Mapped[UUID] = mapped_column(ForeignKey("approval_requests.id"), index=True)
    voter_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    role: Mapped[Role] = mapped_column(String(32))
    stage: Mapped[str] = mapped_column(String(32))
    decision: Mapped[VoteDecision] = mapped_column(String(16))
    reason: Mapped[str]
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    manifest_digest: Mapped[str] = mapped_column(String(71))
    policy_digest: Mapped[str] = mapped_column(String(71))
    evidence_digest: Mapped[str] = mapped_column(String(71))
    audit_event_id: Mapped[UUID | None]

    request: Mapped[ApprovalRequest] = relationship(lazy="raise")
    voter: Mapped[User] = relationship(lazy="raise")


class ApprovalGrant(Identified, OwnedByProject, Base):
    """Created exactly once per approved request: this manifest, on a base with these fingerprint parts, in this environment."""

    __tablename__ = "approval_grants"

    request_id: Mapped[UUID] = mapped_column(ForeignKey("approval_requests.id"), unique=True)
    version_id: Mapped[UUID] = mapped_column(ForeignKey("adapter_versions.id"), index=True)
    manifest_digest: Mapped[str] = mapped_column(String(71), index=True)
    base_parts: Mapped[dict[str, Any]]
    environment: Mapped[str] = mapped_column(String(64))
    evidence: Mapped[list[Any]]
    policy_digest: Mapped[str] = mapped_column(String(71))
    valid_from: Mapped[datetime]
    expires_at: Mapped[datetime]
    audit_event_id: Mapped[UUID]

    request: Mapped[ApprovalRequest] = relationship(lazy="raise")
