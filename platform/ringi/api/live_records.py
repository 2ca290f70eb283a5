"""The state rows that the audit log vouches for, as they are now. It sits up here because they are of every domain."""

from collections.abc import Iterator
from typing import TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarResult, select
from sqlalchemy.orm import Session

from ringi.adapters.models import AdapterVersion
from ringi.adapters.service import version_record
from ringi.approvals.models import ApprovalGrant, ApprovalPolicy, ApprovalVote
from ringi.approvals.records import grant_record, vote_record
from ringi.audit import export
from ringi.compatibility.models import CompatibilityAssessment
from ringi.db.base import OwnedByProject
from ringi.evaluation.models import Evaluation
from ringi.gates.models import GateDecision
from ringi.identity.models import Organization, Project
from ringi.measurements.models import Measurement
from ringi.origins.models import VersionOrigin
from ringi.origins.service import origin_record
from ringi.releases.models import Release
from ringi.releases.service import release_record

Row = TypeVar("Row", bound=OwnedByProject)

RECORD_TYPES = (
    "adapter_version",
    "adapter_version_origin",
    "approval_grant",
    "approval_policy",
    "approval_vote",
    "compatibility_assessment",
    "evaluation",
    "gate_decision",
    "measurement",
    "release",
)


def _live(session: Session, model: type[Row], organization_id: UUID, *where: ColumnElement[bool]) -> ScalarResult[Row]:
    # unscoped: the query names the exporting auditor's organisation itself.
    projects = select(Project.id).where(Project.organization_id == organization_id)
    return session.scalars(select(model).where(model.project_id.in_(projects), *where).execution_options(yield_per=500))


def live_records(session: Session, organization_id: UUID) -> Iterator[export.RecordRow]:
    """The state rows of the organisation that the log vouches for, as they are now."""
    for version in _live(session, AdapterVersion, organization_id):
        yield export.RecordRow("adapter_version", str(version.id), version_record(version))
    for origin in _live(session, VersionOrigin, organization_id):
        yield export.RecordRow("adapter_version_origin", str(origin.id), origin_record(origin))
    for grant in _live(session, ApprovalGrant, organization_id):
        yield export.RecordRow("approval_grant", str(grant.id), grant_record(grant))
    for policy in _live(session, ApprovalPolicy, organization_id):
        yield export.RecordRow("approval_policy", str(policy.id), policy.document)
    for vote in _live(session, ApprovalVote, organization_id):
        yield export.RecordRow("approval_vote", str(vote.id), vote_record(vote))
    for assessment in _live(session, CompatibilityAssessment, organization_id):
        yield export.RecordRow("compatibility_assessment", str(assessment.id), assessment.report)
    for evaluation in _live(session, Evaluation, organization_id, Evaluation.evidence_digest.is_not(None)):
        yield export.RecordRow("evaluation", str(evaluation.id), evaluation.evidence)
    for gate in _live(session, GateDecision, organization_id):
        yield export.RecordRow("gate_decision", str(gate.id), gate.document)
    for measurement in _live(session, Measurement, organization_id, Measurement.evidence_digest.is_not(None)):
        yield export.RecordRow("measurement", str(measurement.id), measurement.evidence)
    for release in _live(session, Release, organization_id):
        yield export.RecordRow("release", str(release.id), release_record(release))


def everyones_records(session: Session) -> Iterator[export.RecordRow]:
    """The same of every organisation; `session` must see them all."""
    # unscoped: the platform compares its own rows with its own log.
    for organization_id in session.scalars(select(Organization.id)).all():
        yield from live_records(session, organization_id)
