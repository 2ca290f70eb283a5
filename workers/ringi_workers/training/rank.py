"""One process of a run that has several: it joins the others, does the run, and the first of them speaks with the job's process.

Loads neither transformers nor peft before it sees the one device that it was given. The other end of the line is launch.py.
"""

import logging
import os
import pickle
import threading
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from ringi.kit.errors import RingiError
from ringi_workers.training.ranks import Ranks

# Between processes of one machine; a process that ends is noticed at once, so this is for one that hangs. The others wait as long while the first one's
# snapshot is uploaded, which of a whole model may be a hundred gigabytes.
_HANGS = timedelta(hours=12)


class Place(NamedTuple):
    """Where a process stands: `meeting` is a file that the processes find each other by, `threads` what it may have of a CPU."""

    rank: int
    size: int
    meeting: Path
    threads: int


class Line:
    """Calls, one at a time, to the job's process, which answers them in its own: what raises there ends the run."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._busy = connection, threading.Lock()

    def ask(self, name: str, *given: Any) -> Any:
        """What the job's process answers."""
        with self._busy:
            self._connection.send((name, given))
            return self._connection.recv()

    def end(self, outcome: Any) -> None:
        """The last word."""
        with self._busy:
            self._connection.send(("end", (outcome,)))


class FarSink:
    """The job's sink, where it is one; of the other processes nobody hears."""

    def __init__(self, line: Line | None) -> None:
        self._line = line

    def report(self, progress: Any) -> None:
        """Take the live state."""
        self._told("report", progress)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Take the figures of one step."""
        self._told("log", metrics, step)

    def should_stop(self) -> bool:
        """Whether somebody asked the run to stop."""
        return bool(self._told("should_stop"))

    def should_pause(self) -> bool:
        """Whether somebody asked the run to rest."""
        return bool(self._told("should_pause"))

    def _told(self, name: str, *given: Any) -> Any:
        return self._line.ask(name, *given) if self._line is not None else None


class FarCheckpoints:
    """The job's checkpoint store. What was the latest when the run began is in a folder that all processes read."""

    def __init__(self, line: Line | None, latest: Path | None) -> None:
        self._line, self._latest = line, latest

    def latest(self) -> Path | None:
        """The newest whole checkpoint, or None."""
        return self._latest

    def save(self, directory: Path, step: int) -> None:
        """Keep the folder's files; the folder may go after the call."""
        if self._line is not None:
            self._line.ask("save", directory, step)


class _FarLog(logging.Handler):
    """The log of the run, which belongs to the log of the job."""

    def __init__(self, line: Line) -> None:
        super().__init__(logging.INFO)
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        self._line.ask("say", record.name, record.levelno, record.getMessage())


def begin(place: Place, work: bytes, latest: Path | None, keeps: bool, line: Connection, alive: Connection) -> None:
    """Do `work`, a pickled callable that takes `sink`, `checkpoints` and `ranks`, as the process at `place`.

    `latest`: the checkpoint to go on from; `keeps`: whether there is a store for more. `alive` ends with the process that started this one.
    """
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    mine = Line(line) if place.rank == 0 else None
    if mine is not None:
        logging.getLogger("ringi").setLevel(logging.INFO)
        logging.getLogger("ringi").addHandler(_FarLog(mine))
    torch.set_num_threads(place.threads)
    cuda = torch.cuda.is_available()
    # No quoting: torch takes what stands behind `file://` as it is.
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", init_method=f"file://{place.meeting}", rank=place.rank, world_size=place.size, timeout=_HANGS
    )  # fmt: skip
    outcome: Any
    try:
        # Our own parent's. Only now, where this process sees its device alone: to load the work may ask what devices there are.
        do: Callable[..., Any] = pickle.loads(work)  # noqa: S301  # what the job's own process sent
        checkpoints = FarCheckpoints(mine, latest) if keeps else None
        outcome = do(sink=FarSink(mine), checkpoints=checkpoints, ranks=Ranks(place.rank, place.size))
    except RingiError as refusal:
        # All have it, or the first one alone, which is heard.
        outcome = refusal
    if mine is not None:
        mine.end(outcome)
    dist.destroy_process_group()


def _end_with(alive: Connection) -> None:
    """Wait for the end of the process that started this one, which may be kill -9, and end with it, also from within a kernel."""
    try:
        alive.recv()
    except (EOFError, OSError):
        os._exit(1)
