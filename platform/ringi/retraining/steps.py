"""One step of one retraining: train as its last run did, evaluate against the base, ask for approval; and there it ends.

The watcher (workers/…/watching.py) takes every step that is due. The retraining's row is the lock, and a step and what it asked for are one
transaction, so however many watchers look, each thing is asked for once. Nothing is approved or released from here.
"""

from dataclasses import replace
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session, aliased, joinedload

from ringi.adapters.models import Adapter, AdapterVersion
from ringi.approvals import service as approvals
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models.models import BaseRevision
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.evaluation import service as evaluation
from ringi.evaluation.models import Evaluation
from ringi.evaluation.schemas import RequestEvaluation
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.jobs.contracts.training import LoraSpec
from ringi.jobs.models import Job
from ringi.jobs.schemas import NOT_OVER, JobState
from ringi.jobs.schemas import OPEN as OPEN_JOBS
from ringi.kit.actor import Actor, system_actor
from ringi.kit.errors import Conflict, RingiError
from ringi.retraining.models import Retraining
from ringi.retraining.schemas import OPEN, RetrainingState
from ringi.retraining.service import loads, policy_of
from ringi.training import service as training
from ringi.training.models import TrainingRun


class StepFailed(Conflict):
    """The job of a step brought no result."""

    code = "retraining_step_failed"

    def __init__(self, what: str, job: Job) -> None:
        error = job.error or {}
        super().__init__(
            f"The {what} ended as '{job.state}': {error.get('message', 'it was cancelled.')}",
            next_step=str(error.get("next_step") or "Train the adapter yourself: ringi train."),
            details={"job": str(job.id), "code": str(error.get("code", "cancelled"))},
        )


class PolicySwitchedOff(Conflict):
    """The project does not want it any more."""

    code = "retraining_policy_off"

    def __init__(self, project: str) -> None:
        super().__init__(f"Project {project} does not retrain by itself any more.", next_step="Train the adapter yourself: ringi train.")


def due(session: Session, *, only: UUID | None = None) -> list[UUID]:
    """Retrainings that a step can be taken of: no job of theirs is open, nor another run of their adapter; oldest first.

    `only`: this one, if it is due.
    """
    run, asked = aliased(TrainingRun), aliased(Evaluation)
    # unscoped: the platform does for everybody what their policies say.
    busy = exists().where(Job.id.in_((run.job_id, asked.job_id)), Job.state.in_(NOT_OVER))
    training_now = exists().where(TrainingRun.adapter_id == Retraining.adapter_id, TrainingRun.job_id == Job.id, Job.state.in_(OPEN_JOBS))
    query = (
        select(Retraining.id)
        .outerjoin(run, run.id == Retraining.run_id)
        .outerjoin(asked, asked.id == Retraining.evaluation_id)
        .where(Retraining.completed_at.is_(None), Retraining.state.in_(OPEN), ~busy, ~training_now)
    )
    return list(session.scalars((query if only is None else query.where(Retraining.id == only)).order_by(Retraining.id)))


def advance(session: Session, retraining_id: UUID) -> RetrainingState | None:
    """Take the step that is due; None where another process is at it, or it was not due any more."""
    # unscoped: as above.
    query = select(Retraining).where(Retraining.id == retraining_id, Retraining.completed_at.is_(None)).options(*loads())
    one = session.scalars(query.with_for_update(of=Retraining, skip_locked=True).execution_options(populate_existing=True)).one_or_none()
    # Another watcher may have taken the step since it was found to be due: what that one asked for is open now.
    if one is None or not due(session, only=retraining_id):
        return None
    actor = replace(system_actor("retraining"), id=one.on_behalf_of, organization_id=one.adapter.project.organization_id)
    try:
        # What a refused step has written is taken back, and nothing else.
        with session.begin_nested():
            _step(session, actor, one)
    except training.RunInProgress:
        # Somebody was quicker; it waits for that run.
        return None
    except RingiError as refusal:
        # A limit that passes is waited for.
        if refusal.retryable or refusal.retry_after_s is not None:
            return None
        one.problem = {"code": refusal.code, "message": refusal.message, "next_step": refusal.next_step, "details": refusal.details}
        _end(session, actor, one, RetrainingState.REFUSED)
    return RetrainingState(one.state)


