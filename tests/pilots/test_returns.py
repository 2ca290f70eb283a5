"""The return on investment, by hand: what is not given is not computed, and the interval of the quality goes through."""

import pytest

from pilots.worlds import FIGURES
from ringi.pilots.returns import missing, returns
from ringi.pilots.schemas import Difference, Estimated, Figures, Money, Shown, TrainingCost

SHARE = Estimated(value=0.8, low=0.7, high=0.9)
# 1000 requests a month over 10 months; a right one saves 6 minutes at 2000 an hour, 200; a wrong one costs 50.
SAVED, HARM, RUNNING, ONCE = 10_000 * 0.8 * 200, 10_000 * 0.2 * 50, 100_000, 300_000


def test_the_return_is_the_formula_of_the_docs_at_the_value_and_at_both_ends() -> None:
    found = returns(FIGURES, SHARE, cost=Money(amount=500, currency="JPY"), trained=True, to_base=None)
    assert found is not None
    spent = RUNNING + ONCE + 500
    assert (found.saved.value, found.harm.value) == pytest.approx((SAVED, HARM))
    assert (found.running, found.one_off, found.training) == (RUNNING, ONCE + 500, TrainingCost.COUNTED)
    assert found.net.value == pytest.approx(SAVED - HARM - spent)
    ends = [10_000 * (q * 200 - (1 - q) * 50) - spent for q in (0.7, 0.9)]
    assert (found.net.low, found.net.high) == pytest.approx(tuple(ends))
    # Harm falls as quality rises: its ends are in order all the same.
    assert (found.harm.low, found.harm.high) == pytest.approx((10_000 * 0.1 * 50, 10_000 * 0.3 * 50))
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx((SAVED - HARM - spent) / spent)
    assert found.over_base is None


def test_what_it_returns_over_the_base_follows_the_paired_difference_and_not_the_two_intervals() -> None:
    difference = Difference(pairs=200, mean=Estimated(value=0.1, low=0.05, high=0.15), lost=0, won=20, detectable=0.03, shown=Shown.BETTER)
    found = returns(FIGURES, SHARE, cost=None, trained=True, to_base=difference)
    assert found is not None
    assert found.over_base is not None
    over = found.over_base
    assert (over.value, over.low, over.high) == pytest.approx((10_000 * 0.1 * 250, 10_000 * 0.05 * 250, 10_000 * 0.15 * 250))


@pytest.mark.parametrize("name", Figures.model_fields)
def test_a_figure_that_is_not_given_is_named_and_nothing_is_computed(name: str) -> None:
    figures = FIGURES.model_copy(update={name: None})
    assert missing(figures) == (name,)
    assert returns(figures, SHARE, cost=None, trained=True, to_base=None) is None
    assert returns(FIGURES, None, cost=None, trained=True, to_base=None) is None


def test_zero_is_a_figure_and_nothing_spent_has_no_ratio() -> None:
    free = FIGURES.model_copy(update={"running_cost": 0.0, "one_off_cost": 0.0, "wrong_answer_cost": 0.0})
    found = returns(free, SHARE, cost=None, trained=False, to_base=None)
    assert found is not None
    assert (found.ratio, found.harm.value) == (None, 0)
    assert found.net.value == pytest.approx(SAVED)


@pytest.mark.parametrize(
    ("cost", "trained", "said"),
    [
        (None, True, TrainingCost.NOT_MEASURED),
        (Money(amount=500, currency="USD"), True, TrainingCost.OTHER_CURRENCY),
        (None, False, TrainingCost.NONE),
    ],
)
def test_a_training_that_cannot_be_counted_in_is_left_out_and_that_is_said(cost: Money | None, trained: bool, said: TrainingCost) -> None:
    found = returns(FIGURES, SHARE, cost=cost, trained=trained, to_base=None)
    assert found is not None
    assert (found.one_off, found.training) == (ONCE, said)


def test_a_quality_without_an_interval_gives_a_return_without_one() -> None:
    found = returns(FIGURES, Estimated(value=0.8), cost=None, trained=True, to_base=None)
    assert found is not None
    assert (found.net.low, found.net.high, found.saved.low) == (None, None, None)
