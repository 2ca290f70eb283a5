"""From what was measured to the report: intervals, paired differences, the recommendation, the returns. Pure; statistics are the gate's (gating/)."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from ringi.gating.decision import decide
from ringi.gating.schemas import Measured, Requirement, Tier
from ringi.pilots.recommending import best_of, recommended
from ringi.pilots.returns import missing, returns
from ringi.pilots.schemas import BASE, Arm, Difference, Estimated, Figures, Ground, Latency, Problem, Quality, Report, Shown, Training


class Found(NamedTuple):
    """What is known of one arm. `answers`: of the task, None where it was not measured."""

    name: str
    version: str | None = None
    training: Training | None = None
    quality: Quality | None = None
    answers: Sequence[Measured] | None = None
    latency: Latency | None = None
    shipped_bytes: int | None = None
    problem: Problem | None = None
    unmeasured: Problem | None = None


def compared(ground: Ground, found: Sequence[Found], figures: Figures, *, measured_at: datetime | None) -> Report:
    """The report. `found` begins with the base; the same facts give the same report."""
    base = next((one.answers for one in found if one.name == BASE), None)
    arms = [_arm(ground, one, base, figures) for one in found]
    trained = [arm for arm in arms if arm.name != BASE]
    best = best_of(trained, lower_is_better=ground.lower_is_better)
    best_answers = next((one.answers for one in found if best is not None and one.name == best.name), None)
    to_best = {
        one.name: difference
        for one in found
        if best is not None and one.name not in {BASE, best.name} and (difference := _difference(ground, one.answers, best_answers))
    }
    return Report(
        **ground.model_dump(),
        arms=tuple(arm.model_copy(update={"to_best": to_best.get(arm.name)}) for arm in arms),
        recommendation=recommended(trained, best=best, to_best=to_best), figures=figures, missing=missing(figures), measured_at=measured_at,
    )  # fmt: skip


def _arm(ground: Ground, one: Found, base: Sequence[Measured] | None, figures: Figures) -> Arm:
    to_base = None if one.name == BASE else _difference(ground, one.answers, base)
    share = one.quality.mean if one.quality is not None and ground.right_or_wrong else None
    return Arm(
        name=one.name, version=one.version, training=one.training, quality=one.quality, to_base=to_base, to_best=None, latency=one.latency,
        shipped_bytes=one.shipped_bytes,
        returns=returns(figures, share, cost=one.training.cost if one.training else None, trained=one.name != BASE, to_base=to_base),
        problem=one.problem, unmeasured=one.unmeasured,
    )  # fmt: skip


def _difference(ground: Ground, answers: Sequence[Measured] | None, other: Sequence[Measured] | None) -> Difference | None:
    """One arm minus the other; None where one of them was not measured, or no row has a score in both."""
    if answers is None or other is None:
        return None
    # Nothing is judged here, so no margin and no tier has a say.
    wanted = Requirement(
        task=ground.task, metric=ground.metric, tier=Tier.ADVISORY, lower_is_better=ground.lower_is_better,
        pass_at=0.0 if ground.lower_is_better else 1.0,
    )  # fmt: skip
    whole = decide([wanted], {ground.task: answers}, {ground.task: other}).tasks[0].whole
    if whole is None or whole.difference is None:
        return None
    mean = Estimated(value=whole.difference, low=whole.low, high=whole.high)
    flips = (whole.lost, whole.won) if ground.right_or_wrong else (None, None)
    return Difference(pairs=whole.n, mean=mean, lost=flips[0], won=flips[1], detectable=whole.detectable, shown=_shown(mean))


def _shown(mean: Estimated) -> Shown | None:
    if mean.low is None or mean.high is None:
        return None
    return Shown.BETTER if mean.low > 0 else Shown.WORSE if mean.high < 0 else Shown.NOTHING
