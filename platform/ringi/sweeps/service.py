"""Ask for a sweep, see how far it is, and cancel it or one of its arms. The job is the parent, its measurements are the children (decision 0021)."""

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session, joinedload

from ringi.adapters.labels import CLASSIFIES, VersionClassifies
from ringi.adapters.models import AdapterVersion
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models.models import BaseRevision
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.gates.arms import Arms, name_of
from ringi.gating import stopping
from ringi.identity.models import Project
from ringi.jobs import service as jobs
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.sweeps import StopRule, Watched
from ringi.jobs.models import Job
from ringi.jobs.schemas import OPEN
from ringi.kit.actor import Actor
from ringi.kit.errors import Conflict, InvalidInput, NotFound
from ringi.measurements import service as measurements
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MeasurementState, RequestSweep
from ringi.measurements.service import StopsOf
from ringi.suites import service as suites
from ringi.suites.models import SuiteVersion


class NothingToWatch(InvalidInput):
    """Early stopping was asked for, and no requirement of the suite can be looked at on the way."""

    code: ClassVar[str] = "sweep_nothing_to_watch"

    def __init__(self, suite: str) -> None:
        super().__init__(
            f"No requirement of {suite} can end a measurement early: it takes a critical or supporting one, not of safety, on a metric of the catalogue"
            " that has bounds.",
            next_step="Ask without stop_early_against.",
        )


class BaselineImported(InvalidInput):
    """Early stopping was asked for against answers that were measured elsewhere."""

    code: ClassVar[str] = "sweep_baseline_imported"

    def __init__(self, baseline: str, source: str) -> None:
        super().__init__(
            f"{baseline} was brought in from {source}: no worker here has its runtime, so nothing would ever be stopped against it.",
            next_step="Measure the baseline here, and name that measurement; or ask without stop_early_against.",
        )


class ArmEnded(Conflict):
    """The arm is measured, stopped, failed or cancelled already."""

    code: ClassVar[str] = "sweep_arm_ended"

    def __init__(self, measurement_id: UUID, state: str) -> None:
        super().__init__(f"Measurement {measurement_id} has already ended as '{state}'.", next_step="There is nothing to do.")


def request(session: Session, actor: Actor, *, project: Project, body: RequestSweep) -> Job:
    """A job with a measurement for each arm.

    Raises what `measurements.service.request` raises; VersionClassifies; NothingToWatch; BaselineImported; and the gate's refusals of a baseline.
    """
    stops = None if body.stop_early_against is None else _stops(session, actor, project, body.stop_early_against)
    job, arms = measurements.request(session, actor, project=project, body=body, stops=stops)
    if classifying := [name_of(one) for one in arms if one.version is not None and one.version.facts.get("task_type") == CLASSIFIES]:
        raise VersionClassifies(classifying[0])
    return job


def _stops(session: Session, actor: Actor, project: Project, against: str) -> StopsOf:
    # Suite and base are the whole sweep's. Of an arm its adapter alone matters, and that only where a channel is named.
    found: dict[UUID | None, tuple[Measurement, StopRule]] = {}
    watched: list[Watched] = []

    def stop_of(suite: SuiteVersion, version: AdapterVersion, revision: BaseRevision) -> StopRule | None:
        line = version.adapter_id if against.startswith("channel:") else None
        if line not in found:
            arms = Arms(session, actor, project, suite)
            watched[:] = watched or _watched(suite, arms.suite_name)
            baseline = arms.baselines(against, version, revision)[0]
            found[line] = (baseline, _rule(baseline, suite, watched))
        baseline, rule = found[line]
        return None if (baseline.version_id, baseline.base_revision_id) == (version.id, revision.id) else rule

    return stop_of


def _watched(suite: SuiteVersion, name: str) -> Sequence[Watched]:
    document = suites.document_of(suite)
    watched = stopping.watched_of(document.requirements, document.tasks)
    if not watched:
        raise NothingToWatch(name)
    return watched


def _rule(baseline: Measurement, suite: SuiteVersion, watched: Sequence[Watched]) -> StopRule:
    if baseline.imported_from is not None:
        raise BaselineImported(name_of(baseline), baseline.imported_from)
    return StopRule.model_validate(
        {
            "baseline": baseline.id, "name": name_of(baseline), "records": baseline.records_digest, "runtime": baseline.runtime_digest,
            "seed": suite.digest, "watched": tuple(watched),
        }
    )  # fmt: skip


def listed(actor: Actor, *, project: Project) -> Select[Job]:
    """The project's sweeps that the caller may see."""
    return jobs.listed(actor).where(Job.kind == JobKind.SWEEP, Job.project_id == project.id)


def find(session: Session, actor: Actor, *, project: Project, job_id: UUID) -> Job:
    """The parent of a sweep."""
    found = session.scalars(listed(actor, project=project).where(Job.id == job_id)).unique().one_or_none()
    if found is None:
        raise NotFound("sweep", job_id)
    return found


def arms_of(session: Session, found: Sequence[Job]) -> dict[UUID, list[Measurement]]:
    """The children of these sweeps in their order, with what counting them needs; versions and bases are not loaded, so they cannot be named."""
    # unscoped: the caller holds the jobs already.
    query = select(Measurement).where(Measurement.job_id.in_([job.id for job in found]))
    arms: dict[UUID, list[Measurement]] = {job.id: [] for job in found}
    for one in session.scalars(
        query.options(joinedload(Measurement.suite_version), joinedload(Measurement.job)).order_by(Measurement.place)
    ):
        if one.job_id is not None:
            arms[one.job_id].append(one)
    return arms


def cancel_arm(session: Session, actor: Actor, *, project: Project, job_id: UUID, measurement_id: UUID) -> None:
    """Take one arm out of an open sweep: it is not measured, and a worker that is at it goes on to the next. Raises JobEnded, ArmEnded."""
    job = find(session, actor, project=project, job_id=job_id)
    # As a worker does that delivers: the job first, then the arm.
    session.refresh(job, with_for_update={"of": Job, "read": True})
    if job.state not in OPEN:
        raise jobs.JobEnded(job)
    one = measurements.find(session, actor, project=project, measurement_id=measurement_id)
    if one.job_id != job.id:
        raise NotFound("measurement", measurement_id)
    waiting = update(Measurement).where(Measurement.id == one.id, Measurement.state == MeasurementState.PENDING)
    values = {"state": MeasurementState.CANCELLED, "completed_at": func.clock_timestamp()}
    if session.scalar(waiting.values(**values).returning(Measurement.id)) is None:
        session.refresh(one, ["state"])
        raise ArmEnded(one.id, str(one.state))
    audit.record(
        session, actor, AuditAction.MEASUREMENT_CANCEL, object_type="measurement", object_id=one.id, project_id=project.id,
        details={"job": str(job.id)},
    )  # fmt: skip
    emit(session, work_events.MeasurementCancelled(measurement_id=one.id, job_id=job.id, version=name_of(one)), project_id=project.id)
    # The row was changed in the database, past what this session holds of it: the answer shows the arm as it is stored, with its time.
    session.expire_all()
