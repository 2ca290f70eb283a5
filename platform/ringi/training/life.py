"""What is done with a run after its start: it rests, goes on, is done again, or another one branches off from its snapshot.

Comes after service.py. Cancelling is that of its job (jobs/service.py); the last snapshot stays for thirty days.
"""

from uuid import UUID

from sqlalchemy.orm import Session

from ringi.adapters.models import AdapterVersion
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.datasets.models import DatasetVersion
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.jobs import pausing
from ringi.jobs.contracts.datasets import DatasetReport
from ringi.jobs.contracts.methods import Method
from ringi.jobs.contracts.parts import AdapterRef
from ringi.jobs.contracts.training import LoraSpec, RunOrigin, TrainMetrics
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.jobs.service import AlreadyRunning
from ringi.kit.actor import Actor
from ringi.kit.errors import Conflict, InvalidInput
from ringi.storage import blobs
from ringi.training import service
from ringi.training.models import TrainingRun
from ringi.training.picture import loss_curve
from ringi.training.provenance import Provenance
from ringi.training.schemas import BranchRun
from ringi.training.service import RunInProgress
from ringi.training.warm_start import require_standing


class NoSnapshot(Conflict):
    """There is nothing to branch off from."""

    code = "training_no_snapshot"

    def __init__(self, run_id: UUID, *, state: JobState, every: int) -> None:
        super().__init__(
            f"Run {run_id} is '{state}' and has no snapshot: it makes one every {every} steps and when it pauses; it goes when the run succeeds, and thirty days after it has failed or was cancelled.",
            next_step="Start a run from the beginning: ringi runs again.",
        )


class NoRecord(Conflict):
    """A record is written when a run succeeds."""

    code = "training_no_record"

    def __init__(self, run_id: UUID, *, state: JobState) -> None:
        super().__init__(
            f"Run {run_id} is '{state}' and has no record: its curve and its provenance are written when it succeeds.",
            next_step="See what is known of it: ringi runs show.",
        )


def provenance(run: TrainingRun) -> Provenance:
    """How the run's version came to be; raises NoRecord."""
    if run.provenance is None:
        raise NoRecord(run.id, state=run.job.state)
    return Provenance.model_validate(run.provenance)


def curve(run: TrainingRun) -> str:
    """The run's losses as SVG; raises NoRecord."""
    if run.metrics is None:
        raise NoRecord(run.id, state=run.job.state)
    return loss_curve(TrainMetrics.model_validate(run.metrics), title=f"{run.adapter.reference}, run {run.id}")


def pause(session: Session, actor: Actor, *, run: TrainingRun) -> TrainingRun:
    """Let a run rest: at the end of its step, with a snapshot of it. Raises JobEnded."""
    pausing.pause(session, run.job)
    _record(session, actor, AuditAction.TRAINING_RUN_PAUSE, run)
    return run


def go_on(session: Session, actor: Actor, *, run: TrainingRun) -> TrainingRun:
    """Let a paused run go on from its snapshot. Raises JobNotPaused, RunInProgress, WarmStartRevoked, QuotaExceeded."""
    if (earlier := _begun_with(session, run)) is not None:
        require_standing(earlier, reference=f"{run.adapter.reference}:v{earlier.number}")
    try:
        pausing.go_on(session, run.job)
    except AlreadyRunning as error:
        raise RunInProgress(run.adapter) from error
    _record(session, actor, AuditAction.TRAINING_RUN_CONTINUE, run)
    told = work_events.TrainingRunContinued(run_id=run.id, adapter=run.adapter.reference, job_id=run.job_id)
    emit(session, told, project_id=run.project_id)
    return run


def again(session: Session, actor: Actor, *, run: TrainingRun) -> TrainingRun:
    """A new run with the recipe of `run`: the same rows, base revision, hyperparameters and seed. Raises what `service.start` does."""
    return _from(session, actor, run, LoraSpec.model_validate(run.spec), RunOrigin(run_id=run.id, step=None))


class BranchDiffers(InvalidInput):
    """AdaLoRA gives ranks by the number of steps, so another number means other ranks."""

    code = "training_branch_differs"

    def __init__(self) -> None:
        super().__init__(
            "AdaLoRA takes rank away by a plan over all steps, so a branch of such a run has as many steps as the run.",
            next_step="Leave epochs and max_steps out, or start a new run.",
        )


class BranchEndsBehind(InvalidInput):
    """A branch goes on; what ends before the step that it begins with would be sealed with a recipe that it was not made by."""

    code = "training_branch_ends_behind"

    def __init__(self, steps: int, *, snapshot: int) -> None:
        super().__init__(
            f"The branch would end after step {steps}, and its snapshot is of step {snapshot}.",
            next_step=f"Give it at least as many steps: --max-steps {snapshot} seals the snapshot as it is.",
            details={"steps": steps, "snapshot": snapshot},
        )


def branch(session: Session, actor: Actor, *, run: TrainingRun, change: BranchRun) -> TrainingRun:
    """A new run that goes on from the last snapshot of `run`, which stays as it is.

    Raises NoSnapshot, BranchDiffers, BranchEndsBehind, and what `service.start` does.
    """
    if run.spec.get("method") == Method.ADALORA and not {"epochs", "max_steps"}.isdisjoint(change.model_fields_set):
        raise BranchDiffers
    # Nobody forgets the snapshot meanwhile, and the collector leaves its bytes.
    session.refresh(run.job, with_for_update={"read": True, "of": Job})
    snapshot = run.job.checkpoint
    if snapshot is None:
        raise NoSnapshot(run.id, state=run.job.state, every=run.spec["checkpoint_every"])
    spec = change.applied_to(LoraSpec.model_validate(run.spec))
    if (steps := _steps_at_most(spec, run.dataset_version)) < snapshot["step"]:
        raise BranchEndsBehind(steps, snapshot=snapshot["step"])
    blobs.hold(session, [file["digest"] for file in snapshot["files"]])
    branched = _from(session, actor, run, spec, RunOrigin(run_id=run.id, step=snapshot["step"]))
    branched.job.checkpoint = snapshot
    return branched


def _steps_at_most(spec: LoraSpec, dataset: DatasetVersion) -> int:
    """Rows that a tokenizer leaves nothing of make them fewer, which only the worker knows."""
    rows = DatasetReport.model_validate(dataset.report).train_rows
    planned = spec.epochs * -(-rows // spec.batch_size)
    return planned if spec.max_steps is None else min(planned, spec.max_steps)


def _from(session: Session, actor: Actor, run: TrainingRun, spec: LoraSpec, origin: RunOrigin) -> TrainingRun:
    earlier = _begun_with(session, run)
    return service.start(
        session, actor, adapter=run.adapter, dataset=run.dataset_version, base_revision=run.base_revision, plan=spec, origin=origin,
        earlier=earlier, stacked=bool(run.job.payload.get("stacked")),
    )  # fmt: skip


def _begun_with(session: Session, run: TrainingRun) -> AdapterVersion | None:
    named = run.job.payload.get("earlier")
    return service.earlier_of(session, run.adapter_id, AdapterRef.model_validate(named)) if named else None


def _record(session: Session, actor: Actor, action: AuditAction, run: TrainingRun) -> None:
    audit.record(
        session, actor, action, object_type="training_run", object_id=run.id, project_id=run.project_id,
        details={"adapter": str(run.adapter_id), "job": str(run.job_id)},
    )  # fmt: skip
