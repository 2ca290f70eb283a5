"""The jobs table is the truth; what travels over the broker is only a nudge to look here."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Integer, String, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.db.base import Base, OwnedByOrganization, Versioned, search_column
from ringi.identity.models import Project
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.schemas import EntryKind, JobState

STILL_OPEN = text("state IN ('queued', 'running')")


class Job(Versioned, OwnedByOrganization, Base):
    """A piece of work. `exclusive_key` lets at most one open job exist for a thing; `checkpoint` is where a next attempt goes on."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("uq_jobs_exclusive_key_open", "exclusive_key", unique=True, postgresql_where=STILL_OPEN),
        Index("ix_jobs_queued", "queue", "priority", "id", postgresql_where=text("state = 'queued'")),
        Index("ix_jobs_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        Index("ix_jobs_snapshot", "finished_at", postgresql_where=text("checkpoint IS NOT NULL AND finished_at IS NOT NULL")),
        Index("ix_jobs_lease", "lease_until", postgresql_where=text("state = 'running'")),
        # The few that failed, or still run, among many that are done; the newest first.
        Index("ix_jobs_organization_id_state", "organization_id", "state", "id"),
        # Counted at every scrape of /metrics: from the index alone, without the rows and their payloads.
        Index("ix_jobs_kind_state", "kind", "state"),
    )

    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("projects.id"), index=True)
    kind: Mapped[JobKind] = mapped_column(String(32))
    queue: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(256))
    exclusive_key: Mapped[str | None] = mapped_column(String(128))
    state: Mapped[JobState] = mapped_column(String(16), default=JobState.QUEUED)
    # Higher first (placement.py).
    priority: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    # fleet.matching.Requirements, without what is not required.
    requirements: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'::jsonb"))
    # How often each worker, by name, was lost with this job.
    losses: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'::jsonb"))
    payload: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None]
    # The reference of what the finished job sealed, e.g. "support/chat:v2".
    produced: Mapped[str | None] = mapped_column(String(256))
    search: Mapped[str] = search_column("subject", "produced")
    progress: Mapped[dict[str, Any] | None]
    checkpoint: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=5)
    not_before: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    nudged_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    # pausing.py. `paused_s`: how long it has rested before it went on.
    pause_requested_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    paused_s: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))
    # What it will seal, as far as that is known when it is asked for; counts as stored while the job is open.
    reserved_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_by: Mapped[UUID]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # The trace and the request that every attempt goes back to (observe/tracing.py).
    traceparent: Mapped[str | None] = mapped_column(String(55))
    request_id: Mapped[str | None] = mapped_column(String(64))

    project: Mapped[Project | None] = relationship(lazy="raise")


class JobLogEntry(OwnedByOrganization, Base):
    """One entry of a job's log (log.py): a change of its state, its newest progress, or a line. `position` is null until the commit."""

    __tablename__ = "job_log"
    __table_args__ = (
        Index("uq_job_log_progress", "job_id", unique=True, postgresql_where=text("kind = 'progress'")),
        Index("uq_job_log_line", "job_id", "attempt", "line", unique=True, postgresql_where=text("line IS NOT NULL")),
        Index("ix_job_log_job_id_position", "job_id", "position"),
        Index("ix_job_log_project_id_position", "project_id", "position"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    position: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"))
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("projects.id"))
    attempt: Mapped[int]
    kind: Mapped[EntryKind] = mapped_column(String(16))
    # Of a line: Python's number of its level, its number within the attempt, and its text.
    level: Mapped[int | None] = mapped_column(Integer)
    line: Mapped[int | None] = mapped_column(Integer)
    message: Mapped[str | None]
    # Of a change: the job as it is then. Of progress: contracts.Progress.
    data: Mapped[dict[str, Any] | None]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
