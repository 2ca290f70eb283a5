"""Request an approval, vote on it, withdraw it. The rule is policy.py; every vote re-evaluates it under the request's row lock."""

import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload
from sqlalchemy.orm.attributes import flag_modified

from ringi.adapters.kinds import require_adapter
from ringi.adapters.lifecycle import USABLE
from ringi.adapters.models import Adapter, AdapterVersion
from ringi.approvals import announcements, policies, refusals
from ringi.approvals.evidence import Evidence, gathered
from ringi.approvals.models import ApprovalGrant, ApprovalRequest, ApprovalVote
from ringi.approvals.policy import Decision, PolicyDocument, VoteFact, decide, evidence_gaps, seat_for
from ringi.approvals.records import grant_record, request_record, vote_record, votes_cast
from ringi.approvals.schemas import CastVote, RequestState, VoteDecision
from ringi.audit import service as audit
from ringi.audit.read_only import is_stopped
from ringi.audit.schemas import AuditAction, Outcome
from ringi.datasets.models import DatasetVersion
from ringi.db.session import get_sessionmaker
from ringi.identity import service as identity
from ringi.identity.environments import bound_to
from ringi.identity.permissions import visible
from ringi.identity.schemas import Role
from ringi.kit.actor import Actor, ActorKind
from ringi.kit.digests import sha256_json
from ringi.kit.errors import NotFound
from ringi.kit.ids import uuid7
from ringi.training.models import TrainingRun


def database_now(session: Session) -> datetime:
    """Time is database time (A3.14)."""
    now: datetime = session.scalars(select(func.clock_timestamp())).one()
    return now


def request(session: Session, actor: Actor, *, version: AdapterVersion, environment: str, note: str) -> ApprovalRequest:
    """Open a request; refused while another is open, for an unusable version or full weights, and without the evidence that the policy asks for."""
    bound_to(actor, environment)
    if version.state not in USABLE:
        raise refusals.VersionUnusable(version)
    require_adapter(
        version, reference=f"{version.adapter.reference}:v{version.number}", what="it is not served, so nobody approves it",
        next_step="Ask for the approval of an adapter; compare it with this version: ringi sweep.",
    )  # fmt: skip
    # unscoped: the caller holds the version already. Its row is the lock: of two requests at once the second sees the first.
    session.execute(select(AdapterVersion.id).where(AdapterVersion.id == version.id).with_for_update(key_share=True))
    opened = visible(actor, ApprovalRequest).where(
        ApprovalRequest.version_id == version.id,
        ApprovalRequest.environment == environment,
        ApprovalRequest.state == RequestState.IN_REVIEW,
    )
    now = database_now(session)
    if (other := session.scalars(opened).one_or_none()) is not None:
        if other.expires_at > now:
            raise refusals.RequestOpen(other)
        other.state, other.version = RequestState.EXPIRED, version
        _note_end(session, actor, other, AuditAction.APPROVAL_LAPSE)
        announcements.lapsed(session, other)
    policy = policies.current(session, version.project_id, environment=environment)
    document = PolicyDocument.model_validate(policy.document)
    evidence, facts = gathered(session, version, document)
    if gaps := evidence_gaps(document, facts, now=now):
        raise refusals.EvidenceMissing(version, gaps, document)
    opened_request = ApprovalRequest(
        project_id=version.project_id, version_id=version.id, environment=environment, policy_id=policy.id, manifest_digest=version.manifest_digest,
        policy_digest=policy.digest, evidence_digest=sha256_json(evidence), evidence=evidence, requester_id=actor.id, note=note,
        expires_at=now + timedelta(hours=document.sla_h),
    )  # fmt: skip
    session.add(opened_request)
    session.flush()  # the request's id goes into the audit event
    audit.record(
        session, actor, AuditAction.APPROVAL_REQUEST, object_type="approval_request", object_id=opened_request.id, object_digest=version.manifest_digest,
        project_id=version.project_id, policy=policy.digest, record=request_record(opened_request),
        details={"environment": environment, "evidence": opened_request.evidence_digest, "version": str(version.id)}, payload=note or None,
    )  # fmt: skip
    found = find(session, actor, opened_request.id)
    announcements.requested(session, found)
    return found


def vote(session: Session, actor: Actor, *, request_id: UUID, ballot: CastVote) -> ApprovalRequest:
    """Cast a vote; the last one that satisfies the policy makes the grant in the same transaction."""
    try:
        return _vote(session, actor, request_id=request_id, ballot=ballot)
    except refusals.VoteRefused as refusal:
        session.rollback()  # gives the row lock back before the denial is written in a transaction of its own
        _note_denial(actor, request_id, refusal)
        refusal.noted = True
        raise


