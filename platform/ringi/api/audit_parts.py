"""Which part of the log an export shows: a period, or everything that belongs to an adapter."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, String, and_, case, cast, func, select, union_all
from sqlalchemy.orm import Session

from ringi.adapters.models import Adapter, AdapterVersion
from ringi.approvals.models import ApprovalGrant, ApprovalRequest, ApprovalVote
from ringi.audit.export import Chosen, Part
from ringi.audit.generations import of
from ringi.audit.models import AuditEvent, AuditLeaf
from ringi.base_models.models import BaseModel, BaseRevision
from ringi.compatibility.models import CompatibilityAssessment
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.evaluation.models import Evaluation
from ringi.gates.models import GateDecision
from ringi.kit.errors import InvalidInput
from ringi.kit.times import FORMS, read_time
from ringi.measurements.models import Measurement
from ringi.origins.models import VersionOrigin
from ringi.releases.models import Channel, Release
from ringi.suites.models import Suite, SuiteVersion
from ringi.training.models import TrainingRun


class BadTime(InvalidInput):
    """A bound of a period is no time."""

    code = "bad_time"

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"'{name}={text[:40]}' is no time.", next_step=f"Write {FORMS}.")


class NoSuchPart(InvalidInput):
    """Neither a period nor an adapter, or both."""

    code = "audit_export_part"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"No part of the log can be exported so: {reason}.",
            next_step="Name a period (from, to), or an adapter (project, adapter); without either the whole log of the organisation is exported.",
        )


def read_bound(name: str, text: str | None) -> datetime | None:
    """A bound of a period; raises BadTime."""
    try:
        return None if text is None else read_time(text).at
    except ValueError as error:
        raise BadTime(name, text or "") from error


def check(*, since: datetime | None, until: datetime | None, project: str | None, adapter: str | None) -> None:
    """Raises NoSuchPart."""
    if (project is None) != (adapter is None):
        raise NoSuchPart("an adapter has a project and a name")
    if adapter is not None and (since or until):
        raise NoSuchPart("an adapter's part is its whole life")
    if since and until and since >= until:
        raise NoSuchPart("the period ends before it begins")


def of_adapter(adapter: Adapter, generation: int | None = None) -> Chosen:
    """Its versions with their lineage (base, data, runs, origins), evaluations, approvals with votes and policies, and releases."""
    adapter_id, base_id = adapter.id, adapter.base_model_id

    def chosen(session: Session, size: int) -> Part:
        # unscoped: ids of what belongs to an adapter that the caller may see.
        versions = select(AdapterVersion.id).where(AdapterVersion.adapter_id == adapter_id)
        requests = select(ApprovalRequest.id).where(ApprovalRequest.version_id.in_(versions))
        runs = select(TrainingRun).where(TrainingRun.adapter_id == adapter_id).subquery()
        evaluations = select(Evaluation).where(Evaluation.version_id.in_(versions)).subquery()
        releases = select(Release).where(Release.adapter_id == adapter_id).subquery()
        data = select(runs.c.dataset_version_id).union(select(evaluations.c.dataset_version_id))
        parts = (
            select(Adapter.id).where(Adapter.id == adapter_id),
            select(BaseModel.id).where(BaseModel.id == base_id),
            select(BaseRevision.id).where(BaseRevision.base_model_id == base_id),
            select(Dataset.id).where(Dataset.id.in_(select(DatasetVersion.dataset_id).where(DatasetVersion.id.in_(data)))),
            select(DatasetVersion.id).where(DatasetVersion.id.in_(data)),
            versions,
            requests,
            select(runs.c.id),
            select(evaluations.c.id),
            *_measured(adapter_id),
            select(VersionOrigin.id).where(VersionOrigin.version_id.in_(versions)),
            select(CompatibilityAssessment.id).where(CompatibilityAssessment.version_id.in_(versions)),
            select(ApprovalVote.id).where(ApprovalVote.request_id.in_(requests)),
            select(ApprovalGrant.id).where(ApprovalGrant.version_id.in_(versions)),
            select(ApprovalRequest.policy_id).where(ApprovalRequest.version_id.in_(versions)),
            select(releases.c.id),
            select(Channel.id).where(Channel.id.in_(select(releases.c.channel_id))),
        )
        ids = union_all(*(select(cast(part.subquery().c[0], String)) for part in parts)).subquery()
        # What came after the checkpoint, or stands in another log, is left to another export; what no entry tells of at all stays named, and is
        # refused.
        here = and_(AuditLeaf.generation == of(generation), AuditLeaf.leaf_index < size)
        told = select(AuditEvent.object_id).outerjoin(AuditLeaf, AuditLeaf.event_id == AuditEvent.id)
        later = told.where(AuditEvent.object_id.in_(select(ids.c[0]))).group_by(AuditEvent.object_id)
        later = later.having(func.max(case((here, 1), else_=0)) == 0)
        objects = sorted(set(session.scalars(select(ids.c[0]))) - set(session.scalars(later)))
        return Part({"from": None, "to": None, "adapter": str(adapter_id), "objects": objects}, AuditEvent.object_id.in_(select(ids.c[0])))

    return chosen


def _measured(adapter_id: UUID) -> tuple[Select[UUID], ...]:
    """Measurements of its versions with their suites, the decisions about them, and what these compared with."""
    # unscoped: as above.
    versions = select(AdapterVersion.id).where(AdapterVersion.adapter_id == adapter_id)
    own = select(Measurement).where(Measurement.version_id.in_(versions)).subquery()
    gates = select(GateDecision).where(GateDecision.candidate_id.in_(select(own.c.id))).subquery()
    with_suites = select(SuiteVersion).where(SuiteVersion.id.in_(select(own.c.suite_version_id))).subquery()
    return (
        select(own.c.id),
        select(gates.c.id),
        select(gates.c.baseline_id),
        select(with_suites.c.id),
        select(Suite.id).where(Suite.id.in_(select(with_suites.c.suite_id))),
    )
