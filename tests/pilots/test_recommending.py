"""Which arm is recommended: differences are the gate's, paired row by row, and what is within noise costs nothing more than the cheapest."""

from typing import Any

import pytest

from pilots.worlds import ROWS, answers, arm, failed, report, usual
from ringi.gating.decision import decide
from ringi.gating.schemas import Requirement
from ringi.pilots.comparing import Found
from ringi.pilots.schemas import BASE, Advice, Figures, Money, Shown, Yardstick


def test_differences_and_intervals_are_those_of_the_gate() -> None:
    found = usual()
    _, lora, dora, full = found.arms
    gate = decide([Requirement(task="faq", metric="accuracy")], {"faq": answers(range(150))}, {"faq": answers(range(60))}).tasks[0].whole
    assert gate is not None
    assert lora.to_base is not None
    mean = lora.to_base.mean
    assert (mean.value, mean.low, mean.high, lora.to_base.lost, lora.to_base.won) == (gate.difference, gate.low, gate.high, 0, 90)
    assert lora.to_base.shown is Shown.BETTER
    # The two methods differ by five rows of two hundred.
    assert lora.to_best is not None
    assert (lora.to_best.shown, lora.to_best.lost, lora.to_best.won) == (Shown.NOTHING, 3, 2)
    assert (dora.to_best, full.to_base, full.quality) == (None, None, None)


def test_among_arms_of_which_no_difference_is_shown_the_cheapest_is_recommended() -> None:
    advice = usual().recommendation
    assert (advice.advice, advice.arm, advice.best, advice.equal) == (Advice.CHEAPEST_OF_EQUAL, "lora", "dora", ("lora", "dora"))
    assert advice.yardstick is Yardstick.SECONDS


def test_an_arm_that_is_shown_to_be_best_is_recommended_whatever_it_costs() -> None:
    advice = report(arm(BASE, range(60)), arm("lora", range(120), seconds=1.0), arm("dora", range(180), seconds=1000.0)).recommendation
    assert (advice.advice, advice.arm, advice.equal, advice.yardstick) == (Advice.BEST, "dora", ("dora",), None)


def test_an_arm_that_is_not_shown_to_be_better_than_the_base_is_never_recommended() -> None:
    # Of lora it is shown, of dora not; and no difference is shown between the two.
    found = report(arm(BASE, range(100)), arm("lora", range(112), seconds=500.0), arm("dora", range(95, 200), seconds=1.0))
    assert [one.to_base.shown for one in found.arms if one.to_base] == [Shown.BETTER, Shown.NOTHING]
    assert found.recommendation.arm == "lora"
    none = report(arm(BASE, range(100)), arm("lora", range(1, 102))).recommendation
    assert (none.advice, none.arm, none.best) == (Advice.NONE_BETTER, None, None)
    worse = report(arm(BASE, range(100)), arm("lora", range(60))).recommendation
    assert (worse.advice, worse.arm) == (Advice.NONE_BETTER, None)


@pytest.mark.parametrize(
    ("lora", "dora", "chosen", "by"),
    [
        ({"cost": 9.0, "seconds": 999.0}, {"cost": 20.0, "seconds": 1.0}, "lora", Yardstick.COST),
        # The cost of one is not known: no guess is made of it, seconds are known of both.
        ({"cost": 9.0, "seconds": 999.0}, {"seconds": 1.0}, "dora", Yardstick.SECONDS),
        ({"gpu_seconds": 90.0, "seconds": 1.0}, {"gpu_seconds": 10.0, "seconds": 99.0}, "dora", Yardstick.GPU_SECONDS),
        # Within a quarter the time is the same, and the smaller one is shipped.
        ({"seconds": 100.0, "size": 5000}, {"seconds": 124.0, "size": 1000}, "dora", Yardstick.BYTES),
        ({"seconds": 100.0, "size": 5000}, {"seconds": 126.0, "size": 1000}, "lora", Yardstick.SECONDS),
        ({"seconds": None, "size": 5000}, {"seconds": 126.0, "size": 1000}, "dora", Yardstick.BYTES),
    ],
)
def test_the_yardstick_is_the_first_that_was_measured_for_all_of_them(
    lora: dict[str, Any], dora: dict[str, Any], chosen: str, by: Yardstick
) -> None:
    advice = report(arm(BASE, range(60)), arm("lora", range(150), **lora), arm("dora", range(2, 152), **dora)).recommendation
    assert (advice.arm, advice.yardstick) == (chosen, by)


def test_amounts_of_two_currencies_are_not_compared() -> None:
    before, since = arm("lora", range(150), cost=12.0, seconds=900.0), arm("dora", range(2, 152), cost=1800.0, seconds=100.0)
    assert before.training is not None
    dollars = before._replace(training=before.training.model_copy(update={"cost": Money(amount=12.0, currency="USD")}))
    advice = report(arm(BASE, range(60)), dollars, since).recommendation
    assert (advice.arm, advice.yardstick) == ("dora", Yardstick.SECONDS)


def test_an_arm_alone_is_recommended_as_such_and_without_a_base_nothing_is() -> None:
    alone = report(arm(BASE, range(60)), arm("lora", range(150)), failed("dora", "job_cancelled", "Cancelled.")).recommendation
    assert (alone.advice, alone.arm) == (Advice.ONLY_ONE, "lora")
    bare = Found(BASE, shipped_bytes=0)
    nothing = report(bare, arm("lora", range(150))).recommendation
    assert (nothing.advice, nothing.arm) == (Advice.NOT_MEASURED, None)


def test_where_less_is_better_the_signs_are_turned() -> None:
    found = report(
        arm(BASE, range(150)), arm("lora", range(60)), arm("dora", range(20)), lower_is_better=True, right_or_wrong=False, figures=Figures()
    )
    assert [one.to_base.shown for one in found.arms if one.to_base] == [Shown.BETTER, Shown.BETTER]
    assert (found.recommendation.arm, found.recommendation.advice) == ("dora", Advice.BEST)
    assert all(one.returns is None for one in found.arms)


def test_a_loss_that_so_few_rows_could_hardly_show_is_told() -> None:
    found = report(arm(BASE, range(100)), arm("lora", range(1, 102)))
    difference = found.arms[1].to_base
    assert difference is not None
    assert difference.detectable is not None
    assert 0 < difference.detectable < 0.1
    assert difference.pairs == ROWS
