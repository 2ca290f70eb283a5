"""Start, follow and finish training runs. Comes after adapters/lifecycle.py; the run itself is workers/.../training/recipe.py."""

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from ringi.adapters import service as adapters
from ringi.adapters.models import Adapter, AdapterVersion
from ringi.adapters.schemas import VersionSource
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models import service as base_models
from ringi.base_models.models import BaseRevision
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.fleet.schemas import Device
from ringi.identity.permissions import visible
from ringi.jobs import service as jobs
from ringi.jobs.contracts.adapters import AdapterFacts
from ringi.jobs.contracts.base_models import BaseFacts
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import AdapterRef, as_document
from ringi.jobs.contracts.training import Gravity, LoraSpec, PriceTable, RunOrigin, TrainPayload, TrainResult
from ringi.jobs.models import Job
from ringi.jobs.schemas import Placement
from ringi.jobs.service import AlreadyRunning
from ringi.kit.actor import Actor, system_actor
from ringi.kit.digests import Digest, sha256_json
from ringi.kit.errors import Conflict, NotFound
from ringi.kit.ids import uuid7
from ringi.preflight import service as preflight
from ringi.preflight.known import shape_or_why
from ringi.preflight.prices import PriceTableInvalid, read_prices
from ringi.preflight.schemas import PreflightOut
from ringi.preflight.service import RunRefused
from ringi.settings import get_settings
from ringi.training.models import TrainingRun
from ringi.training.provenance import DatasetUsed, Provenance, recorded
from ringi.training.schemas import TrainingPlan
from ringi.training.warm_start import begun_from, require_standing
from ringi.training.workload import workload_of


class RunInProgress(Conflict):
    """One open run per adapter: two would race for the next version number and nobody could say which one was meant."""

    code = "training_run_in_progress"

    def __init__(self, adapter: Adapter) -> None:
        super().__init__(
            f"Adapter {adapter.reference} already has an open training run.", next_step="Cancel it, or wait for it to end: ringi runs list."
        )


def check(
    session: Session, actor: Actor, *, dataset: DatasetVersion, base_revision: BaseRevision, plan: TrainingPlan, placement: Placement | None,
    earlier: AdapterVersion | None = None, stacked: bool = False,
) -> PreflightOut:  # fmt: skip
    """What `start` would find, and what the run would need; starts nothing. Raises PriceTableInvalid, and what warm_start.py names."""
    device = placement.device if placement else None
    return preflight.check(session, actor, _planned(_spec(plan, base_revision, earlier, stacked), dataset, base_revision, device, earlier))


def _planned(
    spec: LoraSpec, dataset: DatasetVersion, base_revision: BaseRevision, device: Device | None, earlier: AdapterVersion | None
) -> preflight.Planned:
    return preflight.Planned(base_revision, dataset, workload_of(spec), device, _labels(earlier), spec.patterns)


def start(
    session: Session,
    actor: Actor,
    *,
    adapter: Adapter,
    dataset: DatasetVersion,
    base_revision: BaseRevision,
    plan: TrainingPlan | LoraSpec,
    placement: Placement | None = None,
    origin: RunOrigin | None = None,
    earlier: AdapterVersion | None = None,
    stacked: bool = False,
) -> TrainingRun:
    """A run and its job in one transaction; raises RunInProgress, RunRefused where a finding refuses it, and what warm_start.py names.

    `plan`: also the spec of another run, as it stands; `origin`: that run.
    """
    spec = _spec(plan, base_revision, earlier, stacked)
    device = placement.device if placement else None
    found = preflight.findings(session, actor, _planned(spec, dataset, base_revision, device, earlier))
    if get_settings().preflight_refuses and any(one.gravity is Gravity.REFUSE for one in found):
        raise RunRefused(found)
    run_id = uuid7()
    payload = TrainPayload(
        run_id=run_id, adapter_id=adapter.id, adapter_name=adapter.reference, base=base_models.reference(base_revision), rows=dataset.train_digest,
        spec=spec, preflight=tuple(found), validation=None if spec.early_stopping_patience is None else dataset.validation_digest, origin=origin,
        prices=prices_now(), earlier=None if earlier is None else adapters.reference(earlier), stacked=stacked,
    )  # fmt: skip
    try:
        job = jobs.enqueue(
            session, actor, JobKind.TRAIN, payload, subject=f"adapter {adapter.reference}", project_id=adapter.project_id,
            exclusive_key=f"train:{adapter.id}", wish=placement,
        )  # fmt: skip
    except AlreadyRunning as error:
        raise RunInProgress(adapter) from error
    run = TrainingRun(
        id=run_id, project_id=adapter.project_id, adapter_id=adapter.id, dataset_version_id=dataset.id, base_revision_id=base_revision.id,
        spec=as_document(spec), job_id=job.id, started_by=actor.id,
    )  # fmt: skip
    session.add(run)
    session.flush()  # the run must be findable in the answer
    audit.record(
        session, actor, AuditAction.TRAINING_RUN_START, object_type="training_run", object_id=run.id, project_id=adapter.project_id,
        details={"adapter": str(adapter.id), "dataset": dataset.digest, "base": base_revision.digest, "job": str(job.id)}
        | ({"origin": str(origin.run_id)} if origin else {})
        | ({} if earlier is None else {"earlier": str(earlier.id)}),
    )  # fmt: skip
    base = f"{payload.base.name}:r{payload.base.revision}"
    started = work_events.TrainingRunStarted(
        run_id=run.id, adapter=adapter.reference, job_id=job.id, dataset_digest=dataset.digest, base=base
    )
    emit(session, started, project_id=run.project_id)
    return find(session, actor, adapter=adapter, run_id=run.id)


