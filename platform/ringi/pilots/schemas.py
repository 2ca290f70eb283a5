"""The words of a pilot: what was compared, what came of it, and what it would return. `pilot.json` is a `Report`; docs/pilot.md tells its fields.

`None` is "not measured" everywhere in this file (of an arm that trains nothing: "there is none"); it never stands for zero. Shares and scores have
no unit, durations are in seconds, memory and sizes in bytes, money in the currency beside it.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from ringi.kit.digests import Digest

# The arm that trains nothing, and the one that trains everything.
BASE, FULL = "base", "full"
_Amount = Annotated[FiniteFloat, Field(ge=0, le=1e15)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Language(StrEnum):
    """In what the page is written."""

    ENGLISH = "en"
    JAPANESE = "ja"


class Figures(_Frozen):
    """What the user enters for the return on investment; what is not given stays unknown. Money is in `currency` (ISO 4217).

    `minutes_saved`: by each right answer. `wrong_answer_cost`: of each wrong one. `hourly_wage`: what an hour of whoever is spared costs.
    `running_cost`: of serving it, a month. `one_off_cost`: once, without the training that the pilot measured. `months`: over how many it is counted.
    """

    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = None
    requests_per_month: _Amount | None = None
    minutes_saved: _Amount | None = None
    wrong_answer_cost: _Amount | None = None
    hourly_wage: _Amount | None = None
    months: Annotated[FiniteFloat, Field(gt=0, le=1200)] | None = None
    running_cost: _Amount | None = None
    one_off_cost: _Amount | None = None


class Estimated(_Frozen):
    """A figure with its 90 % interval; without ends where there were too few rows for one."""

    value: FiniteFloat
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None


class Origin(StrEnum):
    """Where a figure comes from: the run, or the forecast before it."""

    MEASURED = "measured"
    FORECAST = "forecast"


class PeakMemory(_Frozen):
    """The most memory of one device while it trained."""

    bytes: int
    origin: Origin


class Money(_Frozen):
    """An amount by the operator's price table."""

    amount: FiniteFloat
    currency: str


class Training(_Frozen):
    """What one run was and took. `learning_rate` and `rank` are the recipe's; `share` is of the base's parameters."""

    run_id: UUID
    learning_rate: FiniteFloat
    rank: int | None
    steps: int | None
    trainable_parameters: int | None
    share: FiniteFloat | None
    memory: PeakMemory | None
    seconds: FiniteFloat | None
    gpu_seconds: FiniteFloat | None
    energy_j: FiniteFloat | None
    cost: Money | None


class Quality(_Frozen):
    """The mean of the metric over the `scored` of `items` validation rows."""

    items: int
    scored: int
    mean: Estimated


class Shown(StrEnum):
    """What the interval of a paired difference shows; `nothing`: it holds zero."""

    BETTER = "better"
    WORSE = "worse"
    NOTHING = "nothing"


class Difference(_Frozen):
    """One arm minus another, over the `pairs` of rows that both have a score for; above zero is better, whatever the metric.

    `lost`, `won`: rows that were right and are not, and the reverse; None where rows are not right or wrong. `detectable`: the loss that so many rows show in 4 of 5 cases.
    """

    pairs: int
    mean: Estimated
    lost: int | None
    won: int | None
    detectable: FiniteFloat | None
    shown: Shown | None


class Latency(_Frozen):
    """Seconds that one answer took, with the adapter beside the base and not merged into it.

    `at_once`: how many questions were asked together at most; with more than one the seconds are shares of a batch, not what a lone request waits.
    """

    median_s: FiniteFloat | None
    p95_s: FiniteFloat | None
    at_once: int | None


class Problem(_Frozen):
    """Why an arm, or its measurement, has no result."""

    code: str
    message: str


class TrainingCost(StrEnum):
    """Whether the measured cost of training is in the sum: it may be unknown, or in another currency."""

    COUNTED = "counted"
    NOT_MEASURED = "not_measured"
    OTHER_CURRENCY = "other_currency"
    NONE = "none"


class Returns(_Frozen):
    """What an arm returns over the months, beside nobody being helped. `net` and `ratio` carry the interval of the quality.

    `over_base`: what it returns more than the base as it is, from the paired difference.
    """

    saved: Estimated
    harm: Estimated
    running: FiniteFloat
    one_off: FiniteFloat
    training: TrainingCost
    net: Estimated
    ratio: Estimated | None
    over_base: Estimated | None


class Arm(_Frozen):
    """The base as it is, or one method. `problem`: why there is no version; `unmeasured`: why there is one and no quality.

    `shipped_bytes`: what lies on disk beside the base, or in its place.
    """

    name: str
    version: str | None
    training: Training | None
    quality: Quality | None
    to_base: Difference | None
    to_best: Difference | None
    latency: Latency | None
    shipped_bytes: int | None
    returns: Returns | None
    problem: Problem | None
    unmeasured: Problem | None


class Advice(StrEnum):
    """Why an arm is recommended, or why none is."""

    ONLY_ONE = "only_one"
    BEST = "best"
    CHEAPEST_OF_EQUAL = "cheapest_of_equal"
    NONE_BETTER = "none_better"
    NOT_MEASURED = "not_measured"


class Yardstick(StrEnum):
    """By what the cheapest was found: the first of these that was measured for all that are compared."""

    COST = "cost"
    GPU_SECONDS = "gpu_seconds"
    SECONDS = "seconds"
    BYTES = "bytes"


class Recommendation(_Frozen):
    """`arm`: None where none is recommended. `equal`: arms of which no difference to the best is shown, with it. `best`: the highest mean."""

    advice: Advice
    arm: str | None
    best: str | None
    equal: tuple[str, ...]
    yardstick: Yardstick | None


class Ground(_Frozen):
    """What all arms have alike.

    `items`: how many each arm was asked; `on_validation`: that they are the dataset's validation rows, and not a suite of the user's. `right_or_wrong`: the
    metric is 0 or 1 for each, so that its mean is a share of right answers. `plan`: hyperparameters that all arms have alike.
    """

    name: str
    dataset: str
    dataset_digest: Digest
    train_rows: int
    validation_rows: int
    items: int
    on_validation: bool
    base: str
    base_parameters: int | None
    suite: str
    suite_digest: Digest
    task: str
    metric: str
    lower_is_better: bool
    right_or_wrong: bool
    plan: dict[str, Any]


class Report(Ground):
    """One pilot, whole: what the page and the pictures are drawn from.

    `missing`: figures that were not entered, without which no return is computed. `measured_at`: when the sweep ended.
    """

    schema_version: Literal[1] = 1
    arms: tuple[Arm, ...]
    recommendation: Recommendation
    figures: Figures
    missing: tuple[str, ...]
    measured_at: datetime | None
