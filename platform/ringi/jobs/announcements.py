"""What the end of a job means to whoever listens: an event of the job, and one of the run or the evaluation that it was.

Told here and not in those domains, because a job also ends where they are not asked: cancelled in the queue, or given up by housekeeping.
Success is told by the domain, with what it sealed.
"""

from sqlalchemy.orm import Session

from ringi.events.catalogue import data as data_events
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState


def ended(session: Session, job: Job) -> None:
    """Tell that `job`, whose row the caller has just closed, failed or was cancelled."""
    told = _failed(job) if job.state == JobState.FAILED else _cancelled(job)
    for event in told:
        emit(session, event, project_id=job.project_id, organization_id=job.organization_id)


def paused(session: Session, job: Job) -> None:
    """Tell that `job`, whose row the caller has just changed, rests."""
    run, _ = _subjects(job)
    if run:
        told = work_events.TrainingRunPaused.model_validate({"job_id": job.id, **run})
        emit(session, told, project_id=job.project_id, organization_id=job.organization_id)


def _subjects(job: Job) -> tuple[dict[str, str], dict[str, str]]:
    """What names the run, and what names the evaluation, that the job was; empty when it was none."""
    # A row without its ids was not made by `enqueue`; its job still ends.
    if job.kind == JobKind.TRAIN and "run_id" in job.payload:
        return {"run_id": job.payload["run_id"], "adapter": job.payload["adapter_name"]}, {}
    if job.kind == JobKind.EVALUATE and "evaluation_id" in job.payload:
        return {}, {"evaluation_id": job.payload["evaluation_id"], "version": (job.payload["candidate"]["adapter"] or {}).get("name", "")}
    return {}, {}


def _failed(job: Job) -> list[data_events.EventData]:
    error = job.error or {}
    why = {"code": str(error.get("code", "unknown")), "message": str(error.get("message", ""))}
    run, evaluation = _subjects(job)
    told: list[data_events.EventData] = [work_events.JobFailed(job_id=job.id, kind=str(job.kind), subject=job.subject, **why)]
    if run:
        told.append(work_events.TrainingRunFailed.model_validate({"job_id": job.id, **run, **why}))
    if evaluation:
        told.append(work_events.EvaluationFailed.model_validate({"job_id": job.id, **evaluation, **why}))
    return told


def _cancelled(job: Job) -> list[data_events.EventData]:
    run, evaluation = _subjects(job)
    told: list[data_events.EventData] = [work_events.JobCancelled(job_id=job.id, kind=str(job.kind), subject=job.subject)]
    if run:
        told.append(work_events.TrainingRunCancelled.model_validate({"job_id": job.id, **run}))
    if evaluation:
        told.append(work_events.EvaluationCancelled.model_validate({"job_id": job.id, **evaluation}))
    return told
