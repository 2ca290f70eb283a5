"""Measure many adapters of one base with one suite: the base is loaded once, and every adapter is reported as soon as it is done."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import FiniteFloat

from ringi.jobs.contracts.parts import AdapterRef, BaseRef, Contract, FileRef, Part
from ringi.jobs.contracts.suites import Answer, Task, Word
from ringi.kit.digests import Digest


class Watched(Part):
    """A metric of a task whose loss is looked at while items are asked. Its scores lie from `low` to `high`; `level` is the test's own."""

    task: Word
    metric: Word
    margin: FiniteFloat
    lower_is_better: bool
    low: FiniteFloat
    high: FiniteFloat
    level: FiniteFloat


class StopRule(Part):
    """When an arm is not asked the rest: harm beyond a margin is shown against the records of `baseline` (a measurement).

    `seed` draws the order in which items are asked. The rule holds under the baseline's own `runtime` only.
    """

    baseline: UUID
    name: str
    records: Digest
    runtime: Digest
    seed: str
    watched: tuple[Watched, ...]


class Stop(Part):
    """Why an arm was not asked the rest: after `items` of `of` answers the loss of `metric` was shown to be beyond `margin`.

    `seen` are the pairs of the task that showed it, in the drawn order, and `loss` is the mean over them: it is no estimate of the whole loss, because
    the moment was chosen by it.
    """

    baseline: UUID
    baseline_name: str
    baseline_records: Digest
    task: Word
    metric: Word
    margin: FiniteFloat
    level: FiniteFloat
    seen: int
    loss: FiniteFloat
    items: int
    of: int


class SweepArm(Part):
    """One thing to measure: the base with an adapter, or alone."""

    measurement_id: UUID
    name: str
    adapter: AdapterRef | None
    stop: StopRule | None = None


class SweepPayload(Contract):
    """Answer `tasks` with every arm. Which arms are left is asked of the platform: a later attempt finds fewer."""

    suite: str
    suite_digest: Digest
    tasks: tuple[Task, ...]
    base: BaseRef
    arms: tuple[SweepArm, ...]
    batch_size: int


class Record(Answer):
    """One line of a measurement's records: the answer to one item of a task."""

    task: Word


class ArmResult(Part):
    """An arm with all its answers: `records` are JSON lines of `Record`, `operations` figures of each task."""

    measurement_id: UUID
    records: FileRef
    operations: Mapping[str, Mapping[str, Any]]
    runtime: Mapping[str, str]


class SweepResult(Contract):
    """How many arms ended in which way, over all attempts."""

    measured: int
    reused: int
    failed: int
    stopped: int = 0
    cancelled: int = 0
    seconds: FiniteFloat
