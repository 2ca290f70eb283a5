"""Jobs as clients see them."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from ringi.fleet.matching import GIB, Requirements, WaitingFor
from ringi.fleet.schemas import Device
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import Progress
from ringi.tags.schemas import Tagged
from ringi.web.schemas import Integer, Schema


class JobState(StrEnum):
    """queued -> running -> succeeded | failed | cancelled; back to queued when a lease is lost or a retry is due.

    A training run can rest: queued | running -> paused -> queued | cancelled.
    """

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = frozenset({JobState.QUEUED, JobState.RUNNING})
# Also what rests: it can still go on, or be cancelled.
NOT_OVER = OPEN | {JobState.PAUSED}


class Stop(StrEnum):
    """What was asked of a running job: to end, or to rest."""

    CANCEL = "cancel"
    PAUSE = "pause"


class EntryKind(StrEnum):
    """What an entry of a job's log tells."""

    STATE = "state"
    PROGRESS = "progress"
    LOG = "log"


class Level(StrEnum):
    """How grave a line is: the levels of Python's logging."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class LogLine(Schema):
    """One line of a job's log. `id` is its place in the order of all commits, so it goes with `after`; `at` is the database's time."""

    id: int
    attempt: int
    at: datetime
    level: Level
    message: str


class JobError(Schema):
    """Why the last attempt ended without a result."""

    code: str
    message: str
    next_step: str
    details: dict[str, Any]


class Placement(Schema):
    """What a user asks for beside what the job needs by itself. Only a lower place in the queue: a higher one is somebody else's to give."""

    device: Device | None = None
    memory_bytes: int | None = Field(default=None, ge=1, le=2**50)
    priority: int = Field(default=0, ge=-100, le=0)


def placement_of(device: Device | None, memory_gib: float | None, priority: int) -> Placement | None:
    """What was asked for; None where nothing was."""
    if device is None and memory_gib is None and priority == 0:
        return None
    return Placement(device=device, memory_bytes=int(memory_gib * GIB) if memory_gib else None, priority=priority)


class SetPriority(Schema):
    """A job's place in its queue: jobs of a higher priority are taken first, whatever project they are of."""

    priority: Integer = Field(ge=-100, le=100)


class NeedOut(Schema):
    """Open jobs that need the same. `ready`: queued, and due now."""

    requirements: Requirements
    queued: int
    ready: int
    running: int


class DemandOut(Schema):
    """What there is to do on a queue. `wanted` is how many workers would be busy now: the signal for an autoscaler."""

    queue: str
    wanted: int
    ready: int
    queued: int
    running: int
    active_workers: int
    oldest_queued_s: float
    needs: list[NeedOut]


class JobOut(Tagged):
    """One job. `subject` names what it works for; `produced` is the reference of what it sealed, once it has succeeded.

    `waiting_for` says what a queued job waits for; it is null for one that waits for its turn only.
    """

    kind: JobKind
    state: JobState
    subject: str
    produced: str | None
    project: str | None
    attempt: int
    max_attempts: int
    progress: Progress | None
    error: JobError | None
    cancel_requested: bool
    priority: int
    requirements: Requirements
    waiting_for: WaitingFor | None
    lease_owner: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    row_version: int
