"""Jobs as clients see them."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from ringi.jobs.contracts import JobKind, Progress
from ringi.tags.schemas import Tagged
from ringi.web.schemas import Schema


class JobState(StrEnum):
    """queued -> running -> succeeded | failed | cancelled; back to queued when a lease is lost or a retry is due."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = frozenset({JobState.QUEUED, JobState.RUNNING})


class JobError(Schema):
    """Why the last attempt ended without a result."""

    code: str
    message: str
    next_step: str
    details: dict[str, Any]


class JobOut(Tagged):
    """One job. `subject` names what it works for; `produced` is the reference of what it sealed, once it has succeeded."""

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
    row_version: int