def _vote(session: Session, actor: Actor, *, request_id: UUID, ballot: CastVote) -> ApprovalRequest:
    subject = find(session, actor, request_id, lock=True)
    now = database_now(session)
    document = PolicyDocument.model_validate(subject.policy.document)
    evidence = gathered(session, subject.version, document)
    _refuse_ended_or_stale(session, subject, ballot, evidence, now)
    role, stage = _seat(session, actor, subject, document)
    cast = ApprovalVote(
        id=uuid7(), project_id=subject.project_id, request_id=subject.id, voter_id=actor.id, role=role, stage=stage, decision=ballot.decision,
        reason=ballot.reason, salt=secrets.token_bytes(32), manifest_digest=subject.manifest_digest, policy_digest=subject.policy_digest,
        evidence_digest=subject.evidence_digest,
    )  # fmt: skip
    cast.audit_event_id = audit.record(
        session, actor, AuditAction.APPROVAL_VOTE, object_type="approval_vote", object_id=cast.id, object_digest=subject.manifest_digest,
        project_id=subject.project_id, policy=subject.policy_digest, record=vote_record(cast),
        details={
            "decision": ballot.decision.value, "role": role.value, "stage": stage, "environment": subject.environment, "request": str(subject.id),
        },
        payload=ballot.reason,
    )  # fmt: skip
    session.add(cast)
    announcements.voted(session, subject, cast)
    session.flush()  # the decision below counts the vote just cast
    decision = standing(session, subject, now=now, evidence=evidence)
    if decision.outcome is not None:
        subject.state = RequestState(decision.outcome)
    # Every vote changes the request, also one that decides nothing yet: its row version counts them.
    flag_modified(subject, "state")
    if decision.outcome == "approved":
        _grant(session, actor, subject, document, now)
    elif decision.outcome is not None:
        _note_end(session, actor, subject, AuditAction.APPROVAL_REFUSE)
        announcements.refused(session, subject)
    session.flush()
    return subject


def _note_end(session: Session, actor: Actor, subject: ApprovalRequest, action: AuditAction) -> None:
    """A request that ends without a grant says in which state."""
    audit.record(
        session, actor, action, object_type="approval_request", object_id=subject.id, object_digest=subject.manifest_digest,
        project_id=subject.project_id, details={"state": subject.state.value, "votes": votes_cast(session, subject.id)},
    )  # fmt: skip


def _refuse_ended_or_stale(session: Session, subject: ApprovalRequest, ballot: CastVote, evidence: Evidence, now: datetime) -> None:
    if subject.state != RequestState.IN_REVIEW:
        raise refusals.RequestEnded(subject.state)
    if subject.expires_at <= now:
        raise refusals.RequestOverdue(subject.expires_at)
    moved = []
    if subject.version.state not in USABLE:
        moved.append(f"the version is '{subject.version.state}'")
    if policies.current(session, subject.project_id, environment=subject.environment).digest != subject.policy_digest:
        moved.append("the policy changed")
    if sha256_json(evidence.named) != subject.evidence_digest:
        moved.append("there is new evidence")
    if moved:
        raise refusals.SubjectMoved(moved)
    theirs = (ballot.manifest_digest, ballot.policy_digest, ballot.evidence_digest)
    if theirs != (subject.manifest_digest, subject.policy_digest, subject.evidence_digest):
        raise refusals.StaleSubject(subject)


def _seat(session: Session, actor: Actor, subject: ApprovalRequest, document: PolicyDocument) -> tuple[Role, str]:
    """The seat that the voter takes; refuses who may not judge this subject (A3.1, A3.2)."""
    if actor.kind is not ActorKind.USER:
        raise refusals.NotAPerson
    # unscoped: who committed the data is a fact about the version, whoever may read the data set.
    inside = built_on(session, subject.version)
    committer = session.scalars(select(DatasetVersion.created_by).where(DatasetVersion.id.in_(_training_data_of(inside)))).all()
    involved = {
        "requester of this approval": [subject.requester_id],
        "author of this version": [*(one.created_by for one in inside), subject.version.adapter.created_by],
        "committer of its data": list(committer),
        "producer of its evidence": [UUID(piece["producer"]) for piece in subject.evidence],
    }
    for part, people in involved.items():
        if actor.id in people:
            raise refusals.SelfApproval(part)
    votes = _counted_votes(session, subject)
    decision = standing(session, subject, now=database_now(session))
    mine = next((cast for cast in votes if cast.voter == actor.id), None)
    stage = next((one for one in document.stages if mine is not None and one.name == mine.stage), None) or decision.stage
    role = seat_for(stage, identity.counted_roles(session, user_id=actor.id, project_id=subject.project_id), votes) if stage else None
    if stage is None or role is None:
        raise refusals.NoSeat(stage.name if stage else None, [seat.role for seat in stage.seats] if stage else [])
    return role, stage.name


def built_on(session: Session, version: AdapterVersion) -> list[AdapterVersion]:
    """The version, and those whose weights it began with, back to the first: what they learnt is in it."""
    found = {version.id: version}
    digest = func.jsonb_extract_path_text(TrainingRun.provenance, "earlier", "manifest_digest")
    latest = [version.id]
    while latest:
        # unscoped: the caller holds the version already.
        earlier = select(digest).where(TrainingRun.version_id.in_(latest), digest.is_not(None))
        before = select(AdapterVersion).where(AdapterVersion.adapter_id == version.adapter_id, AdapterVersion.manifest_digest.in_(earlier))
        new = [one for one in session.scalars(before) if one.id not in found]
        found |= {one.id: one for one in new}
        latest = [one.id for one in new]
    return list(found.values())


