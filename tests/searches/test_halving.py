"""The rule of a search: who is compared when, who goes on, and what is recommended."""

from collections.abc import Mapping
from uuid import UUID

import pytest
from pydantic import ValidationError

from ringi.searches.halving import Trial, Turn, ladder, recommend, standing
from ringi.searches.schemas import RequestSearch


def trial(place: int, losses: Mapping[int, float], *, rank: int = 8, rate: float = 1e-3, out: bool = False) -> Trial:
    return Trial(UUID(int=place), place, rank, rate, losses, out)


@pytest.mark.parametrize(
    ("steps", "trials", "reduction", "first", "unit", "found"),
    [
        (900, 12, 3, 20, 50, (100, 300, 900)),
        (900, 9, 3, 20, 50, (100, 300, 900)),
        (900, 8, 3, 20, 50, (300, 900)),
        # 83 steps would be a third of a third: the first comparison stands on a checkpoint, and every other one with it.
        (750, 12, 3, 20, 50, (50, 150, 750)),
        # No comparison before so many steps.
        (60, 12, 3, 20, 50, (20, 60)),
        (59, 12, 3, 20, 50, (59,)),
        (2000, 64, 2, 20, 1, (31, 62, 124, 248, 496, 992, 2000)),
        (900, 2, 3, 20, 50, (900,)),
    ],
)
def test_the_steps_of_the_comparisons(steps: int, trials: int, reduction: int, first: int, unit: int, found: tuple[int, ...]) -> None:
    made = ladder(steps, trials, reduction=reduction, first_steps=first, unit=unit)
    assert made == found
    assert all(step % min(unit, made[0]) == 0 for step in made[:-1]), "a checkpoint stands at each"


def test_everyone_comes_to_the_first_comparison_before_anyone_goes_on() -> None:
    steps = (10, 30, 90)
    trials = [trial(0, {10: 1.0}), trial(1, {}), trial(2, {})]
    assert standing(trials, steps, reduction=3).turn == Turn(UUID(int=1), 10)
    trials = [trial(0, {10: 1.0}), trial(1, {10: 2.0}), trial(2, {})]
    assert standing(trials, steps, reduction=3).turn == Turn(UUID(int=2), 10)


def test_the_best_of_each_round_go_on_and_the_others_are_stopped_where_they_stand() -> None:
    steps = (10, 30, 90)
    trials = [trial(place, {10: float(place)}) for place in range(12)]
    found = standing(trials, steps, reduction=3)
    assert (found.turn, set(found.stopped.values())) == (Turn(UUID(int=0), 30), {10})
    assert {one.int for one in found.stopped} == set(range(4, 12))
    # What was behind at first may be ahead later.
    later = [one._replace(losses={**one.losses, 30: 10.0 - one.place}) if one.place < 4 else one for one in trials]
    found = standing(later, steps, reduction=3)
    assert found.turn == Turn(UUID(int=2), 90)
    assert {one.int: step for one, step in found.stopped.items()} == {0: 30, 1: 30} | dict.fromkeys(range(4, 12), 10)
    ended = [one._replace(losses={**one.losses, 90: 1.0}) if one.place in {2, 3} else one for one in later]
    found = standing(ended, steps, reduction=3)
    assert (found.turn, [one.int for one in found.finished]) == (None, [2, 3])


def test_equal_losses_go_to_the_smaller_rank_then_to_the_earlier_trial() -> None:
    trials = [trial(0, {10: 1.0}, rank=32), trial(1, {10: 1.0}, rank=4), trial(2, {10: 1.0}, rank=16), trial(3, {10: 1.0}, rank=16)]
    assert {one.int for one in standing(trials, (10, 30), reduction=2).stopped} == {0, 3}


def test_a_trial_that_failed_is_compared_with_nothing_and_the_rest_goes_on() -> None:
    trials = [trial(0, {10: 0.1}, out=True), trial(1, {10: 1.0, 30: 0.9}), trial(2, {10: 2.0, 30: 1.9})]
    assert standing(trials, (10, 30), reduction=3).stopped == {}
    found = recommend(trials, (10, 30), reduction=3, tie=0.01)
    assert found is not None
    assert found.trial_id == UUID(int=1)
    assert any("1 of 3 trials failed" in caution for caution in found.cautions)
    assert recommend([one._replace(out=True) for one in trials], (10, 30), reduction=3, tie=0.01) is None


@pytest.mark.parametrize(("tie", "rank"), [(0.0, 32), (0.01, 32), (0.03, 8), (0.2, 4)])
def test_of_losses_within_the_tie_the_smallest_rank_is_recommended(tie: float, rank: int) -> None:
    trials = [trial(0, {9: 1.10}, rank=4), trial(1, {9: 1.02}, rank=8), trial(2, {9: 1.00}, rank=32), trial(3, {9: 1.011}, rank=32)]
    found = recommend(trials, (9,), reduction=3, tie=tie)
    assert found is not None
    chosen = next(one for one in trials if one.id == found.trial_id)
    assert (chosen.rank, any("counts as equal" in reason for reason in found.reasons)) == (rank, rank != 32)
    # The evidence names the loss of every trial that was compared at the end.
    assert all(any(f"{one.losses[9]:.4f}" in reason for reason in found.reasons) for one in trials)


def test_a_choice_at_the_edge_of_what_was_asked_for_says_so() -> None:
    trials = [trial(0, {9: 2.0}, rank=4, rate=1e-4), trial(1, {9: 1.0}, rank=8, rate=1e-3), trial(2, {9: 2.0}, rank=8, rate=1e-4)]
    found = recommend(trials, (9,), reduction=3, tie=0.01)
    assert found is not None
    said = " ".join(found.cautions)
    assert "The rank is at the end of what was asked for (8): a larger one" in said
    assert "The learning rate is at the end of what was asked for (0.001): a larger one" in said
    assert "same seed" in said


def test_nothing_is_recommended_before_the_end() -> None:
    assert recommend([trial(0, {10: 1.0}), trial(1, {10: 2.0})], (10, 30), reduction=3, tie=0.01) is None


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"ranks": [8], "learning_rates": [1e-3]}, "1 different trials"),
        ({"ranks": [8, 8], "learning_rates": [1e-3, 1e-3]}, "1 different trials"),
        ({"ranks": list(range(1, 10)), "learning_rates": [number / 100 for number in range(1, 9)]}, "72 different trials"),
        ({"ranks": [4, 8], "learning_rates": [1e-3], "plan": {"rank": 4}}, "the plan names rank"),
        ({"ranks": [4, 8], "learning_rates": [1e-3], "plan": {"method": "ia3"}}, "no rank to search"),
        ({"ranks": [0, 8], "learning_rates": [1e-3]}, "greater than or equal to 1"),
    ],
)
def test_a_search_that_is_none_is_refused(body: dict[str, object], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        RequestSearch.model_validate({"adapter": "bot", "dataset": "faq", **body})


def test_the_scale_follows_the_rank_of_each_trial_unless_the_plan_names_it() -> None:
    body = {"adapter": "bot", "dataset": "faq", "ranks": [8, 4], "learning_rates": [1e-3]}
    assert [(one.rank, one.alpha) for one in RequestSearch.model_validate(body).specs()] == [(4, 8.0), (8, 16.0)]
    fixed = RequestSearch.model_validate({**body, "plan": {"alpha": 12.0}}).specs()
    assert [(one.rank, one.alpha) for one in fixed] == [(4, 12.0), (8, 12.0)]
