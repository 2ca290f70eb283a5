"""The arms of a sweep in their turns: told to the platform while they run, dropped when they are cancelled, ended early when harm is shown."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from ringi.gating import stopping
from ringi.gating.stopping import Seen, Watch
from ringi.jobs.contracts.suites import Answer, Item, ScorerSpec, Task
from ringi.jobs.contracts.sweeps import Record, StopRule, SweepArm
from ringi.jobs.service import LeaseLost
from ringi.kit.digests import Digest, sha256_json
from ringi.measurements import records
from ringi.measurements.stops import seen
from ringi_workers.evaluation.ask import Look
from ringi_workers.evaluation.grading.registry import Grading
from ringi_workers.evaluation.scoring import Scorer
from ringi_workers.evaluation.sweep import Measured, NotMeasured, Sink, SweepStopped

log = logging.getLogger("ringi.worker")
# Between two words with the platform about one arm: a short transaction, and as long as a cancelled arm may go on.
_TELL_S = 1.0


class Kept(Protocol):
    """The platform's side of an arm's turn."""

    def begin(self, measurement_id: UUID) -> bool:
        """Whether the arm is still wanted. Raises LeaseLost."""

    def answered(self, measurement_id: UUID, items: int) -> bool:
        """The same, told how many of its items have an answer. Raises LeaseLost."""


class ArmTurns:
    """`sweep.Turns` of one attempt."""

    def __init__(self, kept: Kept, arms: Mapping[str, SweepArm], graded: "Graded", runtime: Mapping[str, str]) -> None:
        self._kept, self._arms, self._graded, self._runtime = kept, arms, graded, sha256_json(dict(runtime))
        self._arm: SweepArm | None = None
        self._items, self._told_at = 0, 0.0
        self._baseline: tuple[Digest, dict[str, list[Record]]] | None = None
        # How many arms were cancelled before or while they were measured.
        self.dropped = 0

    def begins(self, arm: str) -> bool:
        """Raises SweepStopped where the job is not this attempt's any more."""
        self._graded.begins()
        self._arm, self._items, self._told_at = self._arms[arm], 0, time.monotonic()
        try:
            wanted = self._kept.begin(self._arm.measurement_id)
        except LeaseLost as lost:
            raise SweepStopped(lost.message, next_step=lost.next_step) from lost
        return wanted or self._drop()

    def answered(self, items: int) -> bool:
        """Raises SweepStopped where the job is not this attempt's any more."""
        self._items += items
        if self._arm is None or time.monotonic() - self._told_at < _TELL_S:
            return True
        self._told_at = time.monotonic()
        try:
            wanted = self._kept.answered(self._arm.measurement_id, self._items)
        except LeaseLost as lost:
            raise SweepStopped(lost.message, next_step=lost.next_step) from lost
        return wanted or self._drop()

    def _drop(self) -> bool:
        log.info("%s: cancelled, and left out", self._arm.name if self._arm else "")
        self.dropped += 1
        return False

    def look(self, task: Task, items: Sequence[Item]) -> Look | None:
        """None where no rule looks at this task, or the rule's baseline was measured under another runtime."""
        rule = self._arm.stop if self._arm is not None else None
        watched = [one for one in rule.watched if one.task == task.name] if rule is not None else []
        if rule is None or self._arm is None or not watched:
            return None
        if rule.runtime != self._runtime:
            log.warning("%s: is measured whole, because %s was measured under another runtime", self._arm.name, rule.name)
            return None
        blocks = stopping.drawn(rule.seed, task.name, [(item.id, item.source) for item in items])
        before = self._before(rule).get(task.name, [])
        watches = [Watch(one, blocks, seen(before, one.metric)) for one in watched]
        return TaskLook(task, blocks, watches, self._graded)

    def _before(self, rule: StopRule) -> Mapping[str, Sequence[Record]]:
        # Most arms have one baseline; of several no more than one is held.
        if self._baseline is None or self._baseline[0] != rule.records:
            found: dict[str, list[Record]] = {}
            for record in records.read(rule.records):
                found.setdefault(record.task, []).append(record)
            self._baseline = (rule.records, found)
        return self._baseline[1]


class TaskLook:
    """Looks at one task of one arm after each portion."""

    def __init__(self, task: Task, blocks: Sequence[stopping.Block], watches: Sequence[Watch], graded: "Graded") -> None:
        self._task, self._blocks, self._watches, self._graded = task, blocks, watches, graded
        # Of each watch, all that it has seen so far.
        self._seen: list[dict[str, Seen]] = [{} for _ in watches]

    def portions(self, size: int) -> list[list[str]]:
        """Whole blocks, in the drawn order."""
        found: list[list[str]] = [[]]
        for block in self._blocks:
            if len(found[-1]) >= size:
                found.append([])
            found[-1] += block
        return found

    def enough(self, answers: Sequence[Answer]) -> bool:
        """Whether any watch has seen enough."""
        portion = self._graded.some(self._task.name, answers, {one.watched.metric for one in self._watches})
        for watch, found in zip(self._watches, self._seen, strict=True):
            found.update(seen(portion, watch.watched.metric))
        return any(watch.see(found) for watch, found in zip(self._watches, self._seen, strict=True))


class Graded:
    """Scores that answering does not give, for all answers of a task at once: a judge is asked many at a time."""

    def __init__(self, grading: Grading, tasks: Sequence[tuple[Task, Sequence[Item]]], sink: Sink) -> None:
        self._grading, self._sink = grading, sink
        self._tasks = {
            task.name: (task, {item.id: item if item.choices else item.model_copy(update={"choices": task.choices}) for item in items})
            for task, items in tasks
        }

    def begins(self) -> None:
        """Another arm: a scorer that was given up died of another's answers."""
        self._grading.try_again()

    def later(self, spec: ScorerSpec) -> Scorer | None:
        """What stands in for a scorer while answering; None for a name that nobody knows."""
        return _not_yet if self._grading.scorer(spec) is not None else None

    def __call__(self, result: Measured | NotMeasured) -> Measured | NotMeasured:
        """A result with all scores of its task. Raises SweepStopped."""
        if isinstance(result, NotMeasured):
            return result
        task, _ = self._tasks[result.task]
        answers = tuple(self._of(result.task, result.answers, task.scorers))
        if self._sink.should_stop():
            # What a judge was not asked is not measured: nothing of it may be kept.
            raise SweepStopped(
                f"The sweep was stopped while '{task.name}' was graded.", next_step="Start it again to have the rest measured."
            )
        return result._replace(answers=answers)

    def some(self, task: str, answers: Sequence[Answer], metrics: Collection[str]) -> list[Answer]:
        """Answers to some items of a task, with the scores of these metrics."""
        return self._of(task, answers, [spec for spec in self._tasks[task][0].scorers if spec.metric in metrics])

    def _of(self, task: str, answers: Sequence[Answer], specs: Sequence[ScorerSpec]) -> list[Answer]:
        items = self._tasks[task][1]
        return self._grading.graded([items[answer.item] for answer in answers], answers, specs)


def _not_yet(_item: Item, _answer: Answer) -> float | None:
    return None
