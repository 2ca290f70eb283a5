"""The verdict over paired item records."""

import random
import time

import pytest

from ringi.evaluation.verdict import DuplicateItem, EvaluationSummary, NotFinite, UnpairedItem, Verdict, judge
from ringi.jobs.contracts.evaluation import ArmRecord, ItemRecord

DIGEST = "sha256:" + "0" * 64


def _arm(nll: float | None, match: bool | None, tokens: int = 9) -> ArmRecord:
    return ArmRecord.model_construct(nll=nll, tokens=tokens, output="", match=match)


def _record(item: int, candidate: ArmRecord, baseline: ArmRecord, **slices: str) -> ItemRecord:
    return ItemRecord.model_construct(
        item=f"i{item:04d}", slices=slices, prompt_digest=DIGEST, reference="r", candidate=candidate, baseline=baseline
    )


def _records(count: int, *, shift: float, spread: float = 0.5, seed: int = 1) -> list[ItemRecord]:
    """Items of very different difficulty, each improved by `shift` on average."""
    draw = random.Random(seed)
    records = []
    for number in range(count):
        hard = draw.uniform(0.5, 8)
        records.append(_record(number, _arm(hard - draw.gauss(shift, spread), False), _arm(hard, False)))
    return records


def _codes(summary: EvaluationSummary) -> set[str]:
    return {reason.code for reason in summary.reasons}


def test_no_records_are_insufficient_and_nothing_reads_as_zero() -> None:
    summary = judge([])
    assert summary.verdict is Verdict.INSUFFICIENT
    assert _codes(summary) == {"no_samples"}
    assert summary.regressed is None
    measured = (
        summary.candidate_nll,
        summary.improvement,
        summary.improvement_interval,
        summary.candidate_match_rate,
        summary.match_difference,
    )
    assert measured == (None,) * 5


def test_records_that_nobody_could_score_are_insufficient() -> None:
    summary = judge([_record(n, _arm(None, None, 0), _arm(None, None, 0)) for n in range(200)])
    assert (summary.verdict, summary.n, summary.scored, summary.unscored) == (Verdict.INSUFFICIENT, 200, 0, 200)
    assert summary.candidate_nll is None
    assert {"no_samples", "match_not_measured"} <= _codes(summary)


def test_one_item_has_no_interval() -> None:
    summary = judge(_records(1, shift=1), minimum_items=1)
    assert summary.improvement is not None
    assert summary.improvement_interval is None
    assert summary.verdict is Verdict.INSUFFICIENT


def test_a_paired_improvement_far_below_the_spread_of_difficulty_is_shown() -> None:
    summary = judge(_records(200, shift=0.2))
    assert summary.verdict is Verdict.BETTER
    assert summary.regressed is False
    assert summary.improvement_interval is not None
    assert summary.improvement is not None
    assert 0 < summary.improvement_interval.low < summary.improvement < summary.improvement_interval.high
    assert summary.candidate_nll is not None
    assert summary.baseline_nll is not None
    assert summary.improvement == pytest.approx(summary.baseline_nll - summary.candidate_nll)


def test_a_loss_is_worse_and_counts_as_a_regression() -> None:
    summary = judge(_records(200, shift=-0.2))
    assert (summary.verdict, summary.regressed) == (Verdict.WORSE, True)
    assert "likelihood_worse" in _codes(summary)


def test_equal_arms_are_not_shown_to_be_better() -> None:
    summary = judge([_record(n, _arm(2.0, True), _arm(2.0, True)) for n in range(150)])
    assert (summary.verdict, summary.regressed, summary.improvement) == (Verdict.NOT_SHOWN, False, 0.0)
    assert summary.match_difference == 0.0
    assert summary.match_difference_interval is None


def test_too_few_items_are_insufficient_even_when_the_interval_lies_above_zero() -> None:
    summary = judge(_records(99, shift=2))
    assert summary.verdict is Verdict.INSUFFICIENT
    assert "too_few_items" in _codes(summary)
    assert judge(_records(100, shift=2)).verdict is Verdict.BETTER


def test_likelihood_up_and_matches_down_is_worse() -> None:
    records = [_record(n, _arm(1.0 + n % 7 / 100, n % 4 != 0), _arm(2.0, True)) for n in range(120)]
    summary = judge(records)
    assert summary.verdict is Verdict.WORSE
    assert {"likelihood_better", "match_worse"} <= _codes(summary)
    assert len(summary.negative_flips) == 30
    assert summary.positive_flips == ()
    assert summary.candidate_match_rate == pytest.approx(0.75)


def test_items_that_only_one_arm_could_score_are_unscored_and_said_so() -> None:
    records = [*_records(150, shift=0.5), _record(900, _arm(None, None, 0), _arm(1.0, True))]
    summary = judge(records)
    assert (summary.n, summary.scored, summary.unscored, summary.matched) == (151, 150, 1, 150)
    assert "unscored_items" in _codes(summary)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_likelihood_that_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(NotFinite):
        judge([_record(1, _arm(value, False), _arm(1.0, False))])


def test_a_repeated_item_is_refused() -> None:
    with pytest.raises(DuplicateItem) as refusal:
        judge([*_records(3, shift=0), *_records(1, shift=0)])
    assert refusal.value.details["items"] == ["i0000"]


def test_arms_that_scored_other_numbers_of_tokens_are_refused() -> None:
    with pytest.raises(UnpairedItem):
        judge([_record(1, _arm(1.0, False, 8), _arm(1.0, False, 9))])


def test_the_order_of_the_records_changes_nothing() -> None:
    records = _records(130, shift=0.1)
    assert judge(records) == judge(list(reversed(records)))


def test_slices_have_their_own_means_and_a_tag_that_names_items_is_no_slice() -> None:
    records = [
        _record(n, _arm(1.0 if n % 3 else None, True), _arm(1.5, False), language="ja" if n % 3 == 0 else "en", source_id=f"{n}")
        for n in range(30)
    ]
    slices = {(part.key, part.value): part for part in judge(records).slices}
    assert set(slices) == {("language", "ja"), ("language", "en")}
    assert (slices["language", "ja"].n, slices["language", "ja"].scored, slices["language", "ja"].improvement) == (10, 0, None)
    assert slices["language", "en"].improvement == pytest.approx(0.5)


def test_without_a_true_difference_better_and_worse_are_rare() -> None:
    verdicts = [judge(_records(100, shift=0, seed=seed)).verdict for seed in range(60)]
    # 5 % of 60 are expected; more than 10 has a probability below 0.001.
    assert sum(verdict is not Verdict.NOT_SHOWN for verdict in verdicts) <= 10


def test_250_items_are_judged_in_a_moment() -> None:
    records = _records(250, shift=0.1)
    started = time.process_time()
    judge(records)
    assert time.process_time() - started < 2
