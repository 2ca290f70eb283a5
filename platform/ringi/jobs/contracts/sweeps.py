"""Measure many adapters of one base with one suite: the base is loaded once, and every adapter is reported as soon as it is done."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import FiniteFloat

from ringi.jobs.contracts.parts import AdapterRef, BaseRef, Contract, FileRef, Part
from ringi.jobs.contracts.suites import Answer, Task, Word
from ringi.kit.digests import Digest


class SweepArm(Part):
    """One thing to measure: the base with an adapter, or alone."""

    measurement_id: UUID
    name: str
    adapter: AdapterRef | None


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
    seconds: FiniteFloat
