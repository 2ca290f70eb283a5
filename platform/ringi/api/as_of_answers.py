"""The sentences of an "as of" answer: rows, each with the entry that says it. All entries of a page are read in one question."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import String, cast, select, tuple_
from sqlalchemy.orm import Session, joinedload

from ringi.adapters.models import AdapterVersion
from ringi.adapters.schemas import VersionState
from ringi.adapters.service import version_record
from ringi.api.as_of_schemas import ApprovedOut, EvidenceSaidOut, LiveThenOut, SaidOut, VersionSaidOut, VoteSaidOut
from ringi.approvals.models import ApprovalGrant, ApprovalVote
from ringi.approvals.records import grant_record, request_record, vote_record
from ringi.audit import service as audit
from ringi.audit.models import AuditEvent, AuditLeaf
from ringi.audit.schemas import AuditAction, Event, Outcome
from ringi.evaluation.models import Evaluation
from ringi.gates.models import GateDecision
from ringi.identity.models import User
from ringi.kit.actor import Actor
from ringi.kit.digests import sha256_json
from ringi.releases.models import Release
from ringi.releases.service import release_record

_STATES = {
    AuditAction.ADAPTER_VERSION_DEPRECATE: VersionState.DEPRECATED, AuditAction.ADAPTER_VERSION_RETIRE: VersionState.RETIRED,
    AuditAction.ADAPTER_VERSION_REVOKE: VersionState.REVOKED,
}  # fmt: skip


class _Entry(NamedTuple):
    # As its bytes say: the columns led to it, and prove nothing.
    event: Event
    leaf: int | None


@dataclass(frozen=True)
class Answers:
    """What is known of the rows of one page, up to the time that was asked for."""

    at: datetime
    entries: dict[tuple[str, str], list[_Entry]]
    names: dict[str, str]
    votes: dict[UUID, list[ApprovalVote]]
    evidence: dict[str, Evaluation]
    gates: dict[str, GateDecision]

    @classmethod
    def about(
        cls, session: Session, actor: Actor, at: datetime, *, grants: Sequence[ApprovalGrant], releases: Sequence[Release] = ()
    ) -> "Answers":
        """Read what the rows' sentences need."""
        requests = [grant.request for grant in grants]
        # unscoped: what belongs to approvals that the caller may see.
        cast_votes = select(ApprovalVote).where(ApprovalVote.request_id.in_([one.id for one in requests])).order_by(ApprovalVote.id)
        votes: dict[UUID, list[ApprovalVote]] = defaultdict(list)
        for vote in session.scalars(cast_votes.options(joinedload(ApprovalVote.voter))):
            votes[vote.request_id].append(vote)
        digests = {str(piece["digest"]) for one in requests for piece in one.evidence}
        projects = {one.project_id for one in requests}
        # unscoped: as above; the same evidence may have been found by another project too.
        found = select(Evaluation).where(Evaluation.evidence_digest.in_(digests), Evaluation.project_id.in_(projects))
        evidence = {str(one.evidence_digest): one for one in session.scalars(found)}
        # unscoped: as above. Of equal decisions the first one is shown.
        judged = select(GateDecision).where(GateDecision.digest.in_(digests), GateDecision.project_id.in_(projects))
        gates = {one.digest: one for one in session.scalars(judged.order_by(GateDecision.id.desc()))}
        things = (
            {("gate_decision", str(one.id)) for one in gates.values()}
            | {("release", str(one.id)) for one in releases}
            | {("evaluation", str(one.id)) for one in evidence.values()}
        )
        for grant in grants:
            request = grant.request
            things |= {
                ("approval_grant", str(grant.id)),
                ("approval_request", str(request.id)),
                ("approval_policy", str(request.policy_id)),
            }
            things |= {("adapter_version", str(request.version_id)), *(("approval_vote", str(one.id)) for one in votes[request.id])}
        entries = _entries(session, actor, at, things)
        producers = {str(piece["producer"]) for one in requests for piece in one.evidence}
        people = producers | {entry.event.actor.id for known in entries.values() for entry in known}
        return cls(at, entries, _names(session, people), votes, evidence, gates)

    def live(self, release: Release) -> LiveThenOut:
        """What a channel served."""
        version = release.version
        said = self._said("release", release.id, record=release_record(release))
        if said is None:
            raise LookupError(f"release {release.id} has no entry")  # the query asks for its entry
        return LiveThenOut(
            channel=release.channel.name, environment=release.channel.environment, adapter=version.adapter.reference,
            version=f"{version.adapter.reference}:v{version.number}", since=said.at, released_by=release.releaser.name, action=str(release.action),
            reason=release.reason, said=said, approval=self.approved(release.grant),
        )  # fmt: skip

    def approved(self, grant: ApprovalGrant) -> ApprovedOut:
        """An approval."""
        request, policy = grant.request, grant.request.policy
        votes = [(vote, self._said_by(vote)) for vote in self.votes.get(request.id, ())]
        return ApprovedOut(
            grant_id=grant.id, version=self._version(request.version), environment=grant.environment, valid_from=grant.valid_from,
            expires_at=grant.expires_at, in_force=grant.valid_from <= self.at < grant.expires_at,
            said=self._said("approval_grant", grant.id, record=grant_record(grant)), requester=request.requester.name,
            requested=self._said("approval_request", request.id, record=request_record(request), action=AuditAction.APPROVAL_REQUEST),
            policy=f"{policy.environment or 'any'}:{policy.number}", policy_digest=grant.policy_digest,
            policy_said=self._said("approval_policy", policy.id, record=policy.document),
            # A vote that was cast later is not of that time.
            votes=[_vote(vote, said) for vote, said in votes if said is not None or vote.created_at <= self.at],
            evidence=[self._piece(piece) for piece in request.evidence],
        )  # fmt: skip

    def _version(self, version: AdapterVersion) -> VersionSaidOut:
        known = self.entries.get(("adapter_version", str(version.id)), [])
        moves = [entry for entry in known if entry.event.action in _STATES]
        return VersionSaidOut(
            reference=f"{version.adapter.reference}:v{version.number}", manifest_digest=version.manifest_digest,
            state=_STATES[moves[-1].event.action] if moves else VersionState.SEALED,
            sealed=self._said("adapter_version", version.id, record=version_record(version), action=AuditAction.ADAPTER_VERSION_SEAL),
            state_since=self._out(moves[-1], None) if moves else None,
        )  # fmt: skip

    def _piece(self, piece: dict[str, Any]) -> EvidenceSaidOut:
        digest, producer = str(piece["digest"]), str(piece["producer"])
        evaluation, gate, said = self.evidence.get(digest), self.gates.get(digest), None
        if evaluation is not None:
            said = self._said("evaluation", evaluation.id, record=evaluation.evidence, action=AuditAction.EVALUATION_COMPLETE)
        elif gate is not None:
            said = self._said("gate_decision", gate.id, record=gate.document, action=AuditAction.GATE_DECIDE)
        return EvidenceSaidOut(type=str(piece["type"]), digest=digest, producer=self.names.get(producer, producer), said=said)

    def _said_by(self, vote: ApprovalVote) -> SaidOut | None:
        # Without its salt a vote of somebody who was erased cannot be compared with what the entry vouches for.
        record = vote_record(vote) if vote.salt else None
        return self._said("approval_vote", vote.id, record=record, action=AuditAction.APPROVAL_VOTE)

    def _said(self, kind: str, name: UUID, *, record: Any, action: AuditAction | None = None) -> SaidOut | None:
        """The newest entry of the row that tells of its record."""
        known = [
            entry
            for entry in self.entries.get((kind, str(name)), ())
            if (action is None or entry.event.action == action) and entry.event.after is not None
        ]
        return self._out(known[-1], record) if known else None

    def _out(self, entry: _Entry, record: Any | None) -> SaidOut:
        event = entry.event
        agrees = None if record is None or event.after is None else sha256_json(record) == event.after
        name = self.names.get(event.actor.id, event.actor.id)
        at = datetime.fromisoformat(event.ts)
        return SaidOut(event_id=UUID(event.id), index=entry.leaf, at=at, by=name, action=event.action, agrees=agrees)


