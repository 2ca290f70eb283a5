"""New rows, and the adapters that depend on them: one retraining each, written in the transaction that seals the rows. What follows: steps.py."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import Session, joinedload

from ringi.adapters.lifecycle import USABLE
from ringi.adapters.models import Adapter, AdapterVersion
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.jobs.contracts.methods import Method
from ringi.jobs.models import Job
from ringi.kit.actor import Actor, system_actor
from ringi.kit.ids import uuid7
from ringi.retraining.models import Retraining, RetrainingPolicy
from ringi.retraining.schemas import RetrainingState, SetRetrainingPolicy
from ringi.training.models import TrainingRun
from ringi.web.preconditions import Match


def policy_of(session: Session, project_id: UUID, *, lock: bool = False) -> RetrainingPolicy | None:
    """The project's policy; `lock` holds it until the end of the transaction."""
    # unscoped: the caller has been let into the project already, or is the platform.
    query = select(RetrainingPolicy).where(RetrainingPolicy.project_id == project_id)
    return session.scalars(query.with_for_update() if lock else query).one_or_none()


def set_policy(session: Session, actor: Actor, *, project: Project, wanted: SetRetrainingPolicy, match: Match) -> RetrainingPolicy:
    """Replace the policy; it holds for dataset versions that are sealed from now on. Raises PreconditionFailed."""
    # unscoped: the caller has been let into the project already. Its row is the lock: the first policy has none of its own.
    session.execute(select(Project.id).where(Project.id == project.id).with_for_update(key_share=True))
    policy = policy_of(session, project.id, lock=True)
    match.require(policy.row_version if policy else 0)
    if policy is None:
        policy = RetrainingPolicy(project_id=project.id)
        session.add(policy)
    policy.enabled, policy.environment = wanted.enabled, wanted.environment
    session.flush()  # the answer has its row_version
    audit.record(
        session, actor, AuditAction.RETRAINING_POLICY_SET, object_type="project", object_id=project.id, project_id=project.id,
        details={"enabled": wanted.enabled, "environment": wanted.environment},
    )  # fmt: skip
    return policy


def plan(session: Session, job: Job, version: DatasetVersion) -> list[UUID]:
    """Note a retraining of every adapter that depends on the dataset of a version that was just sealed; called in that transaction.

    Exactly once for each adapter and version, however often it is called. Returns those that were noted now.
    """
    policy = policy_of(session, version.project_id)
    if policy is None or not policy.enabled:
        return []
    noted = []
    for run in dependents(session, version):
        made = insert(Retraining).values(
            id=uuid7(), project_id=version.project_id, dataset_version_id=version.id, adapter_id=run.adapter_id, source_run_id=run.id,
            environment=policy.environment, state=RetrainingState.WAITING, on_behalf_of=version.created_by,
        )  # fmt: skip
        found = session.scalar(made.on_conflict_do_nothing().returning(Retraining.id))
        if found is None:
            continue
        noted.append(found)
        audit.record(
            session, system_actor("worker"), AuditAction.RETRAINING_PLAN, object_type="retraining", object_id=found, project_id=version.project_id,
            organization_id=job.organization_id,
            details={"adapter": str(run.adapter_id), "dataset": version.digest, "source_run": str(run.id), "on_behalf_of": str(version.created_by)},
        )  # fmt: skip
        told = work_events.RetrainingPlanned(retraining_id=found, adapter=run.adapter.reference, dataset_digest=version.digest)
        emit(session, told, project_id=version.project_id)
    return noted


def dependents(session: Session, version: DatasetVersion) -> list[TrainingRun]:
    """The newest finished run of each adapter whose newest run learnt from an earlier version of this dataset, with other rows.

    An adapter that was trained on something else since depends on that. One whose version was retired or revoked is not trained again by itself.
    Full fine-tuning is done to compare with, so it is neither repeated nor does it stand in the way.
    """
    method = func.jsonb_extract_path_text(TrainingRun.spec, "method")
    # unscoped: the platform does what the project's policy says.
    newest = (
        select(TrainingRun.id)
        .where(TrainingRun.project_id == version.project_id, TrainingRun.version_id.is_not(None), method.is_distinct_from(Method.FULL))
        .ext(distinct_on(TrainingRun.adapter_id))
        .order_by(TrainingRun.adapter_id, TrainingRun.id.desc())
    )
    found = (
        select(TrainingRun)
        .join(DatasetVersion, DatasetVersion.id == TrainingRun.dataset_version_id)
        .join(AdapterVersion, AdapterVersion.id == TrainingRun.version_id)
        .where(TrainingRun.id.in_(newest), DatasetVersion.dataset_id == version.dataset_id, DatasetVersion.number < version.number)
        .where(DatasetVersion.train_digest != version.train_digest, AdapterVersion.state.in_(USABLE))
        .options(joinedload(TrainingRun.adapter).joinedload(Adapter.project))
    )
    return list(session.scalars(found.order_by(TrainingRun.adapter_id)))


def listed(actor: Actor, *, project: Project) -> Select[Retraining]:
    """Retrainings of the project with what rendering them needs."""
    dataset = joinedload(Retraining.dataset_version).joinedload(DatasetVersion.dataset).joinedload(Dataset.project)
    return visible(actor, Retraining).where(Retraining.project_id == project.id).options(*loads(), dataset)


def loads() -> Sequence[Any]:
    """What every reader of a retraining needs."""
    return (
        joinedload(Retraining.adapter).joinedload(Adapter.project),
        joinedload(Retraining.source_run).joinedload(TrainingRun.dataset_version).joinedload(DatasetVersion.dataset),
        joinedload(Retraining.run).options(joinedload(TrainingRun.job), joinedload(TrainingRun.version)),
    )
