"""A sweep: many adapters of one base answer the tasks of a suite. The base is loaded once, every item tokenised once, adapters swapped.

    base = SwappableBase(folder)
    for result in sweep(base, {"base": None, "risk": Path("risk-v3")}, [(task, items)], sink=sink):
        keep(result)

A result is one arm's answers to one task, whole, or the reason why there are none. What was kept is named in `done` when a sweep goes on.
"""

import time
from collections.abc import Collection, Generator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.suites import Answer, Item, Operations, Task
from ringi.kit.errors import RingiError
from ringi_workers.evaluation.ask import Look, ask
from ringi_workers.evaluation.engine import answering_facts
from ringi_workers.evaluation.fitting import DeviceFull
from ringi_workers.evaluation.harness.answering import answer
from ringi_workers.evaluation.harness.loading import Loaded, load
from ringi_workers.evaluation.harness.refusals import HarnessFailed
from ringi_workers.evaluation.rendering import Prepared, prepare, settled
from ringi_workers.evaluation.scoring import Scorer, Scorers, resolved
from ringi_workers.evaluation.swapping import SwappableBase
from ringi_workers.failures import ran_out_of_memory


class Sink(Protocol):
    """Where progress goes, and whether the sweep was asked to stop."""

    def report(self, progress: Progress) -> None:
        """Take the newest progress."""

    def should_stop(self) -> bool:
        """Whether the work should end at the next opportunity."""


class Turns(Protocol):
    """Follows the arms: which is begun, how far it is, and whether it is still wanted."""

    def begins(self, arm: str) -> bool:
        """An arm's turn; False where it is not to be measured."""

    def answered(self, items: int) -> bool:
        """So many more items of that arm have an answer; False where it is not to be measured any more."""

    def look(self, task: Task, items: Sequence[Item]) -> Look | None:
        """What may end that arm early, looking at this task."""


class AllTurns:
    """Every arm, whole."""

    def begins(self, arm: str) -> bool:  # noqa: ARG002  # of the protocol
        """Always."""
        return True

    def answered(self, items: int) -> bool:  # noqa: ARG002  # of the protocol
        """Always."""
        return True

    def look(self, task: Task, items: Sequence[Item]) -> Look | None:  # noqa: ARG002  # of the protocol
        """Nothing."""
        return None


class ArmDropped(RingiError):
    """The arm in flight is not wanted any more."""

    code: ClassVar[str] = "evaluation_arm_dropped"
    status: ClassVar[int] = 409


class SweepStopped(RingiError):
    """The sweep was asked to stop; what it gave before stands, and the rest was not measured."""

    code: ClassVar[str] = "evaluation_sweep_stopped"
    status: ClassVar[int] = 409


class Measured(NamedTuple):
    """All answers of one arm to one task, in the order of its items. With `enough` it is perhaps not all, and the arm is not asked the tasks behind it."""

    arm: str
    task: str
    answers: tuple[Answer, ...]
    operations: Operations
    runtime: dict[str, str]
    enough: bool = False


class NotMeasured(NamedTuple):
    """An arm that has no answers, to one task (and is not asked those behind it) or (`task` is None) to any, and the stable code that says why."""

    arm: str
    task: str | None
    code: str
    message: str


def sweep(
    base: SwappableBase,
    arms: Mapping[str, Path | None],
    tasks: Sequence[tuple[Task, Sequence[Item]]],
    *,
    sink: Sink,
    batch_size: int = 16,
    scorers: Scorers | None = None,
    harness: Mapping[str, Loaded] | None = None,
    done: Collection[tuple[str, str]] = (),
    turns: Turns | None = None,
) -> Generator[Measured | NotMeasured, None, None]:
    """Results arm by arm, and task by task within an arm. An arm is a PEFT folder, or None for the bare base.

    `done` are pairs (arm, task) that are not to be measured again. `harness` are tasks of lm-evaluation-harness that were loaded already. Answers are the
    same for any `batch_size`, up to rounding; it is halved where the memory does not take it. Raises UnknownScorer before anything is
    measured, and SweepStopped between two batches.
    """
    by_task = {task.name: resolved(task.scorers, scorers) for task, _ in tasks if task.harness is None}
    loaded = {
        task.name: (harness or {}).get(task.name) or load(settled(base.tokenizer, task), items)
        for task, items in tasks
        if task.harness is not None
    }
    prepared = [
        loaded[task.name].prepared() if task.name in loaded else prepare(base.tokenizer, task, items, context=base.context)
        for task, items in tasks
    ]
    left = {arm: [one for one in prepared if (arm, one.task.name) not in done] for arm in arms}
    sizes: dict[str, int] = {}
    progress = _Estimate(sink, [one for some in left.values() for one in some], turns or AllTurns())
    for arm in arms:
        # What was measured before is not held beside what is read now.
        model: object = None
        # A folder is fetched when its arm's turn comes, and not for one that is not wanted.
        if not left[arm] or not progress.turn(arm, left[arm]):
            continue
        try:
            with base.arm(arms[arm]) as model:
                for one in left[arm]:
                    how = loaded.get(one.task.name) or by_task[one.task.name]
                    result = _measured(arm, base, model, one, how, sizes.get(one.task.name, batch_size), progress)
                    if isinstance(result, Measured):
                        # What did not fit for one arm is not tried again for the next.
                        sizes[one.task.name] = result.operations.batch_size or batch_size
                    yield result
                    if isinstance(result, NotMeasured) or result.enough:
                        break
        except SweepStopped:
            raise
        except ArmDropped:
            pass
        except RingiError as refusal:
            if sink.should_stop():
                raise
            yield NotMeasured(arm, None, refusal.code, str(refusal))
        progress.skip_rest()


