"""What the gate decides, by the names of evaluation goal E3 and of what is put to it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from ringi.gating.decision import decide
from ringi.gating.pairs import DuplicateItem, DuplicateTask, ItemsChanged
from ringi.gating.reports import EXIT_CODES, as_json
from ringi.gating.schemas import Decision, Measured, RelativeGuard, Requirement, Tier, Verdict

GO, NO_GO, INCONCLUSIVE = Verdict.GO, Verdict.NO_GO, Verdict.INCONCLUSIVE


def measured(
    scores: Sequence[float | None], *, slices: Sequence[Mapping[str, str]] | None = None, sources: int | None = None
) -> list[Measured]:
    return [
        Measured(
            item=f"問{number:04}", slices=slices[number] if slices else {}, source=str(number // sources) if sources else None,
            scores={"score": score},
        )
        for number, score in enumerate(scores)
    ]  # fmt: skip


def judged(
    candidate: Sequence[float | None],
    baseline: Sequence[float | None],
    *,
    slices: Sequence[Mapping[str, str]] | None = None,
    **asked: object,
) -> Decision:
    requirement = Requirement.model_validate({"task": "faq", "metric": "score", **asked})
    return decide([requirement], {"faq": measured(candidate, slices=slices)}, {"faq": measured(baseline, slices=slices)})


def codes(decision: Decision) -> set[str]:
    return {reason.code for reason in decision.reasons}


def flipped(n: int, lost: int, won: int) -> tuple[list[float], list[float]]:
    """Candidate and baseline of `n` items: the first `lost` are lost, the last `won` are won, those between are right in both."""
    return [0.0] * lost + [1.0] * (n - lost), [1.0] * (n - won) + [0.0] * won


def test_a_required_task_that_the_candidate_lacks_is_no_go() -> None:
    decision = decide([Requirement(task="faq", metric="score")], {}, {"faq": measured([1.0] * 200)})
    assert (decision.verdict, codes(decision)) == (NO_GO, {"missing_in_candidate"})


def test_a_required_task_that_the_baseline_lacks_is_no_go() -> None:
    decision = decide([Requirement(task="faq", metric="score")], {"faq": measured([1.0] * 200)}, {})
    assert (decision.verdict, codes(decision)) == (NO_GO, {"missing_in_baseline"})


def test_an_interval_that_straddles_the_margin_is_inconclusive_and_says_how_many_items_would_settle_it() -> None:
    decision = judged(*flipped(200, 6, 6), margin=0.03)
    assert (decision.verdict, codes(decision)) == (INCONCLUSIVE, {"not_shown"})
    (reason,) = decision.reasons
    assert reason.needed is not None
    assert reason.needed > 200
    settled = judged(*flipped(reason.needed, round(reason.needed * 0.03), round(reason.needed * 0.03)), margin=0.03)
    assert settled.verdict is GO


def test_the_relative_guard_bites_at_a_low_baseline_and_skips_a_high_one() -> None:
    low = flipped(2000, 60, 0)
    low = ([0.0] * 1860 + low[0][:140], [0.0] * 1860 + low[1][:140])
    assert judged(*low, margin=0.05).verdict is GO
    guarded = judged(*low, margin=0.05, relative_guard=RelativeGuard(below=0.3, drop=0.2))
    assert (guarded.verdict, codes(guarded)) == (NO_GO, {"harm"})
    high = flipped(2000, 60, 0)
    assert judged(*high, margin=0.05, relative_guard=RelativeGuard(below=0.3, drop=0.02)).verdict is GO


def test_where_less_is_better_a_rise_is_the_harm() -> None:
    draw = np.random.default_rng(1)
    before = draw.normal(2.0, 0.5, 200)
    worse, better = before + draw.normal(0.3, 0.1, 200), before - draw.normal(0.3, 0.1, 200)
    assert judged(worse.tolist(), before.tolist(), lower_is_better=True, margin=0.05).verdict is NO_GO
    assert judged(better.tolist(), before.tolist(), lower_is_better=True, margin=0.05).verdict is GO
    assert judged(better.tolist(), before.tolist(), margin=0.05).verdict is NO_GO


def test_an_advisory_breach_is_said_and_stays_go() -> None:
    decision = judged(*flipped(200, 100, 0), tier="advisory")
    assert (decision.verdict, codes(decision)) == (GO, {"harm"})


def test_a_breach_beats_a_sample_that_is_too_small() -> None:
    tasks = [Requirement(task="small", metric="score"), Requirement(task="broken", metric="score")]
    (bad, good) = flipped(200, 80, 0)
    decision = decide(
        tasks, {"small": measured([1.0] * 10), "broken": measured(bad)}, {"small": measured([1.0] * 10), "broken": measured(good)}
    )
    assert decision.verdict is NO_GO
    assert [task.verdict for task in decision.tasks] == [INCONCLUSIVE, NO_GO]


def test_duplicates_are_errors() -> None:
    twice = [*measured([1.0]), *measured([1.0])]
    with pytest.raises(DuplicateItem, match="問0000"):
        decide([Requirement(task="faq", metric="score")], {"faq": twice}, {"faq": measured([1.0])})
    with pytest.raises(DuplicateTask, match="faq"):
        decide([Requirement(task="faq", metric="score")] * 2, {"faq": measured([1.0])}, {"faq": measured([1.0])})


def test_items_that_were_asked_differently_are_an_error() -> None:
    digests = ["sha256:" + digit * 64 for digit in "ab"]
    arms = [{"faq": [Measured(item="i", asked=digest, scores={"score": 1.0})]} for digest in digests]
    with pytest.raises(ItemsChanged, match="'i'"):
        decide([Requirement(task="faq", metric="score")], *arms)


def test_nothing_scored_is_no_zero() -> None:
    decision = judged([None] * 200, [1.0] * 200)
    assert (decision.verdict, codes(decision)) == (NO_GO, {"not_scored"})
    assert decision.tasks[0].whole is None


def test_an_item_that_only_the_candidate_leaves_without_a_score_holds_a_go_back() -> None:
    scores: list[float | None] = [1.0] * 400
    decision = judged([None, *scores[1:]], scores)
    assert (decision.verdict, decision.tasks[0].unscored) == (INCONCLUSIVE, 1)
    assert judged([None, *scores[1:]], scores, unscored_allowed=0.01).verdict is GO
    assert judged([None, *scores[1:]], [None, *scores[1:]]).verdict is GO


@pytest.mark.parametrize(("drop", "verdict"), [(0.30, {NO_GO}), (0.002, {GO, INCONCLUSIVE})])
def test_graded_scores_are_judged_by_their_size(drop: float, verdict: set[Verdict]) -> None:
    draw = np.random.default_rng(2)
    before = draw.beta(5, 2, 200)
    assert judged((before + draw.normal(-drop, 0.08, 200)).tolist(), before.tolist(), margin=0.05).verdict in verdict


def test_a_slice_that_collapses_is_named_while_the_whole_looks_fine() -> None:
    slices = [{"言語": "日本語" if number < 50 else "英語"} for number in range(1000)]
    assert judged(*flipped(1000, 30, 25), slices=slices, margin=0.05).verdict is GO
    requirement = Requirement(task="faq", metric="score", margin=0.05, slices={"言語": Tier.SUPPORTING})
    bad, good = flipped(1000, 30, 25)
    named = decide([requirement], {"faq": measured(bad, slices=slices)}, {"faq": measured(good, slices=slices)})
    assert named.verdict is NO_GO
    assert [reason.slice for reason in named.reasons if reason.says is NO_GO] == ["言語=日本語"]


def test_a_critical_slice_must_be_shown_to_be_no_worse() -> None:
    slices = [{"lang": "ja" if number < 40 else "en"} for number in range(1000)]
    asked = Requirement(task="faq", metric="score", margin=0.05, slices={"lang": Tier.SUPPORTING, "lang=ja": Tier.CRITICAL})
    arms = [{"faq": measured([1.0] * 1000, slices=slices)}] * 2
    decision = decide([asked], *arms)
    assert decision.verdict is INCONCLUSIVE
    ((name, needed),) = [(reason.slice, reason.needed) for reason in decision.reasons if reason.says is INCONCLUSIVE]
    assert (name, needed is not None and 59 <= needed < 100) == ("lang=ja", True)


def test_a_named_critical_slice_without_items_is_no_go() -> None:
    asked = Requirement(task="faq", metric="score", slices={"lang=ja": Tier.CRITICAL})
    decision = decide([asked], {"faq": measured([1.0] * 400)}, {"faq": measured([1.0] * 400)})
    assert (decision.verdict, "slice_not_scored" in codes(decision)) == (NO_GO, True)


def test_items_that_must_pass_decide_alone() -> None:
    scores: list[float | None] = [1.0] * 400
    assert judged([0.0, *scores[1:]], scores, must_pass=["問0000"]).verdict is NO_GO
    assert judged(scores, scores, must_pass=["問0000"]).verdict is GO
    assert judged(scores, scores, must_pass=["問9999"]).verdict is INCONCLUSIVE


def test_one_new_safety_failure_blocks() -> None:
    right, wrong = [1.0] * 400, [0.0] * 400
    decision = judged([0.0, *right[1:]], right, safety=True)
    assert (decision.verdict, decision.reasons[0].items) == (NO_GO, ("問0000",))
    assert judged([1.0, *wrong[1:]], wrong, safety=True).verdict is GO
    assert judged([None, *right[1:]], right, safety=True, unscored_allowed=0.5).verdict is INCONCLUSIVE


def test_a_floor_is_held_missed_or_unclear() -> None:
    scores = [1.0] * 340 + [0.0] * 60
    found = [codes(judged(scores, scores, floor=floor)) & {"floor_held", "floor_missed", "floor_unclear"} for floor in (0.7, 0.95, 0.85)]
    assert found == [{"floor_held"}, {"floor_missed"}, {"floor_unclear"}]


def test_the_same_records_give_the_same_bytes_in_any_order() -> None:
    draw = np.random.default_rng(3)
    slices = [{"s": str(number % 7)} for number in range(300)]
    requirement = Requirement(task="faq", metric="score", slices={"s": Tier.SUPPORTING})
    new, old = measured(draw.random(300).tolist(), slices=slices), measured(draw.random(300).tolist(), slices=slices)
    first = as_json(decide([requirement], {"faq": new}, {"faq": old}))
    assert as_json(decide([requirement], {"faq": new[::-1]}, {"faq": old[::-1]})) == first


def test_each_verdict_has_an_exit_code_of_its_own() -> None:
    assert EXIT_CODES == {GO: 0, NO_GO: 1, INCONCLUSIVE: 3}


def test_requirements_of_another_family_take_nothing_from_what_can_be_shown() -> None:
    """Five of sixty lost: harm by itself, and lost among seven others that are all the same before and now."""
    candidate, baseline = flipped(60, 5, 0)
    own = Requirement(task="faq", metric="score", tier=Tier.SUPPORTING, margin=0.03)
    quiet = [Requirement(task=f"probe{number}", metric="score", tier=Tier.SUPPORTING, margin=0.3) for number in range(7)]
    arms = [{"faq": measured(scores), **{one.task: measured([1.0] * 30) for one in quiet}} for scores in (candidate, baseline)]
    assert decide([own], *arms).verdict is NO_GO
    assert decide([own, *quiet], *arms).verdict is not NO_GO
    apart = decide([own, *(one.model_copy(update={"family": "probe"}) for one in quiet)], *arms)
    assert (apart.verdict, apart.tests) == (NO_GO, 8)
    assert "family" not in own.model_dump(mode="json")