def _training_data_of(versions: Iterable[AdapterVersion]) -> Select[UUID]:
    # unscoped: as above.
    return select(TrainingRun.dataset_version_id).where(TrainingRun.version_id.in_([one.id for one in versions]))


def _counted_votes(session: Session, subject: ApprovalRequest) -> list[VoteFact]:
    """The latest vote of each person who still holds the role that they voted in (A3.3, A3.7)."""
    # unscoped: the caller holds the request already.
    latest: dict[UUID, ApprovalVote] = {}
    for cast in session.scalars(select(ApprovalVote).where(ApprovalVote.request_id == subject.id).order_by(ApprovalVote.id)):
        if cast.decision != VoteDecision.ACKNOWLEDGE:
            latest[cast.voter_id] = cast
    return [
        VoteFact(cast.voter_id, Role(cast.role), cast.stage, str(cast.decision))
        for cast in latest.values()
        if cast.role in identity.counted_roles(session, user_id=cast.voter_id, project_id=subject.project_id)
    ]


def standing(session: Session, subject: ApprovalRequest, *, now: datetime, evidence: Evidence | None = None) -> Decision:
    """Where the request stands by its policy now."""
    document = PolicyDocument.model_validate(subject.policy.document)
    known = evidence or gathered(session, subject.version, document)
    return decide(document, _counted_votes(session, subject), known.facts, now=now)


def _grant(session: Session, actor: Actor, subject: ApprovalRequest, document: PolicyDocument, now: datetime) -> None:
    parts = subject.version.base_revision.parts
    grant = ApprovalGrant(
        id=uuid7(), project_id=subject.project_id, request_id=subject.id, version_id=subject.version_id, manifest_digest=subject.manifest_digest,
        base_parts={"F1": parts["F1"], "F2": parts["F2"]}, environment=subject.environment, evidence=[piece["digest"] for piece in subject.evidence],
        policy_digest=subject.policy_digest, valid_from=now, expires_at=now + timedelta(days=document.grant_ttl_d),
    )  # fmt: skip
    grant.audit_event_id = audit.record(
        session, actor, AuditAction.APPROVAL_GRANT, object_type="approval_grant", object_id=grant.id, object_digest=grant.manifest_digest,
        project_id=subject.project_id, policy=subject.policy_digest, record=grant_record(grant),
        details={
            "environment": grant.environment, "request": str(subject.id), "version": str(subject.version_id), "votes": votes_cast(session, subject.id),
        },
    )  # fmt: skip
    session.add(grant)
    announcements.granted(session, subject, grant)


def withdraw(session: Session, actor: Actor, *, request_id: UUID, reason: str) -> ApprovalRequest:
    """The requester takes an open request back."""
    subject = find(session, actor, request_id, lock=True)
    if subject.requester_id != actor.id:
        raise refusals.NotRequester
    if subject.state != RequestState.IN_REVIEW:
        raise refusals.RequestEnded(subject.state)
    subject.state = RequestState.WITHDRAWN
    audit.record(
        session, actor, AuditAction.APPROVAL_WITHDRAW, object_type="approval_request", object_id=subject.id, object_digest=subject.manifest_digest,
        project_id=subject.project_id, details={"votes": votes_cast(session, subject.id)}, payload=reason,
    )  # fmt: skip
    announcements.withdrawn(session, subject)
    return subject


def _note_denial(actor: Actor, request_id: UUID, refusal: refusals.VoteRefused) -> None:
    """The refused attempt is an event (A3.17), and a request whose subject moved or whose time ran out says so, unless nothing may change."""
    with get_sessionmaker().begin() as session:
        subject = find(session, actor, request_id, lock=True)
        if refusal.ends_as is not None and subject.state == RequestState.IN_REVIEW and not session.scalar(select(is_stopped())):
            subject.state = refusal.ends_as
            _note_end(session, actor, subject, AuditAction.APPROVAL_LAPSE)
            announcements.lapsed(session, subject)
        audit.record(
            session, actor, AuditAction.APPROVAL_VOTE, object_type="approval_request", object_id=request_id, object_digest=subject.manifest_digest,
            outcome=Outcome.DENIED, project_id=subject.project_id, details={"code": refusal.code},
        )  # fmt: skip


def listed(actor: Actor) -> Select[ApprovalRequest]:
    """Requests in sight with what rendering and deciding them needs."""
    return visible(actor, ApprovalRequest).options(
        joinedload(ApprovalRequest.version).joinedload(AdapterVersion.adapter).joinedload(Adapter.project),
        joinedload(ApprovalRequest.version).joinedload(AdapterVersion.base_revision),
        joinedload(ApprovalRequest.policy),
        joinedload(ApprovalRequest.requester),
    )


def find(session: Session, actor: Actor, request_id: UUID, *, lock: bool = False) -> ApprovalRequest:
    """One request, locked when a decision is about to be made."""
    query = listed(actor).where(ApprovalRequest.id == request_id)
    if lock:
        query = query.with_for_update(of=ApprovalRequest).execution_options(populate_existing=True)
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound("approval request", request_id)
    return found
