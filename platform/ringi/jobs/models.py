"""The jobs table is the truth; what travels over the broker is only a nudge to look here."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.db.base import Base, Identified, OwnedByOrganization
from ringi.identity.models import Project
from ringi.jobs.contracts import JobKind
from ringi.jobs.schemas import JobState

_OPEN = text("state IN ('queued', 'running')")


class Job(Identified, OwnedByOrganization, Base):
    """A piece of work. `exclusive_key` lets at most one open job exist for a thing; `checkpoint` is where a next attempt goes on."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("uq_jobs_exclusive_key_open", "exclusive_key", unique=True, postgresql_where=_OPEN),
        Index("ix_jobs_lease", "lease_until", postgresql_where=text("state = 'running'")),
        # Counted at every scrape of /metrics: from the index alone, without the rows and their payloads.
        Index("ix_jobs_kind_state", "kind", "state"),
    )

    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("projects.id"), index=True)
    kind: Mapped[JobKind] = mapped_column(String(32))
    queue: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(256))
    exclusive_key: Mapped[str | None] = mapped_column(String(128))
    state: Mapped[JobState] = mapped_column(String(16), default=JobState.QUEUED)
    payload: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any] | None]
    # The reference of what the finished job sealed, e.g. "support/chat:v2".
    produced: Mapped[str | None] = mapped_column(String(256))
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
    created_by: Mapped[UUID]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    # The trace and the request that every attempt goes back to (observe/tracing.py).
    traceparent: Mapped[str | None] = mapped_column(String(55))
    request_id: Mapped[str | None] = mapped_column(String(64))

    project: Mapped[Project | None] = relationship(lazy="raise")
