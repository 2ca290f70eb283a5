"""Measurements: what one adapter version, or a bare base, answered to a suite. Evidence once complete, never changed afterwards."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.adapters.models import AdapterVersion
from ringi.base_models.models import BaseRevision
from ringi.db.base import Base, Identified, OwnedByProject
from ringi.jobs.models import Job
from ringi.measurements.schemas import MeasurementState
from ringi.suites.models import SuiteVersion


class Measurement(Identified, OwnedByProject, Base):
    """One arm of a sweep, or one that was brought in. A trigger refuses every change of a row that is no longer pending (migration 0024).

    `runtime_digest` is of the runtime that answers depend on; two measurements are comparable where it is equal. `place` orders a sweep's arms.
    `started_at` is when the attempt that measures it began with it, `items_done` how many items have an answer. `stopped`: why it ended early.
    """

    __tablename__ = "measurements"
    __table_args__ = (
        Index("ix_measurements_of", "suite_version_id", "base_revision_id", "version_id", "state"),
        Index("ix_measurements_job_id_place", "job_id", "place"),
        Index("ix_measurements_evidence_digest", "evidence_digest", postgresql_where=text("evidence_digest IS NOT NULL")),
    )

    suite_version_id: Mapped[UUID] = mapped_column(ForeignKey("suite_versions.id"))
    base_revision_id: Mapped[UUID] = mapped_column(ForeignKey("base_revisions.id"))
    version_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapter_versions.id"), index=True)
    # None of what was brought in.
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id"))
    place: Mapped[int] = mapped_column(default=0)
    again: Mapped[bool] = mapped_column(default=False)
    imported_from: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[MeasurementState] = mapped_column(String(16), default=MeasurementState.PENDING)
    problem: Mapped[dict[str, Any] | None]
    stopped: Mapped[dict[str, Any] | None]
    items_done: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    records_digest: Mapped[str | None] = mapped_column(String(71))
    summary: Mapped[dict[str, Any] | None]
    operations: Mapped[dict[str, Any] | None]
    runtime: Mapped[dict[str, Any] | None]
    runtime_digest: Mapped[str | None] = mapped_column(String(71))
    evidence: Mapped[dict[str, Any] | None]
    evidence_digest: Mapped[str | None] = mapped_column(String(71))
    reused_from: Mapped[UUID | None] = mapped_column(ForeignKey("measurements.id"))
    requested_by: Mapped[UUID]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    audit_event_id: Mapped[UUID | None]

    suite_version: Mapped[SuiteVersion] = relationship(lazy="raise")
    base_revision: Mapped[BaseRevision] = relationship(lazy="raise")
    version: Mapped[AdapterVersion | None] = relationship(lazy="raise")
    job: Mapped[Job | None] = relationship(lazy="raise")
