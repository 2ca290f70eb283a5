"""Sweeps as clients see them: the parent job, and its children, the measurements."""

from datetime import datetime
from uuid import UUID

from pydantic import FiniteFloat

from ringi.jobs.schemas import JobError, JobState
from ringi.measurements.schemas import MeasurementOut
from ringi.web.schemas import Schema


class ArmCounts(Schema):
    """How many arms stand how. `reused` are those of the measured that were taken over from an earlier sweep."""

    pending: int
    measured: int
    reused: int
    stopped: int
    failed: int
    cancelled: int


class SweepLine(Schema):
    """One sweep. `items_done` of `items` have an answer, over all arms; `items_saved` were not asked because their arms were stopped early.

    `seconds_per_item` is over the arms that this sweep has measured, and `eta_s` what is left at that pace: null until there is one, and while nothing runs.
    `current` is the arm in flight.
    """

    job_id: UUID
    state: JobState
    subject: str
    suite: str
    base: str
    arms: ArmCounts
    items: int
    items_done: int
    items_saved: int
    seconds_per_item: FiniteFloat | None
    eta_s: FiniteFloat | None
    current: UUID | None
    attempt: int
    cancel_requested: bool
    error: JobError | None
    row_version: int
    requested_by: UUID
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class SweepOut(SweepLine):
    """A sweep with one measurement for each arm, in the order in which they are measured."""

    measurements: list[MeasurementOut]
