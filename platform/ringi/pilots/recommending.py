"""Which arm to take. Pure, and a rule that anybody can follow by hand (docs/pilot.md).

1. Of the trained arms those stay whose paired difference to the base is shown to be above zero. None: nothing is recommended.
2. The best is the one with the highest mean. Equal to it are those whose paired difference to the best is not shown to be below zero.
3. Of the equal ones the cheapest to train is taken: by cost in one currency, else by GPU seconds, else by seconds, whichever was measured for all of them. What is
   within a quarter of the least counts as the same, because the time of a run is known no better; among those the fewest bytes to ship win.
"""

from collections.abc import Callable, Mapping, Sequence

from ringi.pilots.schemas import Advice, Arm, Difference, Recommendation, Shown, Yardstick

# How well the time of a run is known (docs/preflight.md: within 25 %).
SAME_COST = 0.25

_YARDSTICKS: dict[Yardstick, Callable[[Arm], float | None]] = {
    Yardstick.COST: lambda arm: arm.training.cost.amount if arm.training and arm.training.cost else None,
    Yardstick.GPU_SECONDS: lambda arm: arm.training.gpu_seconds if arm.training else None,
    Yardstick.SECONDS: lambda arm: arm.training.seconds if arm.training else None,
}


def best_of(arms: Sequence[Arm], *, lower_is_better: bool) -> Arm | None:
    """The arm with the best mean among those that are shown to be better than the base; the first of equal ones."""
    sign = -1.0 if lower_is_better else 1.0
    better = [arm for arm in arms if arm.quality is not None and arm.to_base is not None and arm.to_base.shown is Shown.BETTER]
    return max(better, key=lambda arm: sign * arm.quality.mean.value if arm.quality else 0.0, default=None)


def recommended(arms: Sequence[Arm], *, best: Arm | None, to_best: Mapping[str, Difference]) -> Recommendation:
    """The rule. `arms`: the trained ones; `best`: of `best_of`; `to_best`: of each measured arm but the best itself, to the best."""
    measured = [arm for arm in arms if arm.to_base is not None and arm.to_base.shown is not None]
    if best is None:
        advice = Advice.NONE_BETTER if measured else Advice.NOT_MEASURED
        return Recommendation(advice=advice, arm=None, best=None, equal=(), yardstick=None)
    better = [arm for arm in measured if arm.to_base is not None and arm.to_base.shown is Shown.BETTER]
    equal = [arm for arm in better if arm is best or _not_worse(to_best.get(arm.name))]
    chosen, yardstick = _cheapest(equal)
    advice = Advice.CHEAPEST_OF_EQUAL if len(equal) > 1 else Advice.BEST if len(measured) > 1 else Advice.ONLY_ONE
    names = tuple(arm.name for arm in equal)
    return Recommendation(advice=advice, arm=chosen.name, best=best.name, equal=names, yardstick=yardstick if len(equal) > 1 else None)


def _not_worse(difference: Difference | None) -> bool:
    return difference is not None and difference.shown in {Shown.NOTHING, Shown.BETTER}


def _cheapest(equal: Sequence[Arm]) -> tuple[Arm, Yardstick]:
    for yardstick, measure in _YARDSTICKS.items():
        costs = {arm.name: cost for arm in equal if (cost := measure(arm)) is not None}
        if len(costs) == len(equal) and (yardstick is not Yardstick.COST or one_currency(equal)):
            least = min(costs.values())
            same = [arm for arm in equal if costs[arm.name] <= least * (1 + SAME_COST)]
            # Of one that is alone its cost decided, of several their size.
            return min(same, key=_bytes), yardstick if len(same) == 1 else Yardstick.BYTES
    return min(equal, key=_bytes), Yardstick.BYTES


def one_currency(arms: Sequence[Arm]) -> bool:
    """Whether costs can be compared: an arm may have been trained when the price table had another currency."""
    return len({arm.training.cost.currency for arm in arms if arm.training is not None and arm.training.cost is not None}) <= 1


def _bytes(arm: Arm) -> float:
    return float("inf") if arm.shipped_bytes is None else arm.shipped_bytes
