"""Sweeps and measurements in and out."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, FiniteFloat, StringConstraints

from ringi.jobs.contracts.parts import Part, Progress
from ringi.jobs.contracts.sweeps import Stop
from ringi.jobs.schemas import JobState, Placement
from ringi.kit.digests import Digest
from ringi.web.schemas import PRINTABLE, Integer, Schema, Truth

MAX_ARMS = 500

SuiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}(:[a-z0-9:]{1,80})?$")]
# `bot:v2`, `bot:production`, `bot` for its latest.
VersionName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}(:[A-Za-z0-9._:-]{1,80})?$")]
# What is compared with: `channel:production`, `base`, `bot:v2`, or the id of a measurement.
BaselineName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,160}$")]
BaseName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}(:[A-Za-z0-9:]{1,80})?$")]


class MeasurementState(StrEnum):
    """How a measurement stands. `cancelled`: it was, or its whole sweep was. `stopped`: it was so much worse that the rest was not asked."""

    PENDING = "pending"
    MEASURED = "measured"
    STOPPED = "stopped"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RequestSweep(Schema):
    """Measure `versions` of the project, and with `include_base` the bare base, on one base revision with one suite.

    Without `base_revision` it is the one that the versions were trained on, which must then be the same for all. What was measured before with the
    very same bytes and runtime is taken over, unless `again` is asked for. `stop_early_against` is a baseline in the gate's words (`channel:production`,
    `base`, a version, a measurement) that is measured already: a version that is shown to be worse than it by more than a margin is not asked the rest.
    """

    suite: SuiteName
    base_revision: BaseName | None = None
    versions: Annotated[list[VersionName], Field(max_length=MAX_ARMS)] = []  # noqa: RUF012  # Pydantic copies it for every instance
    include_base: Truth = False
    again: Truth = False
    batch_size: Annotated[Integer, Field(ge=1, le=1024)] = 16
    stop_early_against: BaselineName | None = None
    placement: Placement | None = None


class ImportMeasurement(Schema):
    """Answers that were measured elsewhere: `records` is the digest of uploaded JSON lines (docs/evaluation.md). `source` says where."""

    suite: SuiteName
    base_revision: BaseName
    version: VersionName | None = None
    records: Digest
    source: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PRINTABLE)]


class MetricSummary(Part):
    """One metric of a task. The mean is over the `scored` items; the interval holds it at 90 %. None where nothing was measured.

    `problems`: why its scorer gave nothing, by code, whatever else went wrong with the same answers.
    """

    n: int
    scored: int
    unscored: int
    mean: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    # Left out where there are none, as in all that was kept before they were counted.
    problems: dict[str, int] = Field(default_factory=dict, exclude_if=lambda value: not value)


class TaskSummary(Part):
    """A task by metric, and the first reason why items lack a score, by code."""

    metrics: dict[str, MetricSummary]
    problems: dict[str, int]


class ProblemOut(Schema):
    """Why there is no measurement."""

    code: str
    message: str


class MeasurementOut(Schema):
    """One arm of a sweep. `version` is null for the bare base. `evidence_digest` names all that it is bound to, see `evidence`.

    `items_done` of `items` have an answer so far. `stopped` says why it was not asked the rest: such a measurement is no evidence.
    `stop_unused` says why early stopping was asked for and not looked at.
    """

    id: UUID
    version: str | None
    base: str
    suite: str
    suite_digest: Digest
    state: MeasurementState
    job_id: UUID | None
    job_state: JobState | None
    progress: Progress | None
    problem: ProblemOut | None
    stopped: Stop | None
    stop_unused: str | None
    items: int
    items_done: int
    summary: dict[str, TaskSummary] | None
    operations: dict[str, dict[str, Any]] | None
    runtime: dict[str, str] | None
    runtime_digest: Digest | None
    records_digest: Digest | None
    evidence: dict[str, Any] | None
    evidence_digest: Digest | None
    imported_from: str | None
    reused_from: UUID | None
    requested_by: UUID
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
