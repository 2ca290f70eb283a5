"""The return on investment, from what the user enters and what the pilot measured. Pure; nothing is assumed in place of what is not given.

For a share q of right answers, N requests a month and M months, beside nobody being helped:

    saved(q) = M N q minutes_saved / 60 hourly_wage          harm(q) = M N (1 - q) wrong_answer_cost
    running  = M running_cost                                one_off = one_off_cost (+ the training that was measured, in the same currency)
    net(q)   = saved(q) - harm(q) - running - one_off        ratio(q) = net(q) / (running + one_off)

All of them grow or fall with q alone, so the ends of the interval of q give the ends of theirs. What an arm returns more than the base is linear
in the paired difference d: M N d (minutes_saved / 60 hourly_wage + wrong_answer_cost), without what either costs.
"""

from collections.abc import Callable

from ringi.pilots.schemas import Difference, Estimated, Figures, Money, Returns, TrainingCost

_MINUTES_OF_AN_HOUR = 60.0


def missing(figures: Figures) -> tuple[str, ...]:
    """The figures that were not entered, in the order of the form."""
    return tuple(name for name in Figures.model_fields if getattr(figures, name) is None)


def returns(figures: Figures, share: Estimated | None, *, cost: Money | None, trained: bool, to_base: Difference | None) -> Returns | None:
    """What an arm that is right on `share` of the requests returns; None where a figure or the share is not known."""
    if share is None or missing(figures):
        return None
    requests = _given(figures.months) * _given(figures.requests_per_month)
    worth = _given(figures.minutes_saved) / _MINUTES_OF_AN_HOUR * _given(figures.hourly_wage)
    wrong = _given(figures.wrong_answer_cost)
    running = _given(figures.months) * _given(figures.running_cost)
    counted, training = _training(figures, cost, trained=trained)
    one_off = _given(figures.one_off_cost) + counted
    spent = running + one_off

    def net(right: float) -> float:
        return requests * (right * worth - (1 - right) * wrong) - spent

    return Returns(
        saved=_over(share, lambda right: requests * right * worth), harm=_over(share, lambda right: requests * (1 - right) * wrong),
        running=running, one_off=one_off, training=training, net=_over(share, net),
        ratio=_over(share, lambda right: net(right) / spent) if spent else None,
        over_base=_over(to_base.mean, lambda more: requests * more * (worth + wrong)) if to_base is not None else None,
    )  # fmt: skip


def _training(figures: Figures, cost: Money | None, *, trained: bool) -> tuple[float, TrainingCost]:
    if not trained:
        return 0.0, TrainingCost.NONE
    if cost is None:
        return 0.0, TrainingCost.NOT_MEASURED
    if cost.currency != figures.currency:
        return 0.0, TrainingCost.OTHER_CURRENCY
    return cost.amount, TrainingCost.COUNTED


def _over(known: Estimated, formula: Callable[[float], float]) -> Estimated:
    """The formula at the value and at both ends, ordered: it may fall as well as rise."""
    if known.low is None or known.high is None:
        return Estimated(value=formula(known.value))
    ends = sorted((formula(known.low), formula(known.high)))
    return Estimated(value=formula(known.value), low=ends[0], high=ends[1])


def _given(figure: float | None) -> float:
    # Asked of figures that `missing` has seen.
    if figure is None:
        raise TypeError("a figure that is missing was counted with")
    return figure