def _vote(vote: ApprovalVote, said: SaidOut | None) -> VoteSaidOut:
    return VoteSaidOut(
        voter=vote.voter.name, role=str(vote.role), stage=vote.stage, decision=str(vote.decision), reason=vote.reason if vote.salt else None, said=said
    )  # fmt: skip


def _entries(session: Session, actor: Actor, at: datetime, things: set[tuple[str, str]]) -> dict[tuple[str, str], list[_Entry]]:
    known: dict[tuple[str, str], list[_Entry]] = defaultdict(list)
    if not things:
        return known
    query = (
        select(AuditEvent, AuditLeaf.leaf_index)
        .outerjoin(AuditLeaf, AuditLeaf.event_id == AuditEvent.id)
        .where(tuple_(AuditEvent.object_type, AuditEvent.object_id).in_(sorted(things)), AuditEvent.ts <= at)
        .where(AuditEvent.organization_id == actor.organization_id, AuditEvent.outcome == Outcome.OK)
        .order_by(AuditEvent.id)
    )
    for row, index in session.execute(query):
        event = audit.read_event(row)
        known[event.object.type, event.object.id].append(_Entry(event, index))
    return known


def _names(session: Session, people: set[str]) -> dict[str, str]:
    # unscoped: names of who acted on what the caller may see.
    rows = session.execute(select(cast(User.id, String), User.name).where(cast(User.id, String).in_(people)))
    return {row[0]: row[1] for row in rows}
