"""The fields of the list of measurements. `metrics.<task>.<metric>` come from the summary; what it does not hold matches no comparison."""

from sqlalchemy import Float, case, func, select
from sqlalchemy import cast as sql_cast

from ringi.adapters.lists import version_of
from ringi.base_models.lists import base_of
from ringi.identity.lists import owner
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MeasurementState
from ringi.suites.lists import suite_of
from ringi.web.listing import Family, Field, Kind, Listing, column, word

# unscoped: the list's own rows are scoped, and only the state of their jobs is looked at.
_JOB_STATE = select(Job.state).where(Job.id == Measurement.job_id).correlate(Measurement.__table__).scalar_subquery()
STATE = case(
    (Measurement.state != MeasurementState.PENDING, Measurement.state),
    (_JOB_STATE == JobState.CANCELLED, MeasurementState.CANCELLED.value),
    (_JOB_STATE == JobState.FAILED, MeasurementState.FAILED.value),
    else_=Measurement.state,
)


def _metric(name: str) -> Field | None:
    """`metrics.<task>.<metric>`: the mean."""
    task, dot, metric = name.rpartition(".")
    if not dot or not task or "\x00" in name:
        return None
    mean = sql_cast(func.jsonb_extract_path_text(Measurement.summary, task, "metrics", metric, "mean"), Float(53))
    return Field(Kind.NUMBER, mean, f"The mean of '{metric}' in task '{task}'.", order=mean)


MEASUREMENTS = Listing(
    "measurements", key=Measurement.id,
    families={"metrics": Family("The mean of a metric; a measurement without it matches no comparison.", "task.metric", _metric)},
    fields={
        **version_of(Measurement.version_id),
        **base_of(Measurement.base_revision_id),
        **suite_of(Measurement.suite_version_id),
        "state": Field(Kind.CHOICE, STATE, "How it stands.", order=STATE, nullable=False, choices=tuple(MeasurementState)),
        "job": column(Measurement.job_id, "The sweep's job."),
        "problem": word(Measurement.problem, "code", about="The code of what went wrong."),
        "imported_from": column(Measurement.imported_from, "Where it was measured, of what was brought in."),
        "runtime_digest": column(Measurement.runtime_digest, "The digest of the runtime."),
        "evidence_digest": column(Measurement.evidence_digest, "The digest of the evidence."),
        "owner": owner(Measurement.requested_by, "Who asked for it."),
        "created_at": column(Measurement.created_at, "When it was asked for."),
        "started_at": column(Measurement.started_at, "When it was begun, by the attempt that measures it."),
        "completed_at": column(Measurement.completed_at, "When it was done."),
    },
)  # fmt: skip
