"""Turn the facts of a base comparison into a verdict on every adapter version of that base, all in one transaction. The rule is rules.py."""

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from ringi.adapters.models import Adapter, AdapterVersion, ChannelHead, version_name
from ringi.adapters.schemas import VersionState
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models.models import BaseModel, BaseRevision
from ringi.compatibility import rules
from ringi.compatibility.models import BaseComparison, CompatibilityAssessment
from ringi.events.catalogue import adapters as adapters_events
from ringi.events.catalogue import releases as releases_events
from ringi.events.emission import emit
from ringi.identity.permissions import visible
from ringi.jobs.contracts.adapters import AdapterFacts
from ringi.jobs.contracts.base_models import CompareBasesPayload, CompareBasesResult
from ringi.jobs.contracts.parts import as_document
from ringi.jobs.models import Job
from ringi.kit.actor import Actor, system_actor
from ringi.kit.digests import sha256_bytes
from ringi.kit.ids import uuid7


def complete(session: Session, job: Job, result: CompareBasesResult) -> None:
    """Keep the facts and judge every version that was trained on the older revision. One transaction: all are flagged at once."""
    payload = CompareBasesPayload.model_validate(job.payload)
    # A version that is being sealed on the older revision holds a share lock on its row (the foreign key). Waiting for it here means
    # that either this transaction sees the version, or the sealing sees this comparison: none is left unjudged.
    # unscoped: the platform flags every adapter of the base.
    session.execute(select(BaseRevision.id).where(BaseRevision.id == payload.old.revision_id).with_for_update())
    session.execute(
        insert(BaseComparison)
        .values(
            id=uuid7(), organization_id=job.organization_id, old_revision_id=payload.old.revision_id, new_revision_id=payload.new.revision_id,
            facts=as_document(result), job_id=job.id,
        )
        .on_conflict_do_nothing()
    )  # fmt: skip
    # unscoped: the platform flags every adapter of the base, in every project of the organisation.
    affected = select(AdapterVersion).where(
        AdapterVersion.base_revision_id == payload.old.revision_id, AdapterVersion.state != VersionState.REVOKED
    )
    for version in session.scalars(affected.order_by(AdapterVersion.id)).all():
        _assess(session, version, payload.new.revision_id, payload, result, organization_id=job.organization_id)


def assess_new_version(session: Session, version_id: UUID, *, organization_id: UUID) -> None:
    """A version sealed after newer revisions were compared is judged from the stored facts."""
    # unscoped: called by the platform for a version that it has just sealed.
    version = session.scalars(select(AdapterVersion).where(AdapterVersion.id == version_id)).one()
    known = select(BaseComparison).where(BaseComparison.old_revision_id == version.base_revision_id).options(joinedload(BaseComparison.job))
    for comparison in session.scalars(known).all():
        payload = CompareBasesPayload.model_validate(comparison.job.payload)
        facts = CompareBasesResult.model_validate(comparison.facts)
        _assess(session, version, comparison.new_revision_id, payload, facts, organization_id=organization_id)


def _assess(
    session: Session,
    version: AdapterVersion,
    revision_id: UUID,
    payload: CompareBasesPayload,
    facts: CompareBasesResult,
    *,
    organization_id: UUID,
) -> None:
    steering = rules.changed_side_files(payload.old.files, payload.new.files)
    assessment = rules.judge(facts, AdapterFacts.model_validate(version.facts), other_files_changed=steering)
    report = rules.report_bytes(assessment)
    new = session.scalar(
        insert(CompatibilityAssessment)
        .values(
            id=uuid7(), project_id=version.project_id, version_id=version.id, base_revision_id=revision_id, verdict=assessment.verdict,
            action=assessment.action, report=assessment.model_dump(mode="json"), report_digest=sha256_bytes(report),
        )
        .on_conflict_do_nothing()
        .returning(CompatibilityAssessment.id)
    )  # fmt: skip
    if new is None:
        return
    audit.record(
        session, system_actor("worker"), AuditAction.COMPATIBILITY_ASSESS, object_type="compatibility_assessment", object_id=new,
        object_digest=version.manifest_digest, project_id=version.project_id, organization_id=organization_id,
        record=assessment.model_dump(mode="json"),
        details={
            "version": str(version.id), "base_revision": str(revision_id), "verdict": assessment.verdict.value, "action": assessment.action.value,
        },
    )  # fmt: skip
    _tell(session, version, revision_id, assessment)


def _tell(session: Session, version: AdapterVersion, revision_id: UUID, assessment: rules.Assessment) -> None:
    """The verdict is an event; for every channel that serves the version on a base that it must not simply follow, one more."""
    name, verdict, action = version_name(session, version), assessment.verdict.value, assessment.action.value
    # unscoped: the platform tells of a version that it has just judged.
    revised = select(BaseModel.name, BaseRevision.number).join(BaseRevision.base_model).where(BaseRevision.id == revision_id)
    base = "{}:r{}".format(*session.execute(revised).one())
    judged = adapters_events.CompatibilityAssessed(version=name, version_id=version.id, base_revision=base, verdict=verdict, action=action)
    emit(session, judged, project_id=version.project_id)
    if assessment.action == rules.Action.KEEP:
        return
    serving = select(ChannelHead.channel).where(ChannelHead.version_id == version.id).order_by(ChannelHead.channel)
    for channel in session.scalars(serving):
        stale = releases_events.ChannelStaleBase(channel=channel, version=name, base_revision=base, verdict=verdict, action=action)
        emit(session, stale, project_id=version.project_id)


def listed(actor: Actor) -> Select[CompatibilityAssessment]:
    """Assessments in sight with what rendering them needs."""
    return visible(actor, CompatibilityAssessment).options(
        joinedload(CompatibilityAssessment.version).joinedload(AdapterVersion.adapter).joinedload(Adapter.project),
        joinedload(CompatibilityAssessment.version).joinedload(AdapterVersion.base_revision).joinedload(BaseRevision.base_model),
        joinedload(CompatibilityAssessment.base_revision).joinedload(BaseRevision.base_model),
    )
