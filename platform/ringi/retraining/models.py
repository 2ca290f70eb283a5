"""What a project wants of new rows, and the retrainings that followed."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.adapters.models import Adapter
from ringi.datasets.models import DatasetVersion
from ringi.db.base import Base, Identified, OwnedByProject, Versioned
from ringi.retraining.schemas import RetrainingState
from ringi.training.models import TrainingRun


class RetrainingPolicy(Versioned, OwnedByProject, Base):
    """One of a project; no row is none."""

    __tablename__ = "retraining_policies"
    __table_args__ = (UniqueConstraint("project_id"),)

    enabled: Mapped[bool]
    environment: Mapped[str] = mapped_column(String(64))


class Retraining(Identified, OwnedByProject, Base):
    """One adapter, one new version of the dataset that its last run (`source_run`) learnt from: there is never a second.

    `on_behalf_of` added the dataset version. `problem`: the refusal that ended it.
    """

    __tablename__ = "retrainings"
    __table_args__ = (
        UniqueConstraint("dataset_version_id", "adapter_id"),
        Index("ix_retrainings_open", "id", postgresql_where=text("completed_at IS NULL")),
    )

    dataset_version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id"))
    adapter_id: Mapped[UUID] = mapped_column(ForeignKey("adapters.id"), index=True)
    source_run_id: Mapped[UUID] = mapped_column(ForeignKey("training_runs.id"))
    environment: Mapped[str] = mapped_column(String(64))
    state: Mapped[RetrainingState] = mapped_column(String(16), default=RetrainingState.WAITING)
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("training_runs.id"))
    evaluation_id: Mapped[UUID | None] = mapped_column(ForeignKey("evaluations.id"))
    request_id: Mapped[UUID | None] = mapped_column(ForeignKey("approval_requests.id"))
    problem: Mapped[dict[str, Any] | None]
    on_behalf_of: Mapped[UUID]
    completed_at: Mapped[datetime | None]

    adapter: Mapped[Adapter] = relationship(lazy="raise")
    dataset_version: Mapped[DatasetVersion] = relationship(lazy="raise")
    source_run: Mapped[TrainingRun] = relationship(lazy="raise", foreign_keys=[source_run_id])
    run: Mapped[TrainingRun | None] = relationship(lazy="raise", foreign_keys=[run_id])
