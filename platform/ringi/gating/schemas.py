"""The gate's words: what a suite requires of a task, what was measured of an item, and the decision with its reasons.

Scores are such that more is better, or less where a requirement says `lower_is_better`; differences are turned so that above zero is better. A
*loss* is a difference below zero, shown as a positive number. What was not measured is None, never 0.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints

from ringi.kit.digests import Digest

Name = Annotated[str, StringConstraints(min_length=1, max_length=128)]
# 0 and 1 are no margins: nothing would be refused, or everything.
Share = Annotated[FiniteFloat, Field(gt=0, lt=1)]
Positive = Annotated[FiniteFloat, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tier(StrEnum):
    """What follows from harm, and from not knowing.

    `critical`: harm blocks, and that it is not worse must be shown. `supporting`: harm blocks. `advisory`: it is reported.
    """

    CRITICAL = "critical"
    SUPPORTING = "supporting"
    ADVISORY = "advisory"


class Verdict(StrEnum):
    """GO: shown to be no worse. NO-GO: shown to be worse, or something required is not there. INCONCLUSIVE: neither is shown."""

    GO = "GO"
    NO_GO = "NO-GO"
    INCONCLUSIVE = "INCONCLUSIVE"


class RelativeGuard(_Frozen):
    """Where the baseline's mean is under `below`, the margin is at most the share `drop` of it: 3 points of 5 are no small loss."""

    below: Positive
    drop: Share


def _is_none(value: object) -> bool:
    return value is None


class Requirement(_Frozen):
    """What one task must show, in one metric.

    `margin`: the mean loss at and above which it is worse, in units of the metric; `slice_margin` the same for a slice. `slices`: tag keys, or
    `key=value` for one slice, with their tiers; tags that are not named are no slices. `pass_at`: the score from which an item passes,
    at most which where less is better; 1 where scores are right or wrong. `safety`: any item that passed and no longer does blocks, whatever
    the statistics say. `unscored_allowed`: the share of the baseline's items that the candidate may leave without a score. `family`: harm is
    corrected for the number of tests of one family; requirements that name none are one.
    """

    task: Name
    metric: Name
    tier: Tier = Tier.CRITICAL
    lower_is_better: bool = False
    margin: Positive = 0.02
    slice_margin: Positive = 0.05
    slices: Mapping[str, Tier] = {}
    floor: FiniteFloat | None = None
    relative_guard: RelativeGuard | None = None
    must_pass: tuple[Name, ...] = ()
    pass_at: FiniteFloat = 1.0
    safety: bool = False
    unscored_allowed: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.0
    # Left out of the document where there is none, so that suites which were sealed before keep their digest.
    family: Annotated[Name | None, Field(exclude_if=_is_none)] = None


class Measured(_Frozen):
    """One item of a task, in one arm. `asked` is the digest of what was asked; items of one `source` are no independent witnesses."""

    item: Name
    asked: Digest | None = None
    slices: Mapping[str, str] = {}
    source: str | None = None
    scores: Mapping[str, FiniteFloat | None]


Arm = Mapping[str, Sequence[Measured]]


class Reason(_Frozen):
    """One sentence of the decision, under a stable code. `says` is what it alone would lead to; `needed` how many items would settle it."""

    code: str
    says: Verdict
    task: str
    slice: str | None = None
    text: str
    items: tuple[str, ...] = ()
    needed: int | None = None


class Compared(_Frozen):
    """A task, or one slice of it: means over the `n` pairs, the difference with its 90 % interval, and the tests.

    `lost` and `won` are the items that passed before and not now, and the reverse. `worse_p`: of "it did not get worse", by Holm over everything
    of its family that can block. `not_worse_p`: of "the loss is at least the margin". `detectable`: the loss that so many items show in 4 of 5 cases.
    """

    slice: str | None
    tier: Tier
    n: int
    clusters: int
    baseline: FiniteFloat | None
    candidate: FiniteFloat | None
    difference: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    margin: FiniteFloat
    lost: int
    won: int
    worse_p: FiniteFloat | None
    not_worse_p: FiniteFloat | None
    detectable: FiniteFloat | None
    verdict: Verdict


class TaskDecision(_Frozen):
    """Everything about one requirement. `unscored`: items that the baseline has a score for and the candidate not; `unscored_both` in neither."""

    task: str
    metric: str
    tier: Tier
    lower_is_better: bool
    binary: bool | None
    whole: Compared | None
    slices: tuple[Compared, ...]
    unscored: int
    unscored_both: int
    negative_flips: tuple[str, ...]
    positive_flips: tuple[str, ...]
    verdict: Verdict


class Together(_Frozen):
    """That a decision is one of several: `adapters` were judged, `tested` of them have a p-value, and at most the share `q` of the kept may be wrong.

    `p`: of "this adapter is worse than allowed somewhere"; None where nothing had to be shown. `adjusted`: the same, among so many.
    """

    adapters: int
    tested: int
    q: FiniteFloat
    method: Literal["benjamini-hochberg", "benjamini-yekutieli"]
    p: FiniteFloat | None
    adjusted: FiniteFloat | None


class Decision(_Frozen):
    """The verdict with a reason for each requirement; the same records give the same bytes."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    tasks: tuple[TaskDecision, ...]
    level: FiniteFloat
    tests: int
    # Left out of a decision that stands alone, whose bytes are what they were before there was this field.
    together: Together | None = Field(default=None, exclude_if=lambda value: value is None)
