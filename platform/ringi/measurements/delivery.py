"""What a sweep brings back, arm by arm: each in a short transaction of its own that asks first whether the job is still the attempt's.

An arm leaves `pending` once, by compare-and-set. So however often workers are lost, the next attempt finds exactly the arms that nobody has
delivered (`left`), and of two workers that measured one arm, one is refused.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, joinedload

from ringi.adapters.models import AdapterVersion
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models.models import BaseRevision
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.jobs.contracts.sweeps import ArmResult, SweepPayload, SweepResult
from ringi.jobs.holding import hold
from ringi.jobs.models import Job
from ringi.kit.actor import Actor, system_actor
from ringi.kit.digests import Digest, sha256_json
from ringi.kit.errors import RingiError
from ringi.measurements import records, summaries
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MeasurementState, TaskSummary
from ringi.quotas import service as quotas
from ringi.storage import blobs
from ringi.storage.blobs import StoredBlob
from ringi.suites import service as suites
from ringi.suites.models import Suite, SuiteVersion

# Why an answer has no score today and may have one tomorrow.
_PASSING = {
    ScoreProblem.SCORER_CRASHED, ScoreProblem.SCORER_TIMED_OUT, ScoreProblem.SCORER_OUT_OF_MEMORY, ScoreProblem.SCORER_NOT_ALLOWED,
    ScoreProblem.SCORER_NOT_FOUND, ScoreProblem.JUDGE_NOT_CONFIGURED, ScoreProblem.JUDGE_REFUSED, ScoreProblem.JUDGE_TOO_LATE, ScoreProblem.JUDGE_UNREACHABLE,
    ScoreProblem.JUDGE_UNREADABLE,
}  # fmt: skip


class MeasurementDelivered(RingiError):
    """The arm has its result already; what came second is dropped."""

    code, status = "measurement_delivered", 409

    def __init__(self, measurement_id: UUID) -> None:
        super().__init__(f"Measurement {measurement_id} is not pending any more.", next_step="Drop the result.")


def left(session: Session, job_id: UUID) -> set[UUID]:
    """Measurements of the job that nobody has delivered."""
    # unscoped: the worker holds the job's lease.
    query = select(Measurement.id).where(Measurement.job_id == job_id, Measurement.state == MeasurementState.PENDING)
    return set(session.scalars(query))


def reuse(session: Session, job_id: UUID, *, owner: str, attempt: int, runtime: Mapping[str, str]) -> set[UUID]:
    """Take over what was measured before with the same bytes, base, suite and runtime; returns the measurements that this settled.

    Asked by the worker, because only the worker knows its runtime.
    """
    job = hold(session, job_id, owner=owner, attempt=attempt)
    settled = set()
    # unscoped: the platform settles what was authorised when it was asked for.
    waiting = select(Measurement).where(Measurement.job_id == job_id, Measurement.state == MeasurementState.PENDING, ~Measurement.again)
    # Locked, so that an arm which is cancelled at this moment is one or the other.
    for one in session.scalars(waiting.options(*_loads()).with_for_update(of=Measurement)).all():
        if (known := _known(session, one, runtime)) is not None:
            taken: dict[str, Any] = {
                name: getattr(known, name) for name in ("records_digest", "summary", "operations", "runtime", "evidence", "items_done")
            }
            _fill(session, job, one, taken | {"reused_from": known.id})
            settled.add(one.id)
    return settled


def _known(session: Session, one: Measurement, runtime: Mapping[str, str]) -> Measurement | None:
    """The newest measurement of the same, where it would come out so again.

    Where scores are missing for a reason that passes (a scorer that died, a judge that was away) it is measured once more. What is missing then
    too has not passed: otherwise a single item that kills its scorer would be asked again for ever.
    """
    # unscoped: as above. What was taken over is no second measurement.
    same = select(Measurement).where(
        Measurement.project_id == one.project_id, Measurement.suite_version_id == one.suite_version_id,
        Measurement.base_revision_id == one.base_revision_id, Measurement.version_id.is_not_distinct_from(one.version_id),
        Measurement.state == MeasurementState.MEASURED, Measurement.imported_from.is_(None), Measurement.reused_from.is_(None),
        Measurement.runtime_digest == sha256_json(dict(runtime)),
    )  # fmt: skip
    newest = session.scalars(same.order_by(Measurement.id.desc()).limit(2)).all()
    if not newest:
        return None
    missing = [_missing(known) for known in newest]
    lasting = _PASSING.isdisjoint(code for _, _, code in missing[0])
    return newest[0] if lasting or missing[1:] == missing[:1] else None


def _missing(known: Measurement) -> dict[tuple[str, str | None, str], int]:
    """How many scores are missing, by task, metric (None: the first reason of an answer) and code."""
    found: dict[tuple[str, str | None, str], int] = {}
    for name, kept in (known.summary or {}).items():
        task = TaskSummary.model_validate(kept)
        found |= {(name, None, code): count for code, count in task.problems.items()}
        found |= {(name, metric, code): count for metric, figures in task.metrics.items() for code, count in figures.problems.items()}
    return found


def begin(session: Session, job_id: UUID, *, owner: str, attempt: int, measurement_id: UUID) -> bool:
    """The attempt turns to an arm; False where it is not wanted any more. Raises LeaseLost."""
    return _note(session, job_id, owner, attempt, measurement_id, {"started_at": func.clock_timestamp(), "items_done": 0})


def answered(session: Session, job_id: UUID, *, owner: str, attempt: int, measurement_id: UUID, items: int) -> bool:
    """So many items of the arm have an answer; False where it was cancelled meanwhile. Raises LeaseLost."""
    return _note(session, job_id, owner, attempt, measurement_id, {"items_done": items})


def _note(session: Session, job_id: UUID, owner: str, attempt: int, measurement_id: UUID, values: dict[str, Any]) -> bool:
    hold(session, job_id, owner=owner, attempt=attempt)
    # unscoped: the worker holds the job's lease.
    mine = (Measurement.id == measurement_id, Measurement.job_id == job_id, Measurement.state == MeasurementState.PENDING)
    return session.scalar(update(Measurement).where(*mine).values(**values).returning(Measurement.id)) is not None


def deliver(session: Session, job_id: UUID, *, owner: str, attempt: int, result: ArmResult) -> None:
    """An arm was measured. Raises LeaseLost, MeasurementDelivered, RecordsForeign."""
    job = hold(session, job_id, owner=owner, attempt=attempt)
    one = pending(session, job_id, result.measurement_id)
    document = suites.document_of(one.suite_version)
    read = summaries.by_task(records.read(result.records.digest), document.tasks, complete=True)
    blobs.register(session, StoredBlob(result.records.digest, result.records.size))
    quotas.note_bytes(session, one.project_id, [(result.records.digest, result.records.size)])
    summary = {task: figures.model_dump() for task, figures in summaries.summarised(read).items()}
    _fill(
        session, job, one,
        {
            "records_digest": result.records.digest, "summary": summary, "operations": {task: dict(some) for task, some in result.operations.items()},
            "runtime": dict(result.runtime), "evidence": evidence(one, result.records.digest, runtime=result.runtime),
            "items_done": sum(len(some) for some in read.values()),
        },
    )  # fmt: skip


def evidence(one: Measurement, found: Digest, *, runtime: Mapping[str, str]) -> dict[str, Any]:
    """All that the records are bound to: change one of it, and they are no evidence any more."""
    document, base = suites.document_of(one.suite_version), one.base_revision
    return {
        "type": "measurement", "manifest": one.version.manifest_digest if one.version else None, "base": base.digest,
        "base_parts": {part: base.parts.get(part) for part in ("F1", "F2")}, "suite": one.suite_version.digest,
        "decoding": {task.name: task.decoding.model_dump(mode="json") for task in document.tasks}, "runtime": dict(runtime), "records": found,
        "imported_from": one.imported_from,
    }  # fmt: skip


def _fill(session: Session, job: Job, one: Measurement, values: dict[str, Any]) -> None:
    """Measured, once: the row, its evidence, an entry in the log, and an event."""
    complete(session, system_actor("worker"), one, values, organization_id=job.organization_id, job=job)
    told = work_events.MeasurementCompleted(
        measurement_id=one.id, job_id=job.id, version=name_in(job, one), suite_digest=one.suite_version.digest,
        evidence_digest=sha256_json(values["evidence"]), reused="reused_from" in values,
    )  # fmt: skip
    emit(session, told, project_id=one.project_id)


def complete(
    session: Session, actor: Actor, one: Measurement, values: dict[str, Any], *, organization_id: UUID | None, job: Job | None = None
) -> None:
    """Fill a pending measurement in, and log it. Raises MeasurementDelivered."""
    digest = sha256_json(values["evidence"])
    details: dict[str, str | None] = {
        "suite": one.suite_version.digest,
        "base": one.base_revision.digest,
        "imported_from": one.imported_from,
    }
    if job is not None:
        details |= {"job": str(job.id), "on_behalf_of": str(job.created_by)}
    event = audit.record(
        session, actor, AuditAction.MEASUREMENT_COMPLETE if job is not None else AuditAction.MEASUREMENT_IMPORT, object_type="measurement",
        object_id=one.id, object_digest=digest, project_id=one.project_id, organization_id=organization_id, record=values["evidence"],
        details=details,
    )  # fmt: skip
    filled = values | {
        "state": MeasurementState.MEASURED, "evidence_digest": digest, "runtime_digest": sha256_json(values["runtime"]), "audit_event_id": event,
        "completed_at": func.clock_timestamp(),
    }  # fmt: skip
    move(session, one.id, filled)


def refuse(session: Session, job_id: UUID, *, owner: str, attempt: int, measurement_id: UUID, code: str, message: str) -> None:
    """An arm cannot be measured; the sweep goes on. Raises LeaseLost, MeasurementDelivered."""
    job = hold(session, job_id, owner=owner, attempt=attempt)
    _refuse(session, job, pending(session, job_id, measurement_id), code, message)


def _refuse(session: Session, job: Job, one: Measurement, code: str, message: str) -> None:
    problem = {"code": code, "message": message[:2000]}
    move(session, one.id, {"state": MeasurementState.FAILED, "problem": problem, "completed_at": func.clock_timestamp()})
    told = work_events.MeasurementFailed(measurement_id=one.id, job_id=job.id, version=name_in(job, one), code=code, message=message)
    emit(session, told, project_id=one.project_id)


def finished(session: Session, job: Job, _result: SweepResult) -> None:
    """The sweep is over; an arm that is pending all the same would wait for ever."""
    _give_up(session, job, left(session, job.id), code="measurement_missing", message="The sweep ended without this measurement.")


def gave_up(session: Session, job: Job) -> None:
    """The job failed for good: its pending arms have the job's error; what was delivered stays."""
    error = job.error or {}
    code, message = str(error.get("code", "unknown")), str(error.get("message", "The sweep failed."))
    _give_up(session, job, left(session, job.id), code=code, message=message)


