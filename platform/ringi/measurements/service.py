"""Ask for a sweep, and find what was measured. What a sweep brings back is taken in by delivery.py."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select
from sqlalchemy.orm import Session, joinedload

from ringi.adapters import service as adapters
from ringi.adapters.kinds import require_adapter
from ringi.adapters.models import Adapter, AdapterVersion
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models import service as base_models
from ringi.base_models.models import BaseRevision
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.jobs import service as jobs
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.sweeps import StopRule, SweepArm, SweepPayload
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.kit.actor import Actor
from ringi.kit.errors import InvalidInput, NotFound
from ringi.kit.ids import uuid7
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MeasurementState, RequestSweep
from ringi.suites import service as suites
from ringi.suites.models import Suite, SuiteVersion

# Beyond those of every job: an attempt that ends behind a finished arm costs the sweep none.
_ATTEMPTS = 5


class SweepEmpty(InvalidInput):
    """Nothing to measure."""

    code = "sweep_empty"

    def __init__(self) -> None:
        super().__init__("The sweep names no version, and not the bare base.", next_step="Name versions, or set include_base.")


class SweepBaseUnclear(InvalidInput):
    """The versions were trained on different base revisions, or there are none to tell."""

    code = "sweep_base_unclear"

    def __init__(self, bases: Sequence[str]) -> None:
        said = f"The versions were trained on {', '.join(bases)}" if bases else "There is no version to take the base revision from"
        super().__init__(f"{said}; a sweep runs on one base revision.", next_step="Name it: base_revision.")


# Of an arm, on the base revision that it will be measured on: when it is stopped early, None where it is not.
StopsOf = Callable[[SuiteVersion, AdapterVersion, BaseRevision], StopRule | None]


def request(
    session: Session, actor: Actor, *, project: Project, body: RequestSweep, stops: StopsOf | None = None
) -> tuple[Job, list[Measurement]]:
    """A job and a measurement for each arm, in one transaction. Raises SweepEmpty, SweepBaseUnclear, FullWeights, NotFound, RevisionNotSealed, QuotaExceeded."""
    suite = suites.named(session, actor, project=project, reference=body.suite)
    versions = list({one.id: one for name in body.versions if (one := version_named(session, actor, project=project, name=name))}.values())
    if not versions and not body.include_base:
        raise SweepEmpty
    revision = _revision(session, actor, versions, body.base_revision)
    base, name = base_models.reference(revision), f"{project.name}/{suite.suite.name}:v{suite.number}"
    for version in versions:
        if version.base_revision_id != revision.id:
            require_adapter(
                version, reference=adapters.reference(version).name, what=f"it has its base in itself and does not run on {base.name}:r{base.revision}",
                next_step=f"Measure it on r{version.base_revision.number}, the revision that it was trained from.",
            )  # fmt: skip
    arms: list[AdapterVersion | None] = [*([None] if body.include_base else []), *versions]
    ids = [uuid7() for _ in arms]
    payload = SweepPayload(
        suite=name, suite_digest=suite.digest, tasks=suites.document_of(suite).tasks, base=base, batch_size=body.batch_size,
        arms=tuple(
            _arm(one, version, f"{base.name}:r{base.revision}", stops(suite, version, revision) if stops and version else None)
            for one, version in zip(ids, arms, strict=True)
        ),
    )  # fmt: skip
    job = jobs.enqueue(
        session, actor, JobKind.SWEEP, payload, subject=f"suite {name}, {len(arms)} on {base.name}:r{base.revision}"[:256],
        project_id=project.id, wish=body.placement,
    )  # fmt: skip
    job.max_attempts = _ATTEMPTS + len(arms)
    session.add_all(
        Measurement(
            id=one, project_id=project.id, suite_version_id=suite.id, base_revision_id=revision.id, version_id=version.id if version else None,
            job_id=job.id, place=place, again=body.again, requested_by=actor.id,
        )
        for place, (one, version) in enumerate(zip(ids, arms, strict=True))
    )  # fmt: skip
    session.flush()  # the measurements must be findable in the answer
    audit.record(
        session, actor, AuditAction.SWEEP_REQUEST, object_type="job", object_id=job.id, project_id=project.id,
        details={
            "suite": suite.digest, "base": revision.digest, "arms": len(arms), "again": body.again, "stop_early_against": body.stop_early_against,
        },
    )  # fmt: skip
    told = work_events.SweepRequested(job_id=job.id, suite=name, base=f"{base.name}:r{base.revision}", arms=len(arms))
    emit(session, told, project_id=project.id)
    return job, of_job(session, actor, project=project, job_id=job.id)


def _arm(measurement_id: UUID, version: AdapterVersion | None, base: str, stop: StopRule | None) -> SweepArm:
    ref = adapters.reference(version) if version is not None else None
    return SweepArm(measurement_id=measurement_id, name=ref.name if ref else base, adapter=ref, stop=stop)


def of_job(session: Session, actor: Actor, *, project: Project, job_id: UUID) -> list[Measurement]:
    """The arms of a sweep in their order; none where there is no such sweep in sight."""
    query = listed(actor).where(Measurement.project_id == project.id, Measurement.job_id == job_id)
    return list(session.scalars(query.order_by(Measurement.place)))


def state_of(one: Measurement) -> MeasurementState:
    """How it stands: what is pending of a job that has ended is not measured any more."""
    if one.state != MeasurementState.PENDING or one.job is None:
        return MeasurementState(one.state)
    return {JobState.CANCELLED: MeasurementState.CANCELLED, JobState.FAILED: MeasurementState.FAILED}.get(
        JobState(one.job.state), MeasurementState.PENDING
    )


def version_named(session: Session, actor: Actor, *, project: Project, name: str) -> AdapterVersion:
    """The version that `bot:v2`, `bot:production` or `bot` (its latest) names."""
    adapter, _, selector = name.partition(":")
    found = adapters.find(session, actor, project=project, name=adapter)
    return adapters.find_version(session, actor, adapter=found, selector=selector or "latest")


def revision_named(session: Session, actor: Actor, name: str) -> BaseRevision:
    """The sealed revision that `tiny:r2` or `tiny` (its latest) names."""
    base, _, selector = name.partition(":")
    return base_models.sealed_revision(session, actor, base=base_models.find(session, actor, base), selector=selector or "latest")


def _revision(session: Session, actor: Actor, versions: Sequence[AdapterVersion], wanted: str | None) -> BaseRevision:
    if wanted is not None:
        return revision_named(session, actor, wanted)
    trained_on = {version.base_revision_id: version.base_revision for version in versions}
    if len(trained_on) != 1:
        raise SweepBaseUnclear(sorted(f"{one.base_model.name}:r{one.number}" for one in trained_on.values()))
    return next(iter(trained_on.values()))


def listed(actor: Actor) -> Select[Measurement]:
    """Measurements in sight with what rendering and judging them needs."""
    return visible(actor, Measurement).options(*loads())


def loads() -> list[Any]:
    """What is loaded beside a measurement."""
    return [
        joinedload(Measurement.job),
        joinedload(Measurement.version).options(
            joinedload(AdapterVersion.adapter).joinedload(Adapter.project), joinedload(AdapterVersion.base_revision)
        ),
        joinedload(Measurement.base_revision).joinedload(BaseRevision.base_model),
        joinedload(Measurement.suite_version).joinedload(SuiteVersion.suite).joinedload(Suite.project),
    ]


def find(session: Session, actor: Actor, *, project: Project, measurement_id: UUID) -> Measurement:
    """One measurement of the project."""
    found = session.scalars(listed(actor).where(Measurement.project_id == project.id, Measurement.id == measurement_id)).one_or_none()
    if found is None:
        raise NotFound("measurement", measurement_id)
    return found
