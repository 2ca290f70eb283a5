"""Watches in and out: what is live, looked at again and again with one suite."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, FiniteFloat, StringConstraints, field_validator

from ringi.gating.schemas import Positive, Share, Verdict
from ringi.jobs.contracts.parts import Part
from ringi.jobs.schemas import Placement
from ringi.measurements.schemas import ProblemOut, SuiteName
from ringi.web.schemas import Integer, Name, Schema, Text, Truth

MAX_CHANNELS = 20
WEEK_S = 7 * 24 * 3600

ScheduleText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128, strip_whitespace=True, pattern=r"^[A-Za-z0-9*/,#\- ]+$"),
    Field(description="`every 6h` (s, m, h, d), or five fields of crontab such as `0 3 * * mon-fri`."),
]
Zone = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+\-/]+$")]
# `release`, `base`, or a version by its number: `bot:v1`.
Baseline = Annotated[str, StringConstraints(pattern=r"^(release|base|[a-z0-9._-]{1,64}:v[1-9][0-9]{0,8})$")]
Channels = Annotated[list[Name], Field(min_length=1, max_length=MAX_CHANNELS)]
MetricName = Annotated[str, StringConstraints(min_length=3, max_length=257, pattern=r"^.+\..+$")]


class Figure(StrEnum):
    """An operational figure of a task; the last four are better when they are lower."""

    TOKENS_PER_S = "tokens_per_s"
    READ_TOKENS_PER_S = "read_tokens_per_s"
    FIRST_TOKEN_S = "first_token_s"  # noqa: S105  # a time, and no secret
    ITEM_P50_S = "item_p50_s"
    ITEM_P95_S = "item_p95_s"
    PEAK_MEMORY_BYTES = "peak_memory_bytes"


class LookState(StrEnum):
    """How a look stands. `seen`: it was measured and judged. `failed`: there is nothing to judge, and `problem` says why."""

    PENDING = "pending"
    SEEN = "seen"
    FAILED = "failed"


def _usual() -> dict[Figure, float]:
    return {
        Figure.TOKENS_PER_S: 0.5, Figure.READ_TOKENS_PER_S: 0.5, Figure.FIRST_TOKEN_S: 1.0, Figure.ITEM_P50_S: 1.0, Figure.ITEM_P95_S: 1.0,
        Figure.PEAK_MEMORY_BYTES: 0.5,
    }  # fmt: skip


class DriftLimits(Schema):
    """What is drift. It is always towards the worse, for a figure that has no better side in either direction.

    `scores`: the mean loss, in units of the metric, of every metric between 0 and 1 that has no limit of its own; null for none. `metrics`: that of
    one metric, as `task.metric`. `operations`: by which share of what it was a figure gets worse; 1.0 for a time is twice as long.
    """

    scores: Share | None = 0.05
    metrics: dict[MetricName, Positive] = {}  # noqa: RUF012  # Pydantic copies it for every instance
    operations: dict[Figure, Positive] = Field(default_factory=_usual)

    @field_validator("metrics")
    @classmethod
    def _few(cls, found: dict[str, float]) -> dict[str, float]:
        if len(found) > 200:  # noqa: PLR2004  # no suite has so many
            raise ValueError("at most 200 metrics have a limit of their own")
        return found


class CreateWatch(Schema):
    """Measure what `channels` serve with `suite`, whenever `schedule` says, and tell when the gate turns or figures drift.

    `adapter`: of that one alone, where a channel serves several. `suite`: its newest version, or `quality:v2`. `baseline` of the gate: `release` is the
    first measurement of the version that is live, `base` the bare base, else a version such as `bot:v1`. `within_s`: a look without a result
    after so many seconds has failed.
    """

    name: Name
    description: Text = ""
    channels: Channels
    adapter: Name | None = None
    suite: SuiteName
    schedule: ScheduleText
    timezone: Zone = "UTC"
    baseline: Baseline = "release"
    drift: DriftLimits = DriftLimits()
    within_s: Annotated[Integer, Field(ge=1, le=WEEK_S)] = 6 * 3600
    placement: Placement | None = None


class ChangeWatch(Schema):
    """What changes; what is left out stays. `paused` true: no more looks until it is false again; what was missed is not made up for."""

    description: Text | None = None
    channels: Channels | None = None
    suite: SuiteName | None = None
    schedule: ScheduleText | None = None
    timezone: Zone | None = None
    baseline: Baseline | None = None
    drift: DriftLimits | None = None
    within_s: Annotated[Integer | None, Field(ge=1, le=WEEK_S)] = None
    placement: Placement | None = None
    paused: Truth | None = None


class ScoreDrift(Part):
    """One metric of a task: its mean now, and paired with the first measurement of the same version.

    `difference` is the mean over the `pairs`, above zero is better (of a metric without a better side: higher), with its 90 % interval; `lost`
    items had a score first and have none now. None is not measured. `drifted` is None where there is nothing to compare, or no `limit`.
    """

    task: str
    metric: str
    scored: int
    mean: FiniteFloat | None
    pairs: int | None = None
    first: FiniteFloat | None = None
    difference: FiniteFloat | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    lost: int | None = None
    limit: FiniteFloat | None = None
    drifted: bool | None = None


class FigureDrift(Part):
    """One operational figure of a task. `change` is its share of what it was first: 0.5 is half as much again. None is not measured."""

    task: str
    figure: Figure
    value: FiniteFloat | None
    first: FiniteFloat | None = None
    change: FiniteFloat | None = None
    limit: FiniteFloat | None = None
    drifted: bool | None = None


class Drift(Part):
    """All that a look compared."""

    scores: tuple[ScoreDrift, ...] = ()
    operations: tuple[FigureDrift, ...] = ()


class LookOut(Schema):
    """One look at what one channel served for one adapter.

    `version` is what was served when it was asked for, whatever the channel serves by now. `reference_id` is the first measurement of that
    version, with which drift is measured; null where this is the first. `turned`: the verdict is another than before.
    """

    id: UUID
    watch: str
    channel: str
    adapter: str | None
    version: str | None
    suite: str | None
    due_at: datetime
    by_hand: bool
    state: LookState
    problem: ProblemOut | None
    measurement_id: UUID | None
    reference_id: UUID | None
    baseline_id: UUID | None
    gate_id: UUID | None
    verdict: Verdict | None
    verdict_before: Verdict | None
    turned: bool
    drifted: bool | None
    drift: Drift | None
    job_id: UUID | None
    created_at: datetime
    completed_at: datetime | None


class LooksOut(Schema):
    """The looks that were asked for together."""

    looks: list[LookOut]


class WatchLineOut(Schema):
    """The newest look that has ended, of one adapter on one channel."""

    channel: str
    adapter: str | None
    version: str | None
    state: LookState
    problem: ProblemOut | None
    verdict: Verdict | None
    drifted: bool | None
    completed_at: datetime | None


class WatchOut(Schema):
    """A watch. `due_at` is null while it is paused; `standing` has a line for each adapter of each channel that was looked at."""

    id: UUID
    name: str
    description: str
    channels: list[str]
    adapter: str | None
    suite: str
    schedule: str
    timezone: str
    baseline: str
    drift: DriftLimits
    within_s: int
    placement: Placement | None
    due_at: datetime | None
    paused_at: datetime | None
    standing: list[WatchLineOut]
    created_at: datetime
    row_version: int
