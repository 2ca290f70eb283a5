"""What happens to a request, told as events: docs/events.md."""

from typing import Any, TypeVar

from sqlalchemy.orm import Session

from ringi.adapters.models import version_name
from ringi.approvals.models import ApprovalGrant, ApprovalRequest, ApprovalVote
from ringi.events.catalogue import approvals as approvals_events
from ringi.events.emission import emit

Told = TypeVar("Told", bound=approvals_events.OfRequest)


def _of(session: Session, request: ApprovalRequest, event: type[Told], **more: Any) -> Told:
    name = version_name(session, request.version)
    return event(request_id=request.id, version=name, version_id=request.version_id, environment=request.environment, **more)


def requested(session: Session, request: ApprovalRequest) -> None:
    """A request was opened."""
    told = _of(
        session, request, approvals_events.ApprovalRequested, requester_id=request.requester_id, manifest_digest=request.manifest_digest,
        expires_at=request.expires_at,
    )  # fmt: skip
    emit(session, told, project_id=request.project_id)


def voted(session: Session, request: ApprovalRequest, cast: ApprovalVote) -> None:
    """A vote was cast."""
    told = _of(session, request, approvals_events.ApprovalVoted, voter_id=cast.voter_id, decision=str(cast.decision), stage=cast.stage)
    emit(session, told, project_id=request.project_id)


def granted(session: Session, request: ApprovalRequest, grant: ApprovalGrant) -> None:
    """The policy is satisfied."""
    told = _of(
        session,
        request,
        approvals_events.ApprovalGranted,
        grant_id=grant.id,
        manifest_digest=grant.manifest_digest,
        expires_at=grant.expires_at,
    )
    emit(session, told, project_id=request.project_id)


def refused(session: Session, request: ApprovalRequest) -> None:
    """The voters said no; the request's state says how."""
    emit(session, _of(session, request, approvals_events.ApprovalRefused, outcome=str(request.state)), project_id=request.project_id)


def withdrawn(session: Session, request: ApprovalRequest) -> None:
    """The requester took it back."""
    emit(session, _of(session, request, approvals_events.ApprovalWithdrawn), project_id=request.project_id)


def lapsed(session: Session, request: ApprovalRequest) -> None:
    """It ended without a decision; the request's state says why."""
    emit(session, _of(session, request, approvals_events.ApprovalLapsed, outcome=str(request.state)), project_id=request.project_id)