def prices_now() -> PriceTable | None:
    """What the operator's devices cost now; None where there is no table, or none that can be read: that is told where costs are asked for."""
    try:
        table = read_prices(get_settings().price_table)
    except PriceTableInvalid:
        return None
    if table.example:
        return None
    return PriceTable(
        currency=table.currency, as_of=table.as_of, source=table.source, per_hour={str(kind): one for kind, one in table.per_hour.items()}
    )


def _labels(earlier: AdapterVersion | None) -> tuple[str, ...]:
    return () if earlier is None else AdapterFacts.model_validate(earlier.facts).labels


def _spec(plan: TrainingPlan | LoraSpec, base_revision: BaseRevision, earlier: AdapterVersion | None, stacked: bool) -> LoraSpec:
    base = BaseFacts.model_validate(base_revision.facts) if base_revision.facts else None
    if earlier is None:
        return plan if isinstance(plan, LoraSpec) else plan.resolved(base)
    named = adapters.reference(earlier).name
    if isinstance(plan, LoraSpec):
        require_standing(earlier, reference=named)
        return plan
    return begun_from(earlier, plan, reference=named, stacked=stacked, base=base)


def earlier_of(session: Session, adapter_id: UUID, begun_with: AdapterRef) -> AdapterVersion:
    """The version that a run of this adapter began with, as it stands now."""
    # unscoped: it was looked up for the caller who started the run.
    query = select(AdapterVersion).where(
        AdapterVersion.adapter_id == adapter_id, AdapterVersion.manifest_digest == begun_with.manifest_digest
    )
    return session.scalars(query).one()


def complete(session: Session, job: Job, result: TrainResult) -> AdapterVersion:
    """Seal the version in the transaction that ends the job; raises AdapterRefused when the adapter fails admission, and WarmStartRevoked."""
    payload = TrainPayload.model_validate(job.payload)
    if payload.earlier is not None:
        require_standing(earlier_of(session, payload.adapter_id, payload.earlier), reference=payload.earlier.name)
    version = adapters.register_version(
        session, job, adapter_id=payload.adapter_id, adapter_name=payload.adapter_name, base=payload.base, files=result.files, facts=result.facts, effect=result.effect,
        runtime=result.runtime, source=VersionSource.TRAINED,
    )  # fmt: skip
    # unscoped: the platform itself finishes a run that was authorised when it was started.
    mine = select(TrainingRun).where(TrainingRun.id == payload.run_id).options(
        joinedload(TrainingRun.base_revision),
        joinedload(TrainingRun.dataset_version).joinedload(DatasetVersion.dataset).joinedload(Dataset.project),
    )  # fmt: skip
    run = session.scalars(mine).one()
    run.version_id, run.metrics, run.mlflow_run_id = version.id, as_document(result.metrics), result.mlflow_run_id
    run.provenance = as_document(_provenance(run, payload, result, manifest_digest=version.manifest_digest))
    run.provenance_digest = sha256_json(run.provenance)
    audit.record(
        session, system_actor("worker"), AuditAction.TRAINING_RUN_COMPLETE, object_type="training_run", object_id=run.id,
        object_digest=version.manifest_digest, project_id=run.project_id, organization_id=job.organization_id,
        details={"job": str(job.id), "version": str(version.id), "on_behalf_of": str(job.created_by), "provenance": run.provenance_digest},
    )  # fmt: skip
    succeeded = work_events.TrainingRunSucceeded(
        run_id=run.id, adapter=payload.adapter_name, job_id=job.id, version=f"{payload.adapter_name}:v{version.number}", version_id=version.id,
        manifest_digest=version.manifest_digest,
    )  # fmt: skip
    emit(session, succeeded, project_id=run.project_id)
    return version


def _provenance(run: TrainingRun, payload: TrainPayload, result: TrainResult, *, manifest_digest: Digest) -> Provenance:
    version = run.dataset_version
    dataset = DatasetUsed(
        name=f"{version.dataset.project.name}/{version.dataset.name}", version=version.number, digest=version.digest, train=payload.rows,
        validation=payload.validation,
    )  # fmt: skip
    shape = shape_or_why(run.base_revision)[0]
    if shape is not None and result.facts.labels:
        shape = shape.with_head_for(len(result.facts.labels))
    return recorded(
        payload, result, manifest_digest=manifest_digest, fingerprint=run.base_revision.parts or {}, dataset=dataset, shape=shape
    )


def failed(session: Session, job: Job) -> None:
    """The run's job failed for good."""
    payload = TrainPayload.model_validate(job.payload)
    audit.record(
        session, system_actor("worker"), AuditAction.TRAINING_RUN_FAIL, object_type="training_run", object_id=payload.run_id,
        project_id=job.project_id, organization_id=job.organization_id,
        details={"job": str(job.id), "code": (job.error or {}).get("code", "unknown"), "on_behalf_of": str(job.created_by)},
    )  # fmt: skip


def listed(actor: Actor) -> Select[TrainingRun]:
    """Runs in sight with what rendering them needs."""
    return visible(actor, TrainingRun).options(
        joinedload(TrainingRun.adapter).joinedload(Adapter.project),
        joinedload(TrainingRun.job),
        joinedload(TrainingRun.version),
        joinedload(TrainingRun.dataset_version).joinedload(DatasetVersion.dataset).joinedload(Dataset.project),
        joinedload(TrainingRun.base_revision).joinedload(BaseRevision.base_model),
    )


def find(session: Session, actor: Actor, *, adapter: Adapter, run_id: UUID) -> TrainingRun:
    """One run of the adapter."""
    run = session.scalars(listed(actor).where(TrainingRun.adapter_id == adapter.id, TrainingRun.id == run_id)).one_or_none()
    if run is None:
        raise NotFound("training run", run_id)
    return run
