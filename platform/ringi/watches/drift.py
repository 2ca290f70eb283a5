"""What became of scores and figures since the first measurement. Pure, and without statistics of its own: the gate's test says what harm is.

A metric with a limit drifts when the gate would say NO-GO with that limit as the margin: the paired difference is a harm by the one-sided test, after
Holm over all metrics with a limit, and at least as large. So a look with many metrics alerts no more often than one with few.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ringi.gating.decision import decide
from ringi.gating.schemas import Arm, Requirement, TaskDecision, Tier, Verdict
from ringi.jobs.contracts.scorers import ScorerMisused, measure_of
from ringi.jobs.contracts.suites import Task
from ringi.measurements.schemas import TaskSummary
from ringi.suites.schemas import SuiteDocument
from ringi.watches.schemas import Drift, DriftLimits, Figure, FigureDrift, ScoreDrift

_MORE_IS_BETTER = {Figure.TOKENS_PER_S, Figure.READ_TOKENS_PER_S}
_DIGITS = 6
# Of a metric without a limit, which is only shown.
_ANY = 1.0
_Key = tuple[str, str]


def scores(
    document: SuiteDocument, summary: Mapping[str, TaskSummary], *, limits: DriftLimits, now: Arm | None = None, first: Arm | None = None
) -> tuple[ScoreDrift, ...]:
    """Every metric that has a mean now or had one. Without arms there are means alone. Raises what the gate raises (ItemsChanged)."""
    measured = {(task, metric): figures for task, found in summary.items() for metric, figures in found.metrics.items()}
    tasks = {task.name: task for task in document.tasks}
    known = {
        (task, metric): _Metric(tasks[task], metric, document, limits)
        for task, metric in sorted(measured.keys() | _metrics_of(first or {}))
        if task in tasks
    }
    compared = _compared(known, now, first) if now is not None and first is not None else {}
    return tuple(_score(key, measured.get(key), one.limit, compared.get(key, [])) for key, one in known.items())


class _Metric:
    """What one metric is held to."""

    def __init__(self, task: Task, metric: str, document: SuiteDocument, limits: DriftLimits) -> None:
        spec = next((one for one in task.scorers if one.metric == metric), None)
        try:
            measure = measure_of(spec) if spec is not None else None
        except ScorerMisused:
            measure = None
        wanted = next((one for one in document.requirements if (one.task, one.metric) == (task.name, metric)), None)
        self.better = ("lower" if wanted.lower_is_better else "higher") if wanted else measure.better if measure else None
        bounded = measure is not None and (measure.low, measure.high) == (0.0, 1.0)
        usual = wanted.margin if wanted is not None and not bounded else limits.scores if bounded else None
        self.limit = limits.metrics.get(f"{task.name}.{metric}", usual)

    def required(self, key: _Key, *, lower: bool) -> Requirement:
        """The requirement whose violation is drift in one direction."""
        tier = Tier.ADVISORY if self.limit is None else Tier.SUPPORTING
        return Requirement(task=key[0], metric=key[1], tier=tier, lower_is_better=lower, margin=self.limit or _ANY)


def _metrics_of(arm: Arm) -> set[_Key]:
    return {(task, metric) for task, items in arm.items() for item in items for metric, score in item.scores.items() if score is not None}


def _compared(known: Mapping[_Key, _Metric], now: Arm, first: Arm) -> dict[_Key, list[TaskDecision]]:
    """By metric, the decision in its worse direction; of one without a better side the decisions in both, higher is better first."""
    asked = [one.required(key, lower=one.better == "lower") for key, one in known.items()]
    flipped = [one.required(key, lower=True) for key, one in known.items() if one.better is None and one.limit is not None]
    found: dict[_Key, list[TaskDecision]] = {}
    for requirements in (asked, flipped):
        for task in decide(requirements, now, first).tasks if requirements else ():
            found.setdefault((task.task, task.metric), []).append(task)
    return found


def _score(key: _Key, figures: Any, limit: float | None, decided: list[TaskDecision]) -> ScoreDrift:
    whole = decided[0].whole if decided else None
    lost = decided[0].unscored if decided else None
    # What was scored first and is not now is drift as well: the mean of the others says nothing of it.
    worse = bool(lost) or any(one.verdict is Verdict.NO_GO for one in decided)
    comparable = limit is not None and bool(decided) and (whole is not None or worse)
    return ScoreDrift(
        task=key[0], metric=key[1], scored=figures.scored if figures else 0, mean=figures.mean if figures else None, limit=limit,
        pairs=whole.n if whole else None, first=whole.baseline if whole else None, difference=whole.difference if whole else None,
        low=whole.low if whole else None, high=whole.high if whole else None, lost=lost, drifted=worse if comparable else None,
    )  # fmt: skip


def operations(
    now: Mapping[str, Mapping[str, Any]], first: Mapping[str, Mapping[str, Any]] | None, limits: DriftLimits
) -> tuple[FigureDrift, ...]:
    """Every figure of every task that was measured now or first."""
    return tuple(_figures(now, first or {}, limits))


def _figures(now: Mapping[str, Mapping[str, Any]], first: Mapping[str, Mapping[str, Any]], limits: DriftLimits) -> Iterator[FigureDrift]:
    for task in sorted(now.keys() | first.keys()):
        for figure in Figure:
            value, before = now.get(task, {}).get(figure), first.get(task, {}).get(figure)
            if value is None and before is None:
                continue
            limit = limits.operations.get(figure)
            # Nothing is a share of nothing.
            change = round(value / before - 1, _DIGITS) if value is not None and before else None
            worse = None if change is None else -change if figure in _MORE_IS_BETTER else change
            yield FigureDrift(
                task=task, figure=figure, value=value, first=before, change=change, limit=limit,
                drifted=None if worse is None or limit is None else worse > limit,
            )  # fmt: skip


def drifted(found: Drift) -> bool | None:
    """Whether anything did; None where nothing could be compared."""
    every = [*(one.drifted for one in found.scores), *(one.drifted for one in found.operations)]
    said = [one for one in every if one is not None]
    return any(said) if said else None


def worded(found: Drift) -> list[str]:
    """What drifted, for people and events: `faq.exact -0.12 (limit 0.05)`."""
    scored = [
        f"{one.task}.{one.metric} {_signed(one.difference)} (limit {one.limit:g}{f', {one.lost} without a score' if one.lost else ''})"
        for one in found.scores
        if one.drifted and one.limit is not None
    ]
    figures = [
        f"{one.task}.{one.figure} {one.change:+.0%} (limit {one.limit:.0%})"
        for one in found.operations
        if one.drifted and one.change is not None and one.limit is not None
    ]
    return [*scored, *figures]


def _signed(value: float | None) -> str:
    return "not measured" if value is None else f"{value:+.3g}"