def _measured(
    arm: str,
    base: SwappableBase,
    model: object,
    one: Prepared,
    how: Loaded | Mapping[str, Scorer],
    batch_size: int,
    progress: "_Estimate",
) -> Measured | NotMeasured:
    progress.phase(f"{arm}: {one.task.name}")
    # A task of lm-evaluation-harness is asked by the library, whole.
    look = None if isinstance(how, Loaded) else progress.turns.look(one.task, [rendered.item for rendered in one.items])
    try:
        if isinstance(how, Loaded):
            found = answer(
                model, base.tokenizer, how, reach=base.reach, stop_tokens=base.stop_tokens, context=base.context, batch_size=batch_size,
                on_batch=progress.advance,
            )  # fmt: skip
        else:
            found = ask(
                model, base.tokenizer, one, reach=base.reach, stop_tokens=base.stop_tokens, batch_size=batch_size, scorers=how,
                on_batch=progress.advance, look=look,
            )  # fmt: skip
    except (DeviceFull, HarnessFailed) as refusal:
        return NotMeasured(arm, one.task.name, refusal.code, str(refusal))
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        # Before the first batch: what all prompts begin with.
        beginning = DeviceFull("The beginning of the prompts")
        return NotMeasured(arm, one.task.name, beginning.code, str(beginning))
    way = "+".join(found.operations.scoring) or found.operations.generation or "none"
    facts = answering_facts(base.device, base.dtype) | {"answering": way}
    return Measured(arm, one.task.name, found.answers, found.operations, facts, enough=found.enough)


class _Estimate:
    """Counts items; the time that is left follows the work, because a generated answer costs more than a read one."""

    def __init__(self, sink: Sink, left: Sequence[Prepared], turns: Turns) -> None:
        self.sink, self.turns = sink, turns
        self.total, self.work = sum(len(one.items) for one in left), sum(one.work for one in left)
        # Where the arm in flight will end.
        self.ends, self.worked_then = 0, 0
        self.done, self.worked = 0, 0
        self.named = ""
        self.begun = time.monotonic()

    def turn(self, arm: str, tasks: Sequence[Prepared]) -> bool:
        """An arm's turn: whether it is to be measured."""
        self.ends = self.done + sum(len(one.items) for one in tasks)
        self.worked_then = self.worked + sum(one.work for one in tasks)
        if self.turns.begins(arm):
            return True
        self.skip_rest()
        return False

    def phase(self, name: str) -> None:
        """What is measured from now on."""
        self.named = name
        self.advance(0, 0)

    def advance(self, items: int, work: int) -> None:
        """Count a batch and tell the sink. Raises SweepStopped where that was asked for, and ArmDropped."""
        self.done, self.worked = self.done + items, self.worked + work
        if self.sink.should_stop():
            raise SweepStopped(
                f"The sweep was stopped after {self.done} of {self.total} answers.",
                next_step="Start it again to have the rest measured.",
            )
        seconds = time.monotonic() - self.begun
        eta = seconds / self.worked * max(0, self.work - self.worked) if self.worked else None
        self.sink.report(Progress(phase=self.named, step=self.done, total=self.total, eta_s=eta))
        if items and not self.turns.answered(items):
            raise ArmDropped(f"{self.named} is not wanted any more.", next_step="Drop it.")

    def skip_rest(self) -> None:
        """What will not be measured of the arm in flight is no work that is left."""
        self.total -= max(0, self.ends - self.done)
        self.work -= max(0, self.worked_then - self.worked)
        self.ends, self.worked_then = self.done, self.worked
