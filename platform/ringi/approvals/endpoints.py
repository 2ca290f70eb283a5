"""HTTP for approvals: request, read, vote, withdraw; and the policy behind them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from ringi.adapters import service as adapters
from ringi.adapters.kinds import FullWeights
from ringi.approvals import policies, refusals, service
from ringi.approvals.lists import APPROVALS
from ringi.approvals.models import ApprovalGrant, ApprovalPolicy, ApprovalRequest, ApprovalVote
from ringi.approvals.policy import PolicyDocument
from ringi.approvals.schemas import (
    ApprovalOut,
    CastVote,
    GrantOut,
    PolicyOut,
    RequestApproval,
    RequestState,
    RequirementOut,
    SetPolicy,
    VoteOut,
    Withdraw,
)
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.tags.lists import with_tags
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}", tags=["approvals"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Requester = Annotated[InProject, allowed_in_project(Permission.APPROVAL_REQUEST)]
Voter = Annotated[InProject, allowed_in_project(Permission.APPROVAL_VOTE)]
PolicyWriter = Annotated[InProject, allowed_in_project(Permission.POLICY_WRITE)]


def approval_out(session: Session, request: ApprovalRequest) -> ApprovalOut:
    """A request with its votes, requirements and grant."""
    # unscoped: the caller holds the request already.
    votes = session.scalars(
        select(ApprovalVote).where(ApprovalVote.request_id == request.id).options(joinedload(ApprovalVote.voter)).order_by(ApprovalVote.id)
    )
    grant = session.scalars(select(ApprovalGrant).where(ApprovalGrant.request_id == request.id)).one_or_none()
    now = service.database_now(session)
    decision = service.standing(session, request, now=now)
    overdue = request.state == RequestState.IN_REVIEW and request.expires_at <= now
    return ApprovalOut(
        id=request.id, version=f"{request.version.adapter.reference}:v{request.version.number}", environment=request.environment,
        state=RequestState.EXPIRED if overdue else request.state,
        stage=decision.stage.name if decision.stage and request.state == RequestState.IN_REVIEW else None,
        manifest_digest=request.manifest_digest, policy_digest=request.policy_digest, evidence_digest=request.evidence_digest, evidence=request.evidence,
        requester=request.requester.name, note=request.note,
        votes=[
            VoteOut(id=v.id, voter=v.voter.name, role=v.role, stage=v.stage, decision=v.decision, reason=v.reason, created_at=v.created_at) for v in votes
        ],
        requirements=[RequirementOut(code=r.code, satisfied=r.satisfied, message=r.message) for r in decision.requirements],
        grant=GrantOut.model_validate(grant) if grant else None, created_at=request.created_at, expires_at=request.expires_at,
        row_version=request.row_version,
    )  # fmt: skip


@router.post(
    "/adapters/{adapter}/versions/{selector}/approvals", status_code=201,
    responses=responses(refusals.VersionUnusable, FullWeights, refusals.RequestOpen, refusals.EvidenceMissing),
)  # fmt: skip
def request_approval(session: SessionDep, caller: Requester, adapter: str, selector: str, body: RequestApproval) -> ApprovalOut:
    """Ask for a grant; the answer's digests are what a vote must name."""
    found = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    version = adapters.find_version(session, caller.actor, adapter=found, selector=selector)
    return approval_out(session, service.request(session, caller.actor, version=version, environment=body.environment, note=body.note))


@router.get("/approvals")
def list_approvals(
    session: SessionDep,
    caller: Reader,
    ask: Annotated[Ask, asking(APPROVALS)],
    state: Annotated[RequestState | None, Query(description="The same as the filter `state=…`.")] = None,
) -> Page[ApprovalOut]:
    """Requests of the project, newest first."""
    query = service.listed(caller.actor).where(ApprovalRequest.project_id == caller.project.id)
    if state is not None:
        query = query.where(APPROVALS.fields["state"].value == state)
    return page_of(session, query, ask, lambda row: approval_out(session, row))


def _found(session: Session, caller: InProject, request_id: UUID) -> ApprovalRequest:
    request = service.find(session, caller.actor, request_id)
    if request.project_id != caller.project.id:
        raise NotFound("approval request", request_id)
    return request


@router.get("/approvals/{request_id}")
def get_approval(session: SessionDep, caller: Reader, request_id: UUID) -> ApprovalOut:
    """One request."""
    return with_tags(session, approval_out(session, _found(session, caller, request_id)))


@router.post(
    "/approvals/{request_id}/votes", status_code=201,
    responses=responses(
        refusals.RequestEnded, refusals.RequestOverdue, refusals.StaleSubject, refusals.SelfApproval, refusals.NotAPerson, refusals.NoSeat,
        PreconditionFailed,
    ),
)  # fmt: skip
def vote(session: SessionDep, caller: Voter, request_id: UUID, body: CastVote, match: IfMatch) -> ApprovalOut:
    """Approve, return, reject or acknowledge, with a reason."""
    match.check(session, _found(session, caller, request_id))
    return with_tags(session, approval_out(session, service.vote(session, caller.actor, request_id=request_id, ballot=body)))


@router.post("/approvals/{request_id}/withdraw", responses=responses(refusals.NotRequester, refusals.RequestEnded, PreconditionFailed))
def withdraw(session: SessionDep, caller: Requester, request_id: UUID, body: Withdraw, match: IfMatch) -> ApprovalOut:
    """Take the request back."""
    match.check(session, _found(session, caller, request_id))
    return with_tags(session, approval_out(session, service.withdraw(session, caller.actor, request_id=request_id, reason=body.reason)))


def policy_out(session: Session, policy: ApprovalPolicy) -> PolicyOut:
    """A policy version."""
    return PolicyOut(
        id=policy.id, number=policy.number, environment=policy.environment, digest=policy.digest, document=PolicyDocument.model_validate(policy.document),
        created_at=policy.created_at, row_version=policies.count(session, policy.project_id),
    )  # fmt: skip


@router.get("/policies/{environment}")
def get_policy(session: SessionDep, caller: Reader, environment: str) -> PolicyOut:
    """The policy that decides in an environment now."""
    return policy_out(session, policies.shown(session, caller.project.id, environment=environment))


@router.post("/policies", status_code=201, responses=responses(PreconditionFailed))
def set_policy(session: SessionDep, caller: PolicyWriter, body: SetPolicy, match: IfMatch) -> PolicyOut:
    """A new policy version; with If-Match only if no policy of the project has changed."""
    if match.versions is not None:
        match.require(policies.count(session, caller.project.id, lock=True))
    return policy_out(
        session, policies.create(session, caller.actor, project_id=caller.project.id, environment=body.environment, document=body.document)
    )
