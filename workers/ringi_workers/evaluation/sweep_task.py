"""The sweep job: every arm that nobody has delivered is measured, and kept at once. The work is sweep.py, the taking in measurements/delivery.py.

Whatever ends this process, the next attempt asks the platform which arms are left, and begins with those: at most the one in flight is lost.
"""

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import psutil
import torch
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from ringi.db.session import transaction
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import BaseRef, Progress
from ringi.jobs.contracts.suites import Item, Task
from ringi.jobs.contracts.sweeps import ArmResult, Record, StopRule, SweepArm, SweepPayload, SweepResult
from ringi.measurements import delivery, stops
from ringi.measurements.delivery import MeasurementDelivered
from ringi.measurements.stops import StopNotShown
from ringi.measurements.summaries import RecordsForeign
from ringi.settings import get_settings
from ringi.storage import blobs
from ringi_workers.adapters.attach import base_dtype, load_tokenizer
from ringi_workers.evaluation.engine import answering_facts
from ringi_workers.evaluation.grading.registry import Access, Grading
from ringi_workers.evaluation.harness.loading import Loaded, facts, load
from ringi_workers.evaluation.rendering import settled
from ringi_workers.evaluation.swapping import SwappableBase
from ringi_workers.evaluation.sweep import Measured, NotMeasured, sweep
from ringi_workers.evaluation.turns import ArmTurns, Graded
from ringi_workers.following import JobSink
from ringi_workers.runtime import job
from ringi_workers.workspace import Workspace

log = logging.getLogger("ringi.worker")
Found = TypeVar("Found")
_DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)
# A base stays loaded for the next job where it takes at most this share of what is free.
_KEPT_SHARE = 0.25
_kept: tuple[str, SwappableBase] | None = None


@job(JobKind.SWEEP, finish=delivery.finished, failed=delivery.gave_up)
def measure(payload: SweepPayload, workspace: Workspace, sink: JobSink) -> SweepResult:
    """Measure what is left."""
    begun = time.monotonic()
    kept = _Kept(workspace)
    sink.report(Progress(phase="fetching"))
    folder = workspace.base(payload.base)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    harness = _harness(workspace, payload.tasks, folder)
    runtime = answering_facts(device, base_dtype(folder, device)) | facts(harness.values())
    reused = kept.reuse(runtime)
    arms = {arm.name: arm for arm in payload.arms if arm.measurement_id in kept.left()}
    counts = {"measured": 0, "failed": 0, "stopped": 0}
    dropped = 0
    if arms:
        tasks = [(task, _items(workspace, task)) for task in payload.tasks]
        sink.report(Progress(phase="loading"))
        base = _loaded(payload.base, folder)
        waiting: dict[str, list[Measured]] = {}
        with Grading(Access.of(get_settings()), should_stop=sink.should_stop) as grading:
            graded = Graded(grading, tasks, sink)
            turns = ArmTurns(kept, arms, graded, runtime)
            found = sweep(
                base, _Folders(workspace, arms), tasks, sink=sink, batch_size=payload.batch_size, scorers=graded.later, harness=harness,
                turns=turns,
            )  # fmt: skip
            # Closed whatever happens here: the base may be kept, and an arm that stays open would be ended in the middle of another.
            with contextlib.closing(found):
                for result in found:
                    ended = _take(kept, arms.get(result.arm), graded(result), waiting, tasks, runtime)
                    if ended is not None:
                        counts[ended] += 1
        dropped = turns.dropped
    return SweepResult(**counts, reused=len(reused), cancelled=dropped, seconds=time.monotonic() - begun)


def _take(
    kept: "_Kept",
    arm: SweepArm | None,
    result: Measured | NotMeasured,
    waiting: dict[str, list[Measured]],
    tasks: Sequence[tuple[Task, Sequence[Item]]],
    runtime: Mapping[str, str],
) -> str | None:
    """Keep an arm once its last task is done; returns how it ended, None while it goes on, or ended before."""
    if arm is None or waiting.get(result.arm, []) is _ENDED:
        return None
    if isinstance(result, NotMeasured):
        where = f"task '{result.task}': " if result.task is not None else ""
        kept.refuse(arm.measurement_id, result.code, f"{where}{result.message}")
        waiting[result.arm] = _ENDED
        return "failed"
    done = waiting.setdefault(result.arm, [])
    done.append(result)
    # What was shown with the very last answer saved nothing: that arm was measured.
    stopped = result.enough and sum(len(one.answers) for one in done) < sum(len(items) for _, items in tasks)
    if len(done) < len(tasks) and not stopped:
        return None
    waiting[result.arm] = _ENDED
    try:
        if stopped and arm.stop is not None:
            taken = kept.stop(arm.measurement_id, done, runtime, arm.stop)
        else:
            taken = kept.deliver(arm.measurement_id, done, runtime)
    except (RecordsForeign, StopNotShown) as refusal:
        kept.refuse(arm.measurement_id, refusal.code, refusal.message)
        return "failed"
    if not taken:
        return None
    log.info("%s: %s", arm.name, "stopped early" if stopped else "measured")
    return "stopped" if stopped else "measured"


_ENDED: list[Measured] = []