def _step(session: Session, actor: Actor, one: Retraining) -> None:
    match one.state:
        case RetrainingState.WAITING:
            _train(session, actor, one)
        case RetrainingState.TRAINING if one.run is not None:
            _evaluate(session, actor, one, one.run)
        case RetrainingState.EVALUATING if one.run is not None and one.run.version_id is not None:
            _ask(session, actor, one, one.run.version_id)


def _train(session: Session, actor: Actor, one: Retraining) -> None:
    """As the last run did: the same plan, the same base revision, the new rows."""
    policy = policy_of(session, one.project_id)
    if policy is None or not policy.enabled:
        raise PolicySwitchedOff(one.adapter.project.name)
    if _newer(session, one):
        _end(session, actor, one, RetrainingState.SUPERSEDED)
        return
    # unscoped: as above.
    base = session.scalars(
        select(BaseRevision).where(BaseRevision.id == one.source_run.base_revision_id).options(joinedload(BaseRevision.base_model))
    ).one()
    dataset = _dataset(session, one)
    run = training.start(
        session, actor, adapter=one.adapter, dataset=dataset, base_revision=base, plan=LoraSpec.model_validate(one.source_run.spec)
    )
    one.run_id, one.state = run.id, RetrainingState.TRAINING


def _newer(session: Session, one: Retraining) -> bool:
    """Whether the adapter waits for a still newer version of the dataset, too."""
    later, here = aliased(DatasetVersion), _dataset(session, one)
    # unscoped: as above.
    query = select(Retraining.id).join(later, later.id == Retraining.dataset_version_id)
    query = query.where(Retraining.adapter_id == one.adapter_id, later.dataset_id == here.dataset_id, later.number > here.number)
    return session.scalar(query.limit(1)) is not None


def _dataset(session: Session, one: Retraining) -> DatasetVersion:
    # unscoped: as above.
    query = select(DatasetVersion).where(DatasetVersion.id == one.dataset_version_id)
    return session.scalars(query.options(joinedload(DatasetVersion.dataset).joinedload(Dataset.project))).one()


def _evaluate(session: Session, actor: Actor, one: Retraining, run: TrainingRun) -> None:
    if run.version_id is None:
        raise StepFailed("training run", run.job)
    version, dataset = _version(session, run.version_id), _dataset(session, one)
    body = RequestEvaluation(dataset=f"{dataset.dataset.name}:v{dataset.number}")
    asked = evaluation.request(session, actor, version=version, dataset=dataset, base_revision=version.base_revision, body=body)
    one.evaluation_id, one.state = asked.id, RetrainingState.EVALUATING


def _ask(session: Session, actor: Actor, one: Retraining, version_id: UUID) -> None:
    # unscoped: as above.
    job = session.scalars(select(Job).join(Evaluation, Evaluation.job_id == Job.id).where(Evaluation.id == one.evaluation_id)).one()
    if job.state != JobState.SUCCEEDED:
        raise StepFailed("evaluation", job)
    dataset = _dataset(session, one)
    note = f"Retrained by policy on {dataset.dataset.project.name}/{dataset.dataset.name}:v{dataset.number}."
    asked = approvals.request(session, actor, version=_version(session, version_id), environment=one.environment, note=note)
    one.request_id = asked.id
    _end(session, actor, one, RetrainingState.REQUESTED)


def _version(session: Session, version_id: UUID) -> AdapterVersion:
    # unscoped: as above.
    query = select(AdapterVersion).where(AdapterVersion.id == version_id).options(
        joinedload(AdapterVersion.adapter).joinedload(Adapter.project),
        joinedload(AdapterVersion.base_revision).joinedload(BaseRevision.base_model),
    )  # fmt: skip
    return session.scalars(query).one()


def _end(session: Session, actor: Actor, one: Retraining, state: RetrainingState) -> None:
    one.state, one.completed_at = state, func.clock_timestamp()
    code = str((one.problem or {}).get("code", "")) or None
    audit.record(
        session, actor, AuditAction.RETRAINING_END, object_type="retraining", object_id=one.id, project_id=one.project_id,
        details={"state": state.value, "request": str(one.request_id) if one.request_id else None, "code": code},
    )  # fmt: skip
    told = work_events.RetrainingEnded(
        retraining_id=one.id, adapter=one.adapter.reference, state=state.value, request_id=one.request_id, code=code,
    )  # fmt: skip
    emit(session, told, project_id=one.project_id)
