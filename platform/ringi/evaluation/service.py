"""Request an evaluation, and judge the records that the worker brought back. The rule is verdict.py; workers only measure."""

from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload

from ringi.adapters import service as adapters
from ringi.adapters.kinds import require_adapter
from ringi.adapters.models import Adapter, AdapterVersion
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models import service as base_models
from ringi.base_models.models import BaseRevision
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.evaluation import records as item_records
from ringi.evaluation import verdict
from ringi.evaluation.models import Evaluation
from ringi.evaluation.schemas import MINIMUM_ITEMS, RequestEvaluation
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.identity.permissions import visible
from ringi.jobs import service as jobs
from ringi.jobs.contracts.evaluation import Arm, EvaluatePayload, EvaluateResult
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.models import Job
from ringi.kit.actor import Actor, system_actor
from ringi.kit.digests import sha256_json
from ringi.kit.errors import InvalidInput, NotFound
from ringi.kit.ids import uuid7
from ringi.quotas import service as quotas
from ringi.storage import blobs
from ringi.storage.blobs import StoredBlob


class NothingToCompare(InvalidInput):
    """Candidate and baseline would be the same thing."""

    code = "evaluation_arms_equal"

    def __init__(self) -> None:
        super().__init__(
            "Baseline 'trained_on' on the revision that the version was trained on compares it with itself.",
            next_step="Name another base revision, or use baseline 'base'.",
        )


def request(  # an evaluation is made of exactly these
    session: Session,
    actor: Actor,
    *,
    version: AdapterVersion,
    dataset: DatasetVersion,
    base_revision: BaseRevision,
    body: RequestEvaluation,
) -> Evaluation:
    """An evaluation and its job in one transaction. Raises NothingToCompare, and FullWeights for another base than its own."""
    own = base_models.reference(version.base_revision)
    other = base_models.reference(base_revision)
    ref = adapters.reference(version)
    if own != other:
        require_adapter(
            version, reference=ref.name, what=f"it has its base in itself and does not run on {other.name}:r{other.revision}",
            next_step=f"Evaluate it on r{own.revision}, the revision that it was trained from.",
        )  # fmt: skip
    if body.baseline == "trained_on" and own == other:
        raise NothingToCompare
    baseline = Arm(base=own, adapter=ref) if body.baseline == "trained_on" else Arm(base=other, adapter=None)
    evaluation_id = uuid7()
    payload = EvaluatePayload(
        evaluation_id=evaluation_id, candidate=Arm(base=other, adapter=ref), baseline=baseline, rows=dataset.validation_digest,
        max_new_tokens=body.max_new_tokens, max_length=body.max_length, batch_size=body.batch_size,
    )  # fmt: skip
    job = jobs.enqueue(
        session,
        actor,
        JobKind.EVALUATE,
        payload,
        subject=f"version {ref.name} on {other.name}:r{other.revision}",
        project_id=version.project_id,
        wish=body.placement,
    )
    evaluation = Evaluation(
        id=evaluation_id, project_id=version.project_id, version_id=version.id, base_revision_id=base_revision.id, baseline=body.baseline,
        dataset_version_id=dataset.id, job_id=job.id, requested_by=actor.id,
    )  # fmt: skip
    session.add(evaluation)
    session.flush()  # the evaluation must be findable in the answer
    audit.record(
        session, actor, AuditAction.EVALUATION_REQUEST, object_type="evaluation", object_id=evaluation.id, project_id=version.project_id,
        details={"version": version.manifest_digest, "base": base_revision.digest, "dataset": dataset.digest, "baseline": body.baseline, "job": str(job.id)},
    )  # fmt: skip
    emit(
        session,
        work_events.EvaluationRequested(evaluation_id=evaluation.id, version=ref.name, job_id=job.id),
        project_id=version.project_id,
    )
    return find(session, actor, version=version, evaluation_id=evaluation.id)


