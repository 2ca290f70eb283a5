"""A look's measurement has come, or will not come: the gate decides, drift is compared, and whoever listens is told what has changed.

Facts are what the sweep kept; everything here is read from the database and decided again in the same way by whoever comes second, and the look's
row, which ends once, says who came first.
"""

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, aliased

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.events.catalogue import watches as watch_events
from ringi.events.emission import emit
from ringi.gates import service as gates
from ringi.gates.models import GateDecision
from ringi.gates.schemas import DecideGate
from ringi.gating.schemas import Arm, Verdict
from ringi.jobs import service as jobs
from ringi.jobs.models import Job
from ringi.jobs.schemas import OPEN, JobState
from ringi.kit.actor import Actor
from ringi.kit.errors import RingiError
from ringi.measurements import records, summaries
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MeasurementState, TaskSummary
from ringi.suites import service as suites
from ringi.suites.models import SuiteVersion
from ringi.watches import drift, refusals, service
from ringi.watches.models import Watch, WatchLook
from ringi.watches.schemas import Drift, DriftLimits, LookState

log = logging.getLogger("ringi.watcher")


def ripe(session: Session) -> list[UUID]:
    """Looks that wait for nothing any more: both measurements are there, the job has ended, or their time is over."""
    # unscoped: the platform settles what was asked for.
    other = aliased(Measurement)
    query = (
        select(WatchLook.id)
        .join(Watch, Watch.id == WatchLook.watch_id)
        .join(Measurement, Measurement.id == WatchLook.measurement_id)
        .outerjoin(other, other.id == WatchLook.baseline_id)
        .join(Job, Job.id == WatchLook.job_id)
        .where(
            WatchLook.state == LookState.PENDING,
            or_(
                (Measurement.state != MeasurementState.PENDING) & (func.coalesce(other.state, "") != MeasurementState.PENDING),
                Job.state.not_in(OPEN),
                WatchLook.created_at + func.make_interval(0, 0, 0, 0, 0, 0, Watch.within_s) <= func.clock_timestamp(),
            ),
        )
    )
    return list(session.scalars(query.order_by(WatchLook.id)))


def settle(session: Session, look_id: UUID) -> WatchLook | None:
    """End a look; None when another process is at it, or it waits after all. Past its time it ends, whatever is raised."""
    look = _held(session, look_id)
    if look is None or look.measurement_id is None:
        return None
    actor = service.actor_of(look.watch)
    try:
        with session.begin_nested():
            return _settled(session, actor, look, look.measurement_id)
    except (OperationalError, InterfaceError):
        # The database is away, or too busy: it could not keep the end either.
        raise
    except Exception as error:
        # Read again: what was changed before the error is taken back, in the database and here.
        look = _held(session, look_id)
        if look is None or not _overdue(session, look):
            raise
        log.exception("look %s could not be judged in its time", look_id)
        # What an error that nobody foresaw says may be of the inside of the platform.
        why = error.message if isinstance(error, RingiError) else f"{type(error).__name__}."
        fail(session, actor, look, refusals.NotJudged(look.watch.within_s, why))
        session.flush()  # the caller reads what was decided
        return look


def _held(session: Session, look_id: UUID) -> WatchLook | None:
    # unscoped: the platform settles what was asked for.
    query = select(WatchLook).where(WatchLook.id == look_id, WatchLook.state == LookState.PENDING)
    query = query.with_for_update(of=WatchLook, skip_locked=True).options(*service.loads()).execution_options(populate_existing=True)
    return session.scalars(query).one_or_none()


def _settled(session: Session, actor: Actor, look: WatchLook, measurement_id: UUID) -> WatchLook | None:
    found = {one.id: one for one in session.scalars(_measured_with(look))}
    mine, other = found[measurement_id], found.get(look.baseline_id) if look.baseline_id else None
    waits = [one for one in (mine, other) if one is not None and one.state == MeasurementState.PENDING]
    if waits and (refusal := _given_up(session, actor, look)) is None:
        return None
    if waits and refusal is not None:
        fail(session, actor, look, refusal)
    elif mine.state == MeasurementState.CANCELLED:
        fail(session, actor, look, refusals.MeasurementCancelled(mine.id))
    elif mine.state != MeasurementState.MEASURED:
        fail(session, actor, look, None, mine.problem)
    elif other is not None and other.state != MeasurementState.MEASURED:
        why = str((other.problem or {}).get("message", f"it is '{other.state}'."))
        fail(session, actor, look, refusals.BaselineNotMeasured(look.watch.baseline, why))
    else:
        try:
            with session.begin_nested():
                _judge(session, actor, look, mine, other)
        except RingiError as refusal:
            # The store is away, say: what was measured is there, and is judged in a later round.
            if refusal.retryable:
                raise
            fail(session, actor, look, refusal)
    session.flush()  # the caller reads what was decided
    return look