class _Kept:
    """The platform's side of the job, each call in a short transaction of its own."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._job = workspace, workspace.job

    def left(self) -> set[UUID]:
        """Measurements that nobody has delivered."""
        return _patiently(lambda session: delivery.left(session, self._job.id))

    def reuse(self, runtime: Mapping[str, str]) -> set[UUID]:
        """Take over what was measured before under this runtime."""
        owner, attempt = self._workspace.owner, self._job.attempt
        return _patiently(lambda session: delivery.reuse(session, self._job.id, owner=owner, attempt=attempt, runtime=runtime))

    def begin(self, measurement_id: UUID) -> bool:
        """An arm's turn; False where it is not wanted any more. Raises LeaseLost."""
        owner, attempt = self._workspace.owner, self._job.attempt
        return _patiently(
            lambda session: delivery.begin(session, self._job.id, owner=owner, attempt=attempt, measurement_id=measurement_id)
        )

    def answered(self, measurement_id: UUID, items: int) -> bool:
        """How far an arm is; False where it is not wanted any more. What the database misses it hears the next time. Raises LeaseLost."""
        owner, attempt = self._workspace.owner, self._job.attempt
        try:
            with transaction() as session:
                return delivery.answered(
                    session, self._job.id, owner=owner, attempt=attempt, measurement_id=measurement_id, items=items
                )  # fmt: skip
        except _DATABASE_AWAY:
            return True

    def deliver(self, measurement_id: UUID, done: list[Measured], runtime: Mapping[str, str]) -> bool:
        """Keep an arm; False where it was kept or cancelled already. Raises LeaseLost, RecordsForeign."""
        result, owner, attempt = self._result(measurement_id, done, runtime), self._workspace.owner, self._job.attempt
        return _once(lambda session: delivery.deliver(session, self._job.id, owner=owner, attempt=attempt, result=result))

    def stop(self, measurement_id: UUID, done: list[Measured], runtime: Mapping[str, str], rule: StopRule) -> bool:
        """Keep what there is of an arm that was not asked the rest. Raises LeaseLost, RecordsForeign, StopNotShown."""
        result, owner, attempt = self._result(measurement_id, done, runtime), self._workspace.owner, self._job.attempt
        return _once(lambda session: stops.stop(session, self._job.id, owner=owner, attempt=attempt, result=result, rule=rule))

    def _result(self, measurement_id: UUID, done: list[Measured], runtime: Mapping[str, str]) -> ArmResult:
        lines = (
            Record(task=one.task, **answer.model_dump()).model_dump_json(exclude_defaults=True).encode() + b"\n"
            for one in done
            for answer in one.answers
        )
        operations = {one.task: one.operations.model_dump(mode="json") for one in done}
        records = self._workspace.upload_bytes(lines, name="records.jsonl")
        return ArmResult(measurement_id=measurement_id, records=records, operations=operations, runtime=runtime)

    def refuse(self, measurement_id: UUID, code: str, message: str) -> None:
        """Say why there is none. Raises LeaseLost."""
        owner, attempt = self._workspace.owner, self._job.attempt
        _once(
            lambda session: delivery.refuse(
                session, self._job.id, owner=owner, attempt=attempt, measurement_id=measurement_id, code=code, message=message
            )
        )


def _once(work: Callable[[Session], object]) -> bool:
    try:
        _patiently(work)
    except MeasurementDelivered as known:
        # It was cancelled at this moment, or the answer to the first try was lost with the connection: it was kept.
        log.warning("%s", known)
        return False
    return True


def _patiently(work: Callable[[Session], Found]) -> Found:
    """Run `work` in a transaction, again while the database is away: an arm that was measured is worth more than a moment."""
    deadline = time.monotonic() + 10 * get_settings().lease_s
    while True:
        try:
            with transaction() as session:
                return work(session)
        except _DATABASE_AWAY:
            if time.monotonic() > deadline:
                raise
        threading.Event().wait(get_settings().heartbeat_s)


class _Folders(Mapping[str, Path | None]):
    """An arm's PEFT folder, fetched when its turn comes; the one before it is removed. Hundreds of adapters need the disk of one."""

    def __init__(self, workspace: Workspace, arms: Mapping[str, SweepArm]) -> None:
        self._workspace, self._arms = workspace, arms

    def __getitem__(self, name: str) -> Path | None:
        shutil.rmtree(self._workspace.root / "arm", ignore_errors=True)
        adapter = self._arms[name].adapter
        return self._workspace.fetch_tree(adapter.files, name="arm") if adapter is not None else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._arms)

    def __len__(self) -> int:
        return len(self._arms)


def _harness(workspace: Workspace, tasks: Sequence[Task], folder: Path) -> dict[str, Loaded]:
    """Tasks of lm-evaluation-harness, built before the base is loaded: what is taken over depends on them."""
    wanted = [task for task in tasks if task.harness is not None]
    if not wanted:
        return {}
    tokenizer, downloads = load_tokenizer(folder), get_settings().harness_downloads
    return {task.name: load(settled(tokenizer, task), _items(workspace, task), downloads=downloads) for task in wanted}


def _items(workspace: Workspace, task: Task) -> list[Item]:
    return [Item.model_validate_json(line) for line in blobs.lines(workspace.store.open(task.items))]


def _loaded(base: BaseRef, folder: Path) -> SwappableBase:
    """The base of the last sweep when it is this one: many small jobs load it once."""
    global _kept  # noqa: PLW0603  # of this process
    if _kept is not None and _kept[0] == base.digest:
        return _kept[1]
    _kept = None
    loaded = SwappableBase(folder)
    size = sum(file.size for file in base.files)
    if size <= _KEPT_SHARE * _free(loaded.device):
        _kept = (base.digest, loaded)
    return loaded


def _free(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else int(psutil.virtual_memory().available)
