"""What a search brings back, comparison by comparison, each in a short transaction that asks first whether the job is still the attempt's.

A comparison and the checkpoint behind it are kept together. So whatever ends a worker, the next one asks for its turn and goes on exactly there.
"""

from collections import Counter
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.jobs.contracts.parts import as_document
from ringi.jobs.contracts.searches import Comparison, SearchPayload, SearchResult, TrialCheckpoint
from ringi.jobs.contracts.training import LoraSpec
from ringi.jobs.holding import hold, save_checkpoint
from ringi.jobs.models import Job
from ringi.kit.actor import system_actor
from ringi.kit.errors import RingiError
from ringi.searches import service
from ringi.searches.halving import standing
from ringi.searches.models import SearchTrial
from ringi.searches.schemas import TrialState
from ringi.storage import blobs
from ringi.storage.blobs import StoredBlob


class NextTurn(NamedTuple):
    """Train this trial up to and with `until`, from its checkpoint where it has one. `steps`: all at which trials are compared."""

    trial_id: UUID
    place: int
    spec: LoraSpec
    until: int
    checkpoint: TrialCheckpoint | None
    steps: tuple[int, ...]


def next_turn(session: Session, job_id: UUID, *, owner: str, attempt: int, steps: int) -> NextTurn | None:
    """Who is trained next; losers are stopped here. `steps`: of a whole run. None at the end. Raises LeaseLost."""
    job = hold(session, job_id, owner=owner, attempt=attempt)
    rule = SearchPayload.model_validate(job.payload).rule
    trials = _trials(session, job_id)
    compared_after = service.steps_of(trials, rule, steps=steps)
    found = standing([service.as_trial(one) for one in trials], compared_after, reduction=rule.reduction)
    for one in trials:
        one.steps = steps
        if one.id in found.stopped and one.state == TrialState.WAITING:
            one.state, one.stopped_after, one.completed_at = TrialState.STOPPED, found.stopped[one.id], func.clock_timestamp()
    if found.turn is None:
        return None
    chosen = next(one for one in trials if one.id == found.turn.trial_id)
    kept = (job.checkpoint or {}).get(str(chosen.id))
    checkpoint = None if kept is None else TrialCheckpoint.model_validate(kept)
    return NextTurn(chosen.id, chosen.place, LoraSpec.model_validate(chosen.spec), found.turn.step, checkpoint, compared_after)


def keep(
    session: Session,
    job_id: UUID,
    *,
    owner: str,
    attempt: int,
    trial_id: UUID,
    comparison: Comparison | None,
    checkpoint: TrialCheckpoint | None,
) -> None:
    """A trial came so far. One without a checkpoint is at its end. Raises LeaseLost."""
    job = hold(session, job_id, owner=owner, attempt=attempt)
    one = _trial(session, job_id, trial_id)
    if comparison is not None and comparison.step not in {found["step"] for found in one.comparisons}:
        one.comparisons = [*one.comparisons, as_document(comparison)]
    for file in checkpoint.files if checkpoint is not None else ():
        blobs.register(session, StoredBlob(file.digest, file.size))
    if checkpoint is None:
        one.state, one.completed_at = TrialState.FINISHED, func.clock_timestamp()
    # Of those that are trained no more none is kept: the bytes would stay as long as the job.
    waiting = {str(trial.id) for trial in _trials(session, job_id) if trial.state == TrialState.WAITING}
    kept = {name: found for name, found in (job.checkpoint or {}).items() if name in waiting}
    here = {} if checkpoint is None else {str(one.id): as_document(checkpoint)}
    save_checkpoint(session, job_id, owner=owner, attempt=attempt, checkpoint=kept | here)


def fail(session: Session, job_id: UUID, *, owner: str, attempt: int, trial_id: UUID, error: RingiError) -> None:
    """A trial cannot be trained; the search goes on without it. Raises LeaseLost."""
    hold(session, job_id, owner=owner, attempt=attempt)
    _fail(_trial(session, job_id, trial_id), error.code, error.message, error.next_step)


def _fail(one: SearchTrial, code: str, message: str, next_step: str) -> None:
    one.problem = {"code": code, "message": message[:2000], "next_step": next_step, "details": {}}
    one.state, one.completed_at = TrialState.FAILED, func.clock_timestamp()


def counts(session: Session, job_id: UUID) -> Counter[TrialState]:
    """How many trials stand how."""
    return Counter(TrialState(one.state) for one in _trials(session, job_id))


def finished(session: Session, job: Job, _result: SearchResult) -> None:
    """The search is over: its recommendation goes into the log, and is told."""
    payload = SearchPayload.model_validate(job.payload)
    trials = _trials(session, job.id)
    found = service.recommended(trials, payload.rule)
    chosen = next((LoraSpec.model_validate(one.spec) for one in trials if found is not None and one.id == found.trial_id), None)
    # Numbers that are no integers have no place in the log's canonical JSON.
    named = {"rank": chosen.rank if chosen else None, "learning_rate": repr(chosen.learning_rate) if chosen else None}
    audit.record(
        session, system_actor("worker"), AuditAction.SEARCH_COMPLETE, object_type="job", object_id=job.id, project_id=job.project_id,
        organization_id=job.organization_id, details={**named, "trial": str(found.trial_id) if found else None, "on_behalf_of": str(job.created_by)},
    )  # fmt: skip
    told = work_events.SearchCompleted(
        job_id=job.id, adapter=payload.adapter_name, rank=chosen.rank if chosen else None, learning_rate=chosen.learning_rate if chosen else None,
        reasons=list(found.reasons) if found else [],
    )  # fmt: skip
    emit(session, told, project_id=job.project_id)


def gave_up(session: Session, job: Job) -> None:
    """The job failed for good: its waiting trials have the job's error; what was compared stays."""
    error = job.error or {}
    for one in _trials(session, job.id):
        if one.state == TrialState.WAITING:
            _fail(one, str(error.get("code", "unknown")), str(error.get("message", "")), str(error.get("next_step", "")))


def _trials(session: Session, job_id: UUID) -> list[SearchTrial]:
    # unscoped: the worker holds the job's lease.
    return list(session.scalars(select(SearchTrial).where(SearchTrial.job_id == job_id).order_by(SearchTrial.place)))


def _trial(session: Session, job_id: UUID, trial_id: UUID) -> SearchTrial:
    # unscoped: as above.
    return session.scalars(select(SearchTrial).where(SearchTrial.job_id == job_id, SearchTrial.id == trial_id).with_for_update()).one()
