"""From item records to a verdict: pure, deterministic, re-runnable on stored records.

Both arms answered the same items, so every statement is about paired differences. Improvement is the baseline's negative log-likelihood
per reference token minus the candidate's, in nats: above zero means that the candidate finds the references more likely. Intervals are paired
percentile bootstraps over items (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). What was not measured is None.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, FiniteFloat

from ringi.jobs.contracts.evaluation import ItemRecord
from ringi.kit.errors import InvalidInput

RESAMPLES = 2000
# One value has no spread to speak of.
_LEAST_FOR_SPREAD = 2
_SEED = 20_000


class Verdict(StrEnum):
    """What the records show about the candidate."""

    BETTER = "better"
    NOT_SHOWN = "not_shown"
    WORSE = "worse"
    INSUFFICIENT = "insufficient"


class DuplicateItem(InvalidInput):
    """An item id occurs more than once: its difference would count twice."""

    code: ClassVar[str] = "evaluation_duplicate_item"


class UnpairedItem(InvalidInput):
    """The arms scored different numbers of reference tokens for an item: per-token values are then not comparable."""

    code: ClassVar[str] = "evaluation_unpaired_item"


class NotFinite(InvalidInput):
    """A likelihood that is NaN or infinite."""

    code: ClassVar[str] = "evaluation_not_finite"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Frozen):
    """A two-sided interval at `confidence` (a fraction)."""

    low: FiniteFloat
    high: FiniteFloat
    confidence: FiniteFloat


class Reason(_Frozen):
    """One sentence of the verdict, under a stable code."""

    code: str
    text: str


class SliceSummary(_Frozen):
    """The items that carry tag `key` = `value`; likelihoods in nats per token over the `scored` ones, None where there are none."""

    key: str
    value: str
    n: int
    scored: int
    candidate_nll: FiniteFloat | None
    baseline_nll: FiniteFloat | None
    improvement: FiniteFloat | None
    candidate_match_rate: FiniteFloat | None
    baseline_match_rate: FiniteFloat | None


class EvaluationSummary(_Frozen):
    """Everything a reader of the evaluation needs. `scored` items have a likelihood in both arms, `matched` ones a match in both.

    `negative_flips` are items that the baseline matched and the candidate does not, `positive_flips` the reverse. `regressed` is the answer
    of a regression run (candidate: the adapter on the new base; baseline: on its own base), None where there are too few items to tell.
    """

    verdict: Verdict
    regressed: bool | None
    reasons: tuple[Reason, ...]
    n: int
    scored: int
    unscored: int
    minimum_items: int
    resamples: int
    candidate_nll: FiniteFloat | None
    baseline_nll: FiniteFloat | None
    improvement: FiniteFloat | None
    improvement_interval: Interval | None
    matched: int
    candidate_match_rate: FiniteFloat | None
    baseline_match_rate: FiniteFloat | None
    match_difference: FiniteFloat | None
    match_difference_interval: Interval | None
    negative_flips: tuple[str, ...]
    positive_flips: tuple[str, ...]
    slices: tuple[SliceSummary, ...]


def judge(records: Sequence[ItemRecord], *, minimum_items: int = 100, confidence: float = 0.95) -> EvaluationSummary:
    """Summarise paired records and reach a verdict; the order of `records` plays no part.

    Fewer than `minimum_items` (at least 2) scored items are insufficient. Else harm in either measure is `worse`; an improvement interval above
    zero is `better`; all else is `not_shown`. Raises DuplicateItem, UnpairedItem, NotFinite. Time: 0.1 s per 250 items.
    """
    ordered = sorted(records, key=lambda record: record.item)
    _refuse_bad_pairs(ordered)
    likelihoods = _likelihood_pairs(ordered)
    matches = _match_pairs(ordered)
    improvements = [baseline - candidate for candidate, baseline in likelihoods]
    differences = [float(candidate) - float(baseline) for _, candidate, baseline in matches]
    improvement = _bootstrap(improvements, confidence)
    # Without a single flip the resamples are all zero, and [0, 0] would claim a certainty that nobody measured.
    match_difference = _bootstrap(differences, confidence) if any(differences) else None
    enough = len(likelihoods) >= max(minimum_items, _LEAST_FOR_SPREAD)
    verdict = _verdict(improvement, match_difference) if enough else Verdict.INSUFFICIENT
    return EvaluationSummary(
        verdict=verdict,
        regressed=None if verdict is Verdict.INSUFFICIENT else verdict is Verdict.WORSE,
        reasons=tuple(_reasons(ordered, len(likelihoods), len(matches), minimum_items, improvement, match_difference)),
        n=len(ordered),
        scored=len(likelihoods),
        unscored=len(ordered) - len(likelihoods),
        minimum_items=minimum_items,
        resamples=RESAMPLES,
        candidate_nll=_mean([candidate for candidate, _ in likelihoods]),
        baseline_nll=_mean([baseline for _, baseline in likelihoods]),
        improvement=_mean(improvements),
        improvement_interval=improvement,
        matched=len(matches),
        candidate_match_rate=_mean([float(candidate) for _, candidate, _ in matches]),
        baseline_match_rate=_mean([float(baseline) for _, _, baseline in matches]),
        match_difference=_mean(differences),
        match_difference_interval=match_difference,
        negative_flips=tuple(item for item, candidate, baseline in matches if baseline and not candidate),
        positive_flips=tuple(item for item, candidate, baseline in matches if candidate and not baseline),
        slices=tuple(_slices(ordered)),
    )


def _refuse_bad_pairs(records: Sequence[ItemRecord]) -> None:
    repeated = [item for item, count in Counter(record.item for record in records).items() if count > 1]
    if repeated:
        raise DuplicateItem(
            f"{len(repeated)} items occur more than once, the first is '{repeated[0]}'.",
            next_step="Evaluate a dataset version whose item ids are unique.",
            details={"items": repeated[:10], "count": len(repeated)},
        )
    for record in records:
        arms = (record.candidate, record.baseline)
        if any(arm.nll is not None and not math.isfinite(arm.nll) for arm in arms):
            raise NotFinite(
                f"Item '{record.item}' has a likelihood that is not a finite number.",
                next_step="Look for overflow in the adapter's weights, and evaluate again in fp32.",
                details={"item": record.item},
            )
        if all(arm.nll is not None for arm in arms) and record.candidate.tokens != record.baseline.tokens:
            raise UnpairedItem(
                f"Item '{record.item}' has {record.candidate.tokens} reference tokens in one arm and {record.baseline.tokens} in the other.",
                next_step="Compare arms whose bases share one tokenizer and chat template.",
                details={"item": record.item},
            )


def _likelihood_pairs(records: Sequence[ItemRecord]) -> list[tuple[float, float]]:
    """(candidate, baseline) of the items that both arms scored."""
    return [(r.candidate.nll, r.baseline.nll) for r in records if r.candidate.nll is not None and r.baseline.nll is not None]


def _match_pairs(records: Sequence[ItemRecord]) -> list[tuple[str, bool, bool]]:
    return [
        (r.item, r.candidate.match, r.baseline.match) for r in records if r.candidate.match is not None and r.baseline.match is not None
    ]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _bootstrap(values: Sequence[float], confidence: float) -> Interval | None:
    """Percentile interval of the mean of `values`, from seeded resamples; None below two values."""
    if len(values) < _LEAST_FOR_SPREAD:
        return None
    draw = random.Random(_SEED)  # noqa: S311
    means = sorted(sum(draw.choices(values, k=len(values))) / len(values) for _ in range(RESAMPLES))
    tail = (1 - confidence) / 2
    return Interval(low=_quantile(means, tail), high=_quantile(means, 1 - tail), confidence=confidence)


def _quantile(ordered: Sequence[float], fraction: float) -> float:
    """Linear interpolation between order statistics (type 7 of Hyndman and Fan 1996)."""
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def _verdict(improvement: Interval | None, match_difference: Interval | None) -> Verdict:
    if any(interval is not None and interval.high < 0 for interval in (improvement, match_difference)):
        return Verdict.WORSE
    if improvement is not None and improvement.low > 0:
        return Verdict.BETTER
    return Verdict.NOT_SHOWN


def _reasons(
    records: Sequence[ItemRecord],
    scored: int,
    matched: int,
    minimum_items: int,
    improvement: Interval | None,
    match_difference: Interval | None,
) -> list[Reason]:
    """Why the verdict is what it is: first what was measured, then what it shows."""
    reasons: list[Reason] = []
    if scored == 0:
        reasons.append(Reason(code="no_samples", text=f"Not evaluated: 0 of {len(records)} items were scored."))
    elif scored < max(minimum_items, _LEAST_FOR_SPREAD):
        reasons.append(
            Reason(code="too_few_items", text=f"{scored} items were scored; {max(minimum_items, _LEAST_FOR_SPREAD)} are needed.")
        )
    if 0 < scored < len(records):
        reasons.append(Reason(code="unscored_items", text=f"{len(records) - scored} of {len(records)} items were not scored."))
    if records and matched == 0:
        reasons.append(Reason(code="match_not_measured", text="No item's generated answer was compared with its reference."))
    if improvement is not None:
        reasons.append(_reason_for("likelihood", improvement, "nats per reference token", digits=4))
    if match_difference is not None:
        reasons.append(_reason_for("match", match_difference, "in the share of matching answers", digits=3))
    return reasons


def _reason_for(measure: str, interval: Interval, unit: str, *, digits: int) -> Reason:
    outcome = "worse" if interval.high < 0 else "better" if interval.low > 0 else "not_shown"
    finding = {"worse": "lies below zero", "better": "lies above zero", "not_shown": "includes zero"}[outcome]
    bounds = f"[{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"
    return Reason(
        code=f"{measure}_{outcome}", text=f"The {interval.confidence:.0%} interval of the improvement, {bounds} {unit}, {finding}."
    )


def _slices(records: Sequence[ItemRecord]) -> list[SliceSummary]:
    """One summary per tag value. A tag whose values are all distinct names items, not slices, and is left out."""
    groups: defaultdict[str, defaultdict[str, list[ItemRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for key, value in record.slices.items():
            groups[key][value].append(record)
    return [
        _slice(key, value, members)
        for key, values in sorted(groups.items())
        if len(values) == 1 or any(len(members) > 1 for members in values.values())
        for value, members in sorted(values.items())
    ]


def _slice(key: str, value: str, members: Sequence[ItemRecord]) -> SliceSummary:
    likelihoods = _likelihood_pairs(members)
    matches = _match_pairs(members)
    return SliceSummary(
        key=key,
        value=value,
        n=len(members),
        scored=len(likelihoods),
        candidate_nll=_mean([candidate for candidate, _ in likelihoods]),
        baseline_nll=_mean([baseline for _, baseline in likelihoods]),
        improvement=_mean([baseline - candidate for candidate, baseline in likelihoods]),
        candidate_match_rate=_mean([float(candidate) for _, candidate, _ in matches]),
        baseline_match_rate=_mean([float(baseline) for _, _, baseline in matches]),
    )