def _give_up(session: Session, job: Job, measurements: Collection[UUID], *, code: str, message: str) -> None:
    for one in measurements:
        _refuse(session, job, pending(session, job.id, one), code, message)


def _loads() -> Sequence[Any]:
    return (
        joinedload(Measurement.suite_version).joinedload(SuiteVersion.suite).joinedload(Suite.project),
        joinedload(Measurement.base_revision).joinedload(BaseRevision.base_model),
        joinedload(Measurement.version).joinedload(AdapterVersion.adapter),
    )


def pending(session: Session, job_id: UUID, measurement_id: UUID) -> Measurement:
    """An arm that nobody has delivered, locked. Raises MeasurementDelivered."""
    # unscoped: the worker holds the job's lease.
    query = select(Measurement).where(Measurement.id == measurement_id, Measurement.job_id == job_id).options(*_loads())
    one = session.scalars(query.with_for_update(of=Measurement)).one_or_none()
    if one is None or one.state != MeasurementState.PENDING:
        raise MeasurementDelivered(measurement_id)
    return one


def move(session: Session, measurement_id: UUID, values: dict[str, Any]) -> None:
    """Out of `pending`, once. Raises MeasurementDelivered."""
    moved = session.scalar(
        update(Measurement)
        .where(Measurement.id == measurement_id, Measurement.state == MeasurementState.PENDING)
        .values(**values)
        .returning(Measurement.id)
    )
    if moved is None:
        raise MeasurementDelivered(measurement_id)


def name_in(job: Job, one: Measurement) -> str:
    """What the arm is called in its sweep."""
    arms = SweepPayload.model_validate(job.payload).arms
    return next((arm.name for arm in arms if arm.measurement_id == one.id), "")
