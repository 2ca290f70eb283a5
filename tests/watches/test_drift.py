"""Drift is what the gate's test calls harm, at the watch's own limits; what was not measured is neither zero nor drift."""

import random

from ringi.gating.schemas import Arm, Measured
from ringi.jobs.contracts.suites import Answering, ScorerSpec, Task
from ringi.kit.digests import sha256_bytes
from ringi.measurements.schemas import MetricSummary, TaskSummary
from ringi.suites.schemas import SuiteDocument
from ringi.watches import drift
from ringi.watches.schemas import Drift, DriftLimits, Figure, ScoreDrift

SCORERS = ("exact_match", "length")
TASK = Task(
    name="応答", answering=Answering.GENERATE, items=sha256_bytes(b"items"), count=200,
    scorers=tuple(ScorerSpec(name=name) for name in SCORERS),
)  # fmt: skip
DOCUMENT = SuiteDocument(tasks=(TASK,), requirements=())


def arm(wrong: int, *, length: float = 20.0, scored: int = 200) -> Arm:
    draw = random.Random(7)
    return {
        "応答": [
            Measured(
                item=f"q{n}", scores={"exact_match": float(n >= wrong) if n < scored else None, "length": length + draw.uniform(-2, 2)}
            )
            for n in range(200)
        ]
    }


def summary(one: Arm) -> dict[str, TaskSummary]:
    metrics = {}
    for name in SCORERS:
        found = [score for item in one["応答"] if (score := item.scores[name]) is not None]
        mean = sum(found) / len(found) if found else None
        metrics[name] = MetricSummary(n=200, scored=len(found), unscored=200 - len(found), mean=mean, low=None, high=None)
    return {"応答": TaskSummary(metrics=metrics, problems={})}


def compared(now: Arm, first: Arm, **limits: object) -> dict[str, ScoreDrift]:
    found = drift.scores(DOCUMENT, summary(now), limits=DriftLimits.model_validate(limits), now=now, first=first)
    assert [one.task for one in found] == ["応答"] * len(found)
    return {one.metric: one for one in found}


def test_a_loss_that_the_items_show_is_drift_and_the_same_loss_within_its_limit_is_none() -> None:
    exact = compared(arm(40), arm(10))["exact_match"]
    assert (exact.mean, exact.first, exact.difference, exact.drifted) == (0.8, 0.95, -0.15, True)
    assert exact.low is not None
    assert exact.low < -0.15 < (exact.high or 0)
    wide = compared(arm(40), arm(10), scores=0.2)["exact_match"]
    assert (wide.difference, wide.drifted) == (-0.15, False)


def test_a_loss_that_so_few_flips_cannot_show_is_no_drift_and_a_gain_never_is() -> None:
    assert compared(arm(3), arm(0), scores=0.01)["exact_match"].drifted is False
    better = compared(arm(10), arm(40))["exact_match"]
    assert (better.difference, better.drifted) == (0.15, False)


def test_a_metric_without_a_better_side_drifts_either_way_once_it_has_a_limit() -> None:
    for length in (30.0, 10.0):
        shown = compared(arm(0, length=length), arm(0))["length"]
        assert (shown.limit, shown.drifted) == (None, None)
        assert shown.difference is not None
        assert abs(shown.difference - (length - 20)) < 1
        assert compared(arm(0, length=length), arm(0), metrics={"応答.length": 5})["length"].drifted is True
    assert compared(arm(0, length=21.0), arm(0), metrics={"応答.length": 5})["length"].drifted is False


def test_what_had_a_score_and_has_none_now_is_drift_and_never_a_zero() -> None:
    gone = compared(arm(0, scored=0), arm(0))["exact_match"]
    assert (gone.mean, gone.difference, gone.scored, gone.drifted) == (None, None, 0, True)
    some = compared(arm(0, scored=150), arm(0))["exact_match"]
    assert (some.mean, some.difference, some.pairs, some.drifted) == (1.0, 0.0, 150, True)


def test_the_first_look_has_means_and_nothing_to_compare() -> None:
    found = Drift(
        scores=drift.scores(DOCUMENT, summary(arm(10)), limits=DriftLimits()), operations=drift.operations({}, None, DriftLimits())
    )
    assert [(one.metric, one.first, one.difference, one.drifted) for one in found.scores] == [(name, None, None, None) for name in SCORERS]
    assert drift.drifted(found) is None
    assert drift.worded(found) == []


def test_operational_figures_are_shares_of_what_they_were_towards_the_worse() -> None:
    first = {"応答": {"tokens_per_s": 100.0, "item_p95_s": 0.2, "peak_memory_bytes": 1000, "first_token_s": None}}
    now = {"応答": {"tokens_per_s": 45.0, "item_p95_s": 0.39, "peak_memory_bytes": 900, "first_token_s": 0.1}}
    found = {one.figure: one for one in drift.operations(now, first, DriftLimits())}
    assert (found[Figure.TOKENS_PER_S].change, found[Figure.TOKENS_PER_S].drifted) == (-0.55, True)
    assert (found[Figure.ITEM_P95_S].change, found[Figure.ITEM_P95_S].drifted) == (0.95, False)
    assert found[Figure.PEAK_MEMORY_BYTES].drifted is False
    # Measured now and not first: there is nothing to be a share of.
    assert (found[Figure.FIRST_TOKEN_S].change, found[Figure.FIRST_TOKEN_S].drifted) == (None, None)
    assert drift.worded(Drift(operations=tuple(found.values()))) == ["応答.tokens_per_s -55% (limit 50%)"]
    assert all(one.drifted is None for one in drift.operations(now, first, DriftLimits(operations={})))
