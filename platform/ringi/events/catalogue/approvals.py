"""Events of approvals and their policies."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from ringi.events.catalogue.data import EventData, VersionName
from ringi.kit.digests import Digest


class OfRequest(EventData):
    """What every event of an approval request says."""

    request_id: UUID
    version: VersionName
    version_id: UUID
    environment: str


class ApprovalRequested(OfRequest):
    """Someone asks for a version to be approved for an environment."""

    NAME, TITLE = "approval.requested", "承認が依頼されました"
    requester_id: UUID
    manifest_digest: Digest
    expires_at: datetime


class ApprovalVoted(OfRequest):
    """A vote was cast. Its reason is not told here: it can be erased, an event cannot."""

    NAME, TITLE = "approval.voted", "承認の投票がありました"
    voter_id: UUID
    decision: str
    stage: str


class ApprovalGranted(OfRequest):
    """The last vote that the policy needs was cast: there is a grant."""

    NAME, TITLE = "approval.granted", "承認されました"
    grant_id: UUID
    manifest_digest: Digest
    expires_at: datetime


class ApprovalRefused(OfRequest):
    """The voters sent the request back or rejected it."""

    NAME, TITLE = "approval.refused", "承認されませんでした"
    outcome: str = Field(description="`changes_requested` (差戻し) or `rejected` (却下).")


class ApprovalWithdrawn(OfRequest):
    """The requester took the request back."""

    NAME, TITLE = "approval.withdrawn", "承認の依頼が取り下げられました"


class ApprovalLapsed(OfRequest):
    """A request ended without a decision, noticed when someone came back to it."""

    NAME, TITLE = "approval.lapsed", "承認の依頼が無効になりました"
    outcome: str = Field(description="`expired` (its time was over) or `stale` (its subject, policy or evidence moved).")


class ApprovalPolicySet(EventData):
    """A new policy version holds for new requests."""

    NAME, TITLE = "approval.policy.set", "承認の方針が変わりました"
    policy_id: UUID
    number: int
    digest: Digest
    environment: str | None = Field(description="Null: for every environment without a policy of its own.")