def _measured_with(look: WatchLook) -> Any:
    # unscoped: the look is held already.
    wanted = select(Measurement).where(Measurement.id.in_([one for one in (look.measurement_id, look.baseline_id) if one is not None]))
    return wanted.execution_options(populate_existing=True)


def _given_up(session: Session, actor: Actor, look: WatchLook) -> RingiError | None:
    """Why nothing more is waited for; a job that nobody took in time is cancelled, so that no queue fills with looks that nobody needs."""
    # unscoped: the look is held already.
    job = session.scalars(select(Job).where(Job.id == look.job_id).execution_options(populate_existing=True)).one()
    state = JobState(job.state)
    if state is JobState.FAILED:
        return refusals.JobFailed(str((job.error or {}).get("message", "nobody knows why.")))
    # The time before the state: of a sweep that several looks wait for, the first one that is over has cancelled the job.
    if not _overdue(session, look):
        return refusals.JobCancelled(job.id) if state is JobState.CANCELLED else None
    if state in OPEN and job.cancel_requested_at is None:
        try:
            jobs.cancel(session, actor, job_id=job.id)
        except jobs.JobEnded:
            # At this moment; the next round sees with what.
            return None
    return refusals.NotInTime(look.watch.within_s, state)


def _overdue(session: Session, look: WatchLook) -> bool:
    return service.moment(session) >= look.created_at + timedelta(seconds=look.watch.within_s)


def _judge(session: Session, actor: Actor, look: WatchLook, mine: Measurement, other: Measurement | None) -> None:
    first = _first(session, mine)
    # A version that is its own baseline is compared with what it was.
    baseline = other if other is not None and other.id != mine.id else first
    suite = _suite(look)
    document, limits = suites.document_of(suite), DriftLimits.model_validate(look.watch.drift)
    summary = {task: TaskSummary.model_validate(found) for task, found in (mine.summary or {}).items()}
    arms: dict[str, Arm] = {}
    if first is not None:
        arms = {"now": _arm(mine, suite), "first": _arm(first, suite)}
    found = Drift(
        scores=drift.scores(document, summary, limits=limits, **arms), operations=drift.operations(
            mine.operations or {}, first.operations if first else None, limits
        ),
    )  # fmt: skip
    gate = None
    if baseline is not None and document.requirements:
        asked = DecideGate(candidate=str(mine.id), baseline=str(baseline.id), suite=f"{suite.suite.name}:v{suite.number}")
        gate = gates.decide_gate(session, actor, project=look.watch.project, body=asked)
    look.reference_id = first.id if first else None
    look.gate_id, look.verdict = (gate.id, gate.verdict) if gate else (None, None)
    look.drift, look.drifted = found.model_dump(mode="json"), drift.drifted(found)
    _tell_turn(session, actor, look, gate)
    _tell_drift(session, actor, look, found)
    # Last: the row is sealed with it.
    look.state, look.completed_at = LookState.SEEN, service.moment(session)


def _first(session: Session, mine: Measurement) -> Measurement | None:
    """The first measurement of the same version in the same runtime; None when that is `mine`. Raises RuntimeChanged.

    With another runtime than every measurement before it, `mine` is not compared, and is the first one of later looks.
    """
    # unscoped: the look is held already.
    same = select(Measurement).where(
        Measurement.project_id == mine.project_id, Measurement.suite_version_id == mine.suite_version_id,
        Measurement.base_revision_id == mine.base_revision_id, Measurement.version_id == mine.version_id,
        Measurement.state == MeasurementState.MEASURED, Measurement.imported_from.is_(None), Measurement.id < mine.id,
    )  # fmt: skip
    alike = session.scalars(same.where(Measurement.runtime_digest == mine.runtime_digest).order_by(Measurement.id).limit(1)).one_or_none()
    if alike is not None:
        return alike
    before = session.scalars(same.order_by(Measurement.id).limit(1)).one_or_none()
    if before is None:
        return None
    now, then = mine.runtime or {}, before.runtime or {}
    raise refusals.RuntimeChanged(sorted(key for key in now.keys() | then.keys() if now.get(key) != then.get(key)))


