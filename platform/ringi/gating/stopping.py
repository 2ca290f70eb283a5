"""When the rest of an adapter's items need not be asked: the order that makes early looks fair, and what is looked at. Pure.

Items are asked in an order that is drawn from the suite's digest, whole sources together, so it depends on neither labels nor lengths nor answers.
A worker may answer them in portions, and sort within a portion as it likes: what is seen is in the drawn order, and never past an item that has
no answer yet. Then `futility` holds however often one looks, for items that are a sample of what they stand for.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ringi.gating.decision import LEVEL
from ringi.gating.futility import Futility
from ringi.gating.schemas import Decision, Reason, Requirement, Verdict
from ringi.jobs.contracts.scorers import CATALOGUE, measure_of
from ringi.jobs.contracts.suites import Task
from ringi.jobs.contracts.sweeps import Stop, StopRule, Watched

Block = tuple[str, ...]
# A judge costs money and a user's code a process, so neither is asked twice.
_DEAR = "judge"


class Seen(NamedTuple):
    """One item in one arm: the digest of what was asked, its source, and the metric's score."""

    asked: str
    source: str | None
    score: float | None


def watched_of(requirements: Sequence[Requirement], tasks: Sequence[Task]) -> tuple[Watched, ...]:
    """What can be looked at: required metrics of the catalogue with known bounds, whose harm would block. Those of a family share its level.

    Tasks of lm-evaluation-harness are asked by that library, whole: nothing looks at them meanwhile.
    """
    specs = {(task.name, spec.metric): spec for task in tasks if task.harness is None for spec in task.scorers}
    found = []
    for one in requirements:
        spec = specs.get((one.task, one.metric))
        if spec is None or spec.name not in CATALOGUE or spec.name == _DEAR or one.safety or one.tier.value == "advisory":
            continue
        measure = measure_of(spec)
        if measure.low is None or measure.high is None or not 0 < one.margin < measure.high - measure.low:
            continue
        found.append((one, measure.low, measure.high))
    sizes = Counter(one.family for one, _, _ in found)
    return tuple(
        Watched(
            task=one.task, metric=one.metric, margin=one.margin, lower_is_better=one.lower_is_better, low=low, high=high,
            level=LEVEL / sizes[one.family],
        )
        for one, low, high in found
    )  # fmt: skip


def drawn(seed: str, task: str, items: Iterable[tuple[str, str | None]]) -> list[Block]:
    """Items (id and source) as blocks of one source each, in the drawn order."""
    sources: dict[str, list[str]] = {}
    for item, source in items:
        sources.setdefault(f"source {source}" if source is not None else f"item {item}", []).append(item)
    places = {name: hashlib.sha256(f"{seed}\x00{task}\x00{name}".encode()).digest() for name in sources}
    return [tuple(sources[name]) for name in sorted(sources, key=places.__getitem__)]


class Watch:
    """Looks at one metric of one arm's task. `baseline` by item."""

    def __init__(self, watched: Watched, blocks: Sequence[Block], baseline: Mapping[str, Seen]) -> None:
        self.watched, self._blocks, self._baseline = watched, blocks, baseline
        self._widest = max((len(block) for block in blocks), default=1)
        self._scale, self._next = watched.high - watched.low, 0
        self._futility = Futility(watched.margin / self._scale, watched.level)
        self._loss = 0.0
        # Where the baseline was asked something else, or a score is out of its bounds, nothing can be said.
        self.void = False

    def see(self, arm: Mapping[str, Seen]) -> bool:
        """Whether harm beyond the margin is shown by the items that have an answer, which are more at every call."""
        while not self._futility.hopeless and not self.void and self._next < len(self._blocks):
            block = self._blocks[self._next]
            if any(item not in arm for item in block):
                break
            self._next += 1
            losses = [loss for item in block if (loss := self._loss_of(item, arm[item])) is not None]
            if losses and not self.void:
                self._loss += sum(losses)
                self._futility.see_block(-sum(losses) / self._scale, len(losses), widest=self._widest)
        return self._futility.hopeless and not self.void

    def _loss_of(self, item: str, now: Seen) -> float | None:
        before = self._baseline.get(item)
        if before is None or before.score is None or now.score is None:
            return None
        bounds = (self.watched.low, self.watched.high)
        self.void = (
            self.void
            or before.asked != now.asked
            or any(not bounds[0] <= one.score <= bounds[1] for one in (before, now) if one.score is not None)
        )
        return (now.score - before.score) * (1 if self.watched.lower_is_better else -1)

    def stop(self, rule: StopRule, *, items: int, of: int) -> Stop:
        """What was seen, for a watch that has seen enough."""
        return Stop(
            baseline=rule.baseline, baseline_name=rule.name, baseline_records=rule.records, task=self.watched.task, metric=self.watched.metric,
            margin=self.watched.margin, level=self.watched.level, seen=self._futility.seen, loss=round(self._loss / self._futility.seen, 6),
            items=items, of=of,
        )  # fmt: skip


def told(stop: Stop) -> str:
    """The sentence of it."""
    return (
        f"stopped early: after {stop.items} of {stop.of} items the loss of '{stop.metric}' in task '{stop.task}' against {stop.baseline_name} is shown "
        f"to be more than {stop.margin:.4g} ({stop.loss:.4g} over the first {stop.seen} pairs, level {stop.level:.2g}, betting e-process)."
    )


def decided(stop: Stop, *, level: float = LEVEL) -> Decision:
    """NO-GO, from a measurement that was stopped: its answers are not tested again, because the moment of the stop was chosen by them."""
    reason = Reason(code="stopped_early", says=Verdict.NO_GO, task=stop.task, text=told(stop))
    return Decision(verdict=Verdict.NO_GO, reasons=(reason,), tasks=(), level=level, tests=0)