def complete(session: Session, job: Job, result: EvaluateResult) -> None:
    """Judge the records and keep the evidence: what was compared, on what, with which outcome."""
    payload = EvaluatePayload.model_validate(job.payload)
    records = list(item_records.read(result.records.digest))
    summary = verdict.judge(records, minimum_items=MINIMUM_ITEMS)
    blobs.register(session, StoredBlob(result.records.digest, result.records.size))
    quotas.note_bytes(session, job.project_id, [(result.records.digest, result.records.size)])
    # unscoped: the platform itself completes what was authorised when it was requested.
    evaluation = session.scalars(select(Evaluation).where(Evaluation.id == payload.evaluation_id)).one()
    candidate, baseline = payload.candidate, payload.baseline
    evaluation.evidence = {
        "type": "evaluation", "evaluation": str(evaluation.id), "rows": payload.rows, "records": result.records.digest,
        "candidate": {"manifest": candidate.adapter.manifest_digest if candidate.adapter else None, "base": candidate.base.digest},
        "baseline": {"manifest": baseline.adapter.manifest_digest if baseline.adapter else None, "base": baseline.base.digest},
        "max_new_tokens": payload.max_new_tokens, "max_length": payload.max_length, "runtime": result.runtime,
        "verdict": summary.verdict.value, "scored": summary.scored, "unscored": summary.unscored,
    }  # fmt: skip
    evaluation.evidence_digest = sha256_json(evaluation.evidence)
    evaluation.summary, evaluation.records_digest = summary.model_dump(mode="json"), result.records.digest
    evaluation.mlflow_run_id = result.mlflow_run_id
    evaluation.completed_at = func.clock_timestamp()
    evaluation.audit_event_id = audit.record(
        session, system_actor("worker"), AuditAction.EVALUATION_COMPLETE, object_type="evaluation", object_id=evaluation.id,
        object_digest=evaluation.evidence_digest, project_id=evaluation.project_id, organization_id=job.organization_id, record=evaluation.evidence,
        details={"job": str(job.id), "verdict": summary.verdict.value, "on_behalf_of": str(job.created_by)},
    )  # fmt: skip
    judged = work_events.EvaluationCompleted(
        evaluation_id=evaluation.id, version=candidate.adapter.name if candidate.adapter else "", job_id=job.id, verdict=summary.verdict.value,
        evidence_digest=evaluation.evidence_digest,
    )  # fmt: skip
    emit(session, judged, project_id=evaluation.project_id)


def evidence_of(session: Session, version: AdapterVersion) -> list[Evaluation]:
    """Completed evaluations of the version on the base revision that it was trained on, oldest first: what an approval rests on."""
    # unscoped: the caller holds the version already.
    query = select(Evaluation).where(
        Evaluation.version_id == version.id,
        Evaluation.base_revision_id == version.base_revision_id,
        Evaluation.evidence_digest.is_not(None),
    )
    return list(session.scalars(query.order_by(Evaluation.id)))


def listed(actor: Actor) -> Select[Evaluation]:
    """Evaluations in sight with what rendering them needs."""
    return visible(actor, Evaluation).options(
        joinedload(Evaluation.job),
        joinedload(Evaluation.version).joinedload(AdapterVersion.adapter).joinedload(Adapter.project),
        joinedload(Evaluation.version).joinedload(AdapterVersion.base_revision),
        joinedload(Evaluation.base_revision).joinedload(BaseRevision.base_model),
        joinedload(Evaluation.dataset_version).joinedload(DatasetVersion.dataset).joinedload(Dataset.project),
    )


def find(session: Session, actor: Actor, *, version: AdapterVersion, evaluation_id: UUID) -> Evaluation:
    """One evaluation of the version."""
    evaluation = session.scalars(listed(actor).where(Evaluation.version_id == version.id, Evaluation.id == evaluation_id)).one_or_none()
    if evaluation is None:
        raise NotFound("evaluation", evaluation_id)
    return evaluation
