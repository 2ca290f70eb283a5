"""Why a request, a vote or a withdrawal is refused. `ends_as` is the state that the refusal reveals the request to be in."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from ringi.adapters.models import AdapterVersion
from ringi.approvals.models import ApprovalRequest
from ringi.approvals.policy import GateRule, PolicyDocument, Requirement
from ringi.approvals.schemas import RequestState
from ringi.kit.errors import Conflict, RingiError


class VersionUnusable(Conflict):
    """Retired and revoked versions cannot be approved."""

    code = "version_unusable"

    def __init__(self, version: AdapterVersion) -> None:
        super().__init__(f"Version v{version.number} is '{version.state}' and cannot be approved.", next_step="Choose another version.")


class RequestOpen(Conflict):
    """One open request per version and environment."""

    code = "approval_request_open"

    def __init__(self, request: ApprovalRequest) -> None:
        super().__init__(
            f"Request {request.id} is already open for this version and '{request.environment}'.", next_step="Vote on it, or withdraw it first.",
            details={"request": str(request.id)},
        )  # fmt: skip


class EvidenceMissing(Conflict):
    """The policy asks for evidence that does not exist."""

    code = "approval_evidence_missing"

    def __init__(self, version: AdapterVersion, gaps: Sequence[Requirement], policy: PolicyDocument) -> None:
        name = f"{version.adapter.reference}:v{version.number}"
        runs = [f"ringi evaluate {name} --dataset NAME"] if any(gap.code == "evidence.evaluation" for gap in gaps) else []
        if any(gap.code == "evidence.gate" for gap in gaps):
            rules = (rule for rule in policy.evidence if isinstance(rule, GateRule))
            runs += [f"ringi gate {name} --suite {rule.suite} --against {rule.baseline or 'base'} --sweep" for rule in rules]
        super().__init__(
            " ".join(gap.message for gap in gaps), next_step=f"Run: {'; '.join(runs)}.",
            details={"reasons": [{"code": gap.code, "message": gap.message} for gap in gaps]},
        )  # fmt: skip


class VoteRefused(RingiError):
    """A vote that does not count; the attempt is audited."""

    code, status = "vote_refused", 409
    ends_as: ClassVar[RequestState | None] = None


class RequestEnded(VoteRefused):
    """The request is closed."""

    code = "approval_request_ended"

    def __init__(self, state: RequestState) -> None:
        super().__init__(f"The request is '{state}' and takes no more votes.", next_step="Open a new request.")


class RequestOverdue(VoteRefused):
    """The time for votes is over."""

    code = "approval_request_overdue"
    ends_as = RequestState.EXPIRED

    def __init__(self, expired_at: datetime) -> None:
        super().__init__(f"The request expired at {expired_at:%Y-%m-%d %H:%M} UTC.", next_step="Open a new request.")


class SubjectMoved(VoteRefused):
    """What was proposed is no longer what is there: votes never carry over."""

    code = "stale_subject"
    ends_as = RequestState.STALE

    def __init__(self, what: Sequence[str]) -> None:
        super().__init__(
            f"Since the request was opened, {' and '.join(what)}; the request is stale.",
            next_step="Open a new request.",
            details={"moved": list(what)},
        )


class StaleSubject(VoteRefused):
    """The voter looked at something else than what the request is about."""

    code = "stale_subject"

    def __init__(self, request: ApprovalRequest) -> None:
        current = {
            "manifest_digest": request.manifest_digest,
            "policy_digest": request.policy_digest,
            "evidence_digest": request.evidence_digest,
        }
        super().__init__(
            "The vote names other digests than the request.",
            next_step="Read the request again, then vote on its digests.",
            details={"current": current},
        )


class SelfApproval(VoteRefused):
    """Four eyes: who is involved does not judge (A3.1)."""

    code, status = "self_approval", 403

    def __init__(self, part: str) -> None:
        super().__init__(f"You are the {part}; your vote cannot count.", next_step="Ask another reviewer.")


class NotAPerson(VoteRefused):
    """Service accounts attach evidence, they never vote."""

    code, status = "service_account_vote", 403

    def __init__(self) -> None:
        super().__init__("A service account cannot vote.", next_step="Let a person vote with their own token.")


class NoSeat(VoteRefused):
    """The voter's roles fill no seat of the open stage."""

    code, status = "no_seat", 403

    def __init__(self, stage: str | None, roles: Sequence[str]) -> None:
        where = f"Stage '{stage}' has seats for {', '.join(roles)}" if stage else "No stage is open"
        super().__init__(
            f"{where}; you hold none of these roles by another person's grant.", next_step="Ask an identity_admin for the role."
        )


class NotRequester(RingiError):
    """Only who opened a request may withdraw it."""

    code, status = "not_requester", 403

    def __init__(self) -> None:
        super().__init__("Only the requester may withdraw a request.", next_step="Ask them, or vote to return it.")