def _suite(look: WatchLook) -> SuiteVersion:
    if look.suite_version is None:
        raise RuntimeError(f"look {look.id} was measured without a suite")
    return look.suite_version


def _arm(one: Measurement, suite: SuiteVersion) -> Arm:
    if one.records_digest is None:
        return {}
    found = summaries.by_task(records.read(one.records_digest), suites.document_of(suite).tasks, complete=False)
    return {task: [summaries.measured(record) for record in some] for task, some in found.items()}


def _before(look: WatchLook) -> Any:
    """Looks of the same line before this one, newest first."""
    # unscoped: the look is held already.
    return (
        select(WatchLook)
        .where(
            WatchLook.watch_id == look.watch_id, WatchLook.channel == look.channel, WatchLook.state != LookState.PENDING,
            WatchLook.adapter_id.is_not_distinct_from(look.adapter_id), WatchLook.id < look.id,
        )
        .order_by(WatchLook.id.desc())
        .limit(1)
    )  # fmt: skip


def _tell_turn(session: Session, actor: Actor, look: WatchLook, gate: GateDecision | None) -> None:
    if gate is None:
        return
    last = session.scalars(_before(look).where(WatchLook.verdict.is_not(None))).one_or_none()
    look.verdict_before = last.verdict if last else None
    # The first verdict of all is told when it is not what everybody hopes for.
    look.turned = look.verdict != (last.verdict if last else Verdict.GO.value)
    if not look.turned:
        return
    _record(session, actor, AuditAction.WATCH_TURN, look, verdict=gate.verdict, before=look.verdict_before, gate=str(gate.id))
    told = watch_events.WatchTurned(
        **_named(look), version=_version(look), verdict=gate.verdict, verdict_before=look.verdict_before, gate_id=gate.id,
        decision_digest=gate.digest, suite=_suite_name(look),
    )  # fmt: skip
    emit(session, told, project_id=look.project_id)


def _tell_drift(session: Session, actor: Actor, look: WatchLook, found: Drift) -> None:
    if look.drifted is None:
        return
    last = session.scalars(_before(look).where(WatchLook.drifted.is_not(None))).one_or_none()
    if look.drifted == bool(last and last.drifted):
        return
    _record(session, actor, AuditAction.WATCH_DRIFT, look, drifted=look.drifted)
    told = watch_events.WatchDrifted(
        **_named(look), version=_version(look), suite=_suite_name(look), drifted=look.drifted, figures=drift.worded(found)
    )
    emit(session, told, project_id=look.project_id)


def fail(session: Session, actor: Actor, look: WatchLook, refusal: RingiError | None, problem: dict[str, Any] | None = None) -> None:
    """End a look without a result. Told once: not when the look before it failed with the same code."""
    problem = {"code": refusal.code, "message": refusal.message[:2000]} if refusal is not None else problem
    look.problem = problem or {"code": "unknown", "message": "It was not measured."}
    look.state, look.completed_at = LookState.FAILED, service.moment(session)
    last = session.scalars(_before(look)).one_or_none()
    if last is not None and last.state == LookState.FAILED and (last.problem or {}).get("code") == look.problem["code"]:
        return
    _record(session, actor, AuditAction.WATCH_FAIL, look, code=look.problem["code"])
    told = watch_events.WatchFailed(
        **_named(look), version=_version(look) if look.version else None, code=look.problem["code"], message=look.problem["message"]
    )
    emit(session, told, project_id=look.project_id)


def _record(session: Session, actor: Actor, action: AuditAction, look: WatchLook, **details: str | bool | None) -> None:
    audit.record(
        session, actor, action, object_type="watch", object_id=look.watch_id, project_id=look.project_id,
        details={"look": str(look.id), "channel": look.channel, "version": str(look.version.id) if look.version else None, **details},
    )  # fmt: skip


def _named(look: WatchLook) -> dict[str, Any]:
    return {"watch": look.watch.name, "watch_id": look.watch_id, "look_id": look.id, "channel": look.channel}


def _version(look: WatchLook) -> str:
    return f"{look.version.adapter.reference}:v{look.version.number}" if look.version else ""


def _suite_name(look: WatchLook) -> str:
    suite = _suite(look)
    return f"{suite.suite.project.name}/{suite.suite.name}:v{suite.number}"
