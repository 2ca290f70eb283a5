"""Jobs as clients see them."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from ringi.jobs.contracts import JobKind, Progress
from ringi.web.schemas import Schema


class JobState(StrEnum):
    """queued -> running -> succeeded | failed | cancelled; back to queued when a lease is lost or a retry is due."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = frozenset({JobState.QUEUED, JobState.RUNNING})


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


class JobOut(Schema):
    """One job. `subject` names what it works for; `produced` is the reference of what it sealed, once it has succeeded."""

    id: UUID
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
    lease_owner: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
