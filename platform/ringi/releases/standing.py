"""Gather the facts for the gates, and say what a newer base means for what is live. Used by releases and by the hub."""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from ringi.adapters.models import AdapterVersion
from ringi.adapters.schemas import VersionState
from ringi.approvals.models import ApprovalGrant
from ringi.audit.generations import GROWING
from ringi.audit.models import AuditCheckpoint, AuditEvent, AuditLeaf
from ringi.base_models.models import BaseRevision
from ringi.base_models.schemas import RevisionState
from ringi.compatibility.models import CompatibilityAssessment
from ringi.compatibility.rules import Action
from ringi.evaluation.service import evidence_of
from ringi.gates.service import measured_gates
from ringi.releases import gates
from ringi.releases.gates import Gate, GrantFact, ReleaseFacts
from ringi.releases.schemas import BaseStatus


class Judged(NamedTuple):
    """The grant that a release would rest on (None when there is none) and every gate's verdict."""

    grant_id: UUID | None
    gates: list[Gate]


def gates_of(session: Session, version: AdapterVersion, *, environment: str) -> Judged:
    """Judge `version` (with its adapter and base revision loaded) for `environment` by the database's time."""
    # unscoped: the caller holds the version already.
    # What a log held that has ended since was signed, all of it.
    leaf_index = case((AuditLeaf.generation < GROWING, -1), else_=AuditLeaf.leaf_index)
    rows = session.execute(
        select(ApprovalGrant, leaf_index)
        .join(AuditEvent, AuditEvent.event_id == ApprovalGrant.audit_event_id)
        .outerjoin(AuditLeaf, AuditLeaf.event_id == AuditEvent.id)
        .where(ApprovalGrant.version_id == version.id, ApprovalGrant.environment == environment)
        .order_by(ApprovalGrant.expires_at)
    ).all()
    facts = ReleaseFacts(
        reference=f"{version.adapter.reference}:v{version.number}", state=VersionState(version.state), state_reason=version.state_reason,
        manifest_digest=version.manifest_digest, base_parts={part: version.base_revision.parts[part] for part in ("F1", "F2")},
        environment=environment, evaluations=len(evidence_of(session, version)) + measured_gates(session, version),
        grants=tuple(GrantFact(grant.manifest_digest, dict(grant.base_parts), grant.environment, grant.expires_at, leaf) for grant, leaf in rows),
        signed_size=session.scalar(select(func.max(AuditCheckpoint.size)).where(AuditCheckpoint.generation == GROWING)) or 0,
        now=session.scalars(select(func.clock_timestamp())).one(), kind=version.kind,
    )  # fmt: skip
    verdicts = gates.check(facts)
    # The release names a grant that passes every gate itself, the one that is good for longest.
    best = [
        grant.id
        for grant, leaf in rows
        if gates.logged_grant(facts, GrantFact(grant.manifest_digest, dict(grant.base_parts), grant.environment, grant.expires_at, leaf))
    ]
    return Judged(best[-1] if best else None, verdicts)


class BaseStanding(NamedTuple):
    """The status of the base under a live version and a sentence about it."""

    status: BaseStatus
    note: str


def base_standing(session: Session, version: AdapterVersion) -> BaseStanding:
    """What the newest sealed revision of its base means for a live version. It goes on serving on its own revision either way."""
    own = version.base_revision
    # unscoped: the caller holds the version already.
    newest = session.scalars(
        select(BaseRevision)
        .where(BaseRevision.base_model_id == own.base_model_id, BaseRevision.state == RevisionState.SEALED)
        .order_by(BaseRevision.number.desc())
        .limit(1)
    ).one()
    if newest.number <= own.number:
        return BaseStanding(BaseStatus.CURRENT, f"serves on r{own.number}, the newest revision")
    assessment = session.scalars(
        select(CompatibilityAssessment).where(
            CompatibilityAssessment.version_id == version.id, CompatibilityAssessment.base_revision_id == newest.id
        )
    ).one_or_none()
    if assessment is None:
        return BaseStanding(BaseStatus.NOT_ASSESSED, f"r{newest.number} is newer and not compared yet; serves on r{own.number}")
    if assessment.action == Action.KEEP:
        return BaseStanding(BaseStatus.KEEP, f"r{newest.number} is {assessment.verdict}: keep; serves on r{own.number}")
    note = f"stale base: r{newest.number} is {assessment.verdict} ({assessment.action}); goes on serving on r{own.number}"
    return BaseStanding(BaseStatus.STALE_BASE, note)
