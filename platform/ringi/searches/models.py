"""The trials of a search: children of its job, which is the parent (as a sweep's measurements are, decision 0021)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.db.base import Base, Identified, OwnedByProject
from ringi.jobs.models import Job
from ringi.searches.schemas import TrialState


class SearchTrial(Identified, OwnedByProject, Base):
    """One trial: its hyperparameters, and where it was compared.

    `steps` of a whole run, None until a worker has read the rows. Where it goes on is in the job's checkpoint, which ends with the job.
    """

    __tablename__ = "search_trials"
    __table_args__ = (Index("uq_search_trials_job_id_place", "job_id", "place", unique=True),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"))
    place: Mapped[int]
    spec: Mapped[dict[str, Any]]
    state: Mapped[TrialState] = mapped_column(String(16), default=TrialState.WAITING)
    steps: Mapped[int | None]
    comparisons: Mapped[list[Any]] = mapped_column(default=list)
    stopped_after: Mapped[int | None]
    problem: Mapped[dict[str, Any] | None]
    completed_at: Mapped[datetime | None]

    job: Mapped[Job] = relationship(lazy="raise")
