"""Watches, and every look that one took."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.adapters.models import Adapter, AdapterVersion
from ringi.db.base import Base, Identified, OwnedByProject, Versioned
from ringi.identity.models import Project
from ringi.jobs.models import Job
from ringi.measurements.models import Measurement
from ringi.suites.models import SuiteVersion
from ringi.watches.schemas import LookState


class Watch(Versioned, OwnedByProject, Base):
    """What is looked at, when, and what is compared. `due_at` moves with every look and is not counted as a change of the row (migration 0027)."""

    __tablename__ = "watches"
    __table_args__ = (
        Index("uq_watches_project_id_name", "project_id", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
        Index("ix_watches_due_at", "due_at", postgresql_where=text("deleted_at IS NULL AND paused_at IS NULL")),
    )

    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(default="")
    channels: Mapped[list[Any]]
    adapter_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapters.id"))
    suite: Mapped[str] = mapped_column(String(160))
    schedule: Mapped[str] = mapped_column(String(128))
    timezone: Mapped[str] = mapped_column(String(64))
    baseline: Mapped[str] = mapped_column(String(160))
    drift: Mapped[dict[str, Any]]
    within_s: Mapped[int]
    placement: Mapped[dict[str, Any] | None]
    due_at: Mapped[datetime]
    created_by: Mapped[UUID]
    paused_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]

    project: Mapped[Project] = relationship(lazy="raise")
    adapter: Mapped[Adapter | None] = relationship(lazy="raise")


class WatchLook(Identified, OwnedByProject, Base):
    """One look at what one channel served for one adapter; a trigger refuses every change once it has ended.

    Without an adapter it is a look at a channel that could not be looked into. `drift` is a `schemas.Drift`.
    """

    __tablename__ = "watch_looks"
    __table_args__ = (
        # Of two who ask for the same time, one is refused, whatever they hold.
        UniqueConstraint("watch_id", "due_at", "channel", "adapter_id", postgresql_nulls_not_distinct=True),
        Index("ix_watch_looks_line", "watch_id", "channel", "adapter_id", "id"),
        Index("ix_watch_looks_pending", "id", postgresql_where=text("state = 'pending'")),
    )

    watch_id: Mapped[UUID] = mapped_column(ForeignKey("watches.id"))
    channel: Mapped[str] = mapped_column(String(64))
    adapter_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapters.id"))
    version_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapter_versions.id"))
    suite_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("suite_versions.id"))
    due_at: Mapped[datetime]
    by_hand: Mapped[bool]
    state: Mapped[LookState] = mapped_column(String(16), default=LookState.PENDING)
    problem: Mapped[dict[str, Any] | None]
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id"))
    measurement_id: Mapped[UUID | None] = mapped_column(ForeignKey("measurements.id"))
    baseline_id: Mapped[UUID | None] = mapped_column(ForeignKey("measurements.id"))
    reference_id: Mapped[UUID | None] = mapped_column(ForeignKey("measurements.id"))
    gate_id: Mapped[UUID | None] = mapped_column(ForeignKey("gate_decisions.id"))
    verdict: Mapped[str | None] = mapped_column(String(16))
    verdict_before: Mapped[str | None] = mapped_column(String(16))
    turned: Mapped[bool] = mapped_column(default=False)
    drifted: Mapped[bool | None]
    drift: Mapped[dict[str, Any] | None]
    completed_at: Mapped[datetime | None]

    watch: Mapped[Watch] = relationship(lazy="raise")
    adapter: Mapped[Adapter | None] = relationship(lazy="raise")
    version: Mapped[AdapterVersion | None] = relationship(lazy="raise")
    suite_version: Mapped[SuiteVersion | None] = relationship(lazy="raise")
    measurement: Mapped[Measurement | None] = relationship(lazy="raise", foreign_keys=[measurement_id])
    job: Mapped[Job | None] = relationship(lazy="raise")
