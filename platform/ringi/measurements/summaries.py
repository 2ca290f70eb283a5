"""From records to figures: what each metric of each task came to. Pure; nothing is a mean over nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ringi.gating import binary
from ringi.gating.graded import Bootstrap, clustered
from ringi.gating.pairs import seed_of
from ringi.gating.schemas import Measured
from ringi.jobs.contracts.scorers import ScoreProblem, measure_of
from ringi.jobs.contracts.suites import Task
from ringi.jobs.contracts.sweeps import Record
from ringi.kit.errors import InvalidInput
from ringi.measurements.schemas import MetricSummary, TaskSummary

LEVEL = 0.05
_DIGITS = 6
_FEWEST = 2
_CODES = frozenset(ScoreProblem)


class RecordsForeign(InvalidInput):
    """Records of something else than the suite's items."""

    code = "measurement_records_foreign"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The records do not belong to this suite: {reason}.", next_step="Measure with this version of the suite.")


def by_task(records: Iterable[Record], tasks: Sequence[Task], *, complete: bool) -> dict[str, list[Record]]:
    """Records by task, in their order. `complete`: every item of every task must be there. Raises RecordsForeign."""
    found: dict[str, list[Record]] = {task.name: [] for task in tasks}
    seen: set[tuple[str, str]] = set()
    for record in records:
        if record.task not in found:
            raise RecordsForeign(f"it has no task '{record.task}'")
        if (record.task, record.item) in seen:
            raise RecordsForeign(f"item '{record.item}' of task '{record.task}' occurs twice")
        seen.add((record.task, record.item))
        found[record.task].append(record)
    for task in tasks:
        if complete and len(found[task.name]) != task.count:
            raise RecordsForeign(f"task '{task.name}' has {task.count} items, and there are records of {len(found[task.name])}")
    return {name: some for name, some in found.items() if some}


def check_ranges(records: Mapping[str, Sequence[Record]], tasks: Sequence[Task]) -> None:
    """Scores that were made elsewhere must be such as their scorers give. Raises RecordsForeign."""
    for task in tasks:
        measures = {spec.metric: measure_of(spec) for spec in task.scorers}
        for record in records.get(task.name, []):
            for metric, score in record.scores.items():
                known = measures.get(metric)
                if known is None or score is None:
                    continue
                low, high = known.bounds
                # Of several answers to an item the mean counts.
                whole = known.binary and task.decoding.repeats == 1
                if not low <= score <= high or (whole and score not in {0.0, 1.0}):
                    allowed = "0 or 1" if whole else f"between {low:g} and {high:g}"
                    raise RecordsForeign(f"'{metric}' of item '{record.item}' of task '{task.name}' is {score}, which is not {allowed}")


def measured(record: Record) -> Measured:
    """A record as the gate pairs it."""
    return Measured(item=record.item, asked=record.asked, slices=record.tags, source=record.source, scores=record.scores)


def summarised(records: Mapping[str, Sequence[Record]]) -> dict[str, TaskSummary]:
    """Every metric of every task."""
    return {task: _of_task(task, some) for task, some in records.items()}


def _of_task(task: str, records: Sequence[Record]) -> TaskSummary:
    names = sorted({name for record in records for name in record.scores})
    problems = Counter(record.problem for record in records if record.problem is not None)
    return TaskSummary(metrics={name: _of_metric(task, name, records) for name in names}, problems=dict(sorted(problems.items())))


def _of_metric(task: str, name: str, records: Sequence[Record]) -> MetricSummary:
    scored = [(value, record.source or f"item {record.item}") for record in records if (value := record.scores.get(name)) is not None]
    scores = np.array([value for value, _ in scored], dtype=np.float64)
    places = {source: number for number, source in enumerate(sorted({source for _, source in scored}))}
    cluster = np.array([places[source] for _, source in scored], dtype=np.int64)
    low, high = _interval(scores, cluster, seed_of("summary", task, name))
    problems = Counter(code for record in records if (code := _left_out(record, name)) is not None)
    return MetricSummary(
        n=len(records), scored=len(scored), unscored=len(records) - len(scored), mean=_round(float(scores.mean())) if scored else None,
        low=_round(low), high=_round(high), problems=dict(sorted(problems.items())),
    )  # fmt: skip


def _left_out(record: Record, metric: str) -> str | None:
    """Why this scorer gave nothing, which its note begins with; None where it gave something, or was not asked."""
    word = record.notes.get(metric, "").partition(" ")[0]
    return word if record.scores.get(metric) is None and word in _CODES else None


def _interval(scores: np.ndarray, cluster: np.ndarray, seed: int) -> tuple[float | None, float | None]:
    if not len(scores):
        return None, None
    if np.isin(scores, (0.0, 1.0)).all() and len(np.unique(cluster)) == len(scores):
        right = int(scores.sum())
        return tuple(binary.wilson_bound(right, len(scores), LEVEL, upper=upper) for upper in (False, True))  # type: ignore[return-value]  # two
    if len(np.unique(cluster)) < _FEWEST:
        return None, None
    drawn = Bootstrap(clustered(scores, cluster), seed)
    return drawn.lower(LEVEL), drawn.upper(LEVEL)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
