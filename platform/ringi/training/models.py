"""Training runs. The run knows the version that it produced; the version knows nothing of runs."""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.adapters.models import Adapter, AdapterVersion
from ringi.base_models.models import BaseRevision
from ringi.datasets.models import DatasetVersion
from ringi.db.base import Base, Identified, OwnedByProject
from ringi.jobs.models import Job


class TrainingRun(Identified, OwnedByProject, Base):
    """One run: its inputs by digest, its resolved hyperparameters, its job (whose state is the run's) and what came of it."""

    __tablename__ = "training_runs"

    adapter_id: Mapped[UUID] = mapped_column(ForeignKey("adapters.id"), index=True)
    dataset_version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id"))
    base_revision_id: Mapped[UUID] = mapped_column(ForeignKey("base_revisions.id"))
    spec: Mapped[dict[str, Any]]
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), unique=True)
    version_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapter_versions.id"))
    metrics: Mapped[dict[str, Any] | None]
    # provenance.Provenance, of a run that succeeded.
    provenance: Mapped[dict[str, Any] | None]
    provenance_digest: Mapped[str | None] = mapped_column(String(71))
    # A link into MLflow, never a key.
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    started_by: Mapped[UUID]

    adapter: Mapped[Adapter] = relationship(lazy="raise")
    dataset_version: Mapped[DatasetVersion] = relationship(lazy="raise")
    base_revision: Mapped[BaseRevision] = relationship(lazy="raise")
    job: Mapped[Job] = relationship(lazy="raise")
    version: Mapped[AdapterVersion | None] = relationship(lazy="raise")
