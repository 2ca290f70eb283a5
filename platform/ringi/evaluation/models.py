"""Evaluations: which bytes answered which rows, and what came of it. Evidence once complete, never changed afterwards."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.adapters.models import AdapterVersion
from ringi.base_models.models import BaseRevision
from ringi.datasets.models import DatasetVersion
from ringi.db.base import Base, Identified, OwnedByProject
from ringi.jobs.models import Job


class Evaluation(Identified, OwnedByProject, Base):
    """A version on a base revision against a baseline, on one dataset version's validation split."""

    __tablename__ = "evaluations"

    version_id: Mapped[UUID] = mapped_column(ForeignKey("adapter_versions.id"), index=True)
    base_revision_id: Mapped[UUID] = mapped_column(ForeignKey("base_revisions.id"))
    baseline: Mapped[str] = mapped_column(String(16))
    dataset_version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id"))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), unique=True)
    summary: Mapped[dict[str, Any] | None]
    records_digest: Mapped[str | None] = mapped_column(String(71))
    evidence: Mapped[dict[str, Any] | None]
    evidence_digest: Mapped[str | None] = mapped_column(String(71), index=True)
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    requested_by: Mapped[UUID]
    completed_at: Mapped[datetime | None]
    audit_event_id: Mapped[UUID | None]

    version: Mapped[AdapterVersion] = relationship(lazy="raise")
    base_revision: Mapped[BaseRevision] = relationship(lazy="raise")
    dataset_version: Mapped[DatasetVersion] = relationship(lazy="raise")
    job: Mapped[Job] = relationship(lazy="raise")
