"""A run in as many processes as its worker has devices. The job's process starts them with torchrun's own launcher, answers the first of them,
and ends them all with the run, however it ends. After rank.py, before task.py.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, PContext, start_processes

from ringi.kit.errors import RingiError
from ringi_workers.failures import OutOfMemory, ran_out_of_memory
from ringi_workers.training import rank
from ringi_workers.training.checkpoint import CheckpointStore
from ringi_workers.training.loop import ProgressSink
from ringi_workers.training.rank import Place
from ringi_workers.training.ranks import ALONE
from ringi_workers.training.recipe import TrainedAdapter

Work = Callable[..., TrainedAdapter]
# Between two looks at whether all processes are there.
_LOOK_S = 0.2
# A process that hangs in a kernel does not hear SIGTERM.
_END_S = 5
# What torch's launcher puts handlers of its own on, in the process that starts others.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class TrainingProcessLost(RingiError):
    """One of the run's processes ended on its own; the others were ended with it."""

    code, status, retryable = "training_process_lost", 500, True

    def __init__(self, place: int, size: int, message: str) -> None:
        super().__init__(
            f"Process {place + 1} of {size} of the run ended: {message}"[:2000] + ".",
            next_step="The run is tried again from its last snapshot; if it keeps failing, read the worker's log.",
            details={"process": place + 1, "processes": size},
        )


def processes_for(asked: int | None, *, batch_size: int) -> int:
    """How many processes a run has: as many as the worker's setting says, else one a CUDA device; never more than devices, or than a step has rows."""
    devices = torch.cuda.device_count()
    wanted = asked or max(1, devices)
    return min(wanted, batch_size, devices or wanted)


def in_processes(work: Work, processes: int, *, sink: ProgressSink, checkpoints: CheckpointStore | None) -> TrainedAdapter:
    """`work(sink=…, checkpoints=…, ranks=…)` in so many processes; with one, in this.

    `work` is picklable; sink and store are asked in this process and thread only. Raises what the run raises, what sink or store raise, OutOfMemory, and TrainingProcessLost.
    """
    if processes == 1:
        return work(sink=sink, checkpoints=checkpoints, ranks=ALONE)
    given = pickle.dumps(work), None if checkpoints is None else checkpoints.latest(), checkpoints is not None
    threads = max(1, torch.get_num_threads() // processes)
    # What this process keeps for its next work, the first of the run could not have.
    torch.cuda.empty_cache()
    # The other end of `alive` stays here alone, so it closes when this process ends, however it ends.
    (alive, kept), (line, theirs) = multiprocessing.Pipe(duplex=False), multiprocessing.Pipe()
    with alive, kept, line, theirs, tempfile.TemporaryDirectory(prefix="ringi-ranks-") as folder:
        places = [Place(number, processes, Path(folder) / "meeting", threads) for number in range(processes)]
        with _started({place.rank: (place, *given, theirs, alive) for place in places}, Path(folder)) as running:
            return _answered(line, running, sink, checkpoints)


@contextmanager
def _started(given: dict[int, tuple[Any, ...]], folder: Path) -> Iterator[PContext]:
    """The processes, ended at the latest when the block is left."""
    before = {one: signal.getsignal(one) for one in _SIGNALS} if threading.current_thread() is threading.main_thread() else {}
    logs = DefaultLogsSpecs(log_dir=str(folder))
    environment = {place: _environment(place) for place in given}
    running = None
    try:
        running = start_processes("training", rank.begin, given, environment, logs)
        # A worker that is asked to end finishes its job first; torch's handlers would raise in the midst of it.
        for one, handler in before.items():
            signal.signal(one, handler)
        yield running
    finally:
        if running is not None:
            running.close(timeout=_END_S)


def _environment(place: int) -> dict[str, str]:
    """One device each. They meet on this machine alone."""
    if torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
        return {"CUDA_VISIBLE_DEVICES": devices[place]}
    return {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}


def _answered(line: Connection, running: PContext, sink: ProgressSink, checkpoints: CheckpointStore | None) -> TrainedAdapter:
    """Answer the first process until its last word."""
    while True:
        if not line.poll(_LOOK_S):
            _require_all(running)
            continue
        name, given = line.recv()
        match name:
            case "end":
                (outcome,) = given
                running.wait(_END_S, period=_LOOK_S / 4)
                if isinstance(outcome, RingiError):
                    raise outcome
                ended: TrainedAdapter = outcome
                return ended
            case "save" if checkpoints is not None:
                checkpoints.save(*given)
                line.send(None)
            case "say":
                logger, level, message = given
                logging.getLogger(logger).log(level, "%s", message)
                line.send(None)
            case _:
                line.send(getattr(sink, name)(*given))


def _require_all(running: PContext) -> None:
    """Raises OutOfMemory or TrainingProcessLost where a process has ended."""
    result = running.wait(0)
    if result is None or not result.failures:
        return
    place, failure = min(result.failures.items())
    # Of an exception torch's launcher keeps a record, of a signal a sentence.
    said: Any = failure.message
    message = str(said["message"] if isinstance(said, dict) else said).strip().rstrip(".")
    if "OutOfMemoryError" in message or ran_out_of_memory(Exception(message)):
        raise OutOfMemory(
            f"The device of process {place + 1} ran out of memory: {message}", next_step="Use a smaller batch or a larger device."
        )
    raise TrainingProcessLost(place, running.nprocs, message)
