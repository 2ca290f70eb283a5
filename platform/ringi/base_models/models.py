"""Base models and their revisions. They belong to the organisation, so every project adapts the same one."""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.base_models.schemas import RevisionState
from ringi.db.base import Base, Identified, OwnedByOrganization, Versioned
from ringi.jobs.models import Job

NOT_MEASURED = ("F3", "F4", "F5", "F6", "F7", "F8")


class BaseModel(Versioned, OwnedByOrganization, Base):
    """A named series of revisions; the hub serves it as `bases/<name>`."""

    __tablename__ = "base_models"
    __table_args__ = (UniqueConstraint("organization_id", "name"),)

    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(default="")

    @property
    def repository(self) -> str:
        """The hub repository of this base."""
        return f"bases/{self.name}"


class BaseRevision(Identified, OwnedByOrganization, Base):
    """One set of files. `digest` names them; `parts` are the fingerprint's parts as far as they are computed."""

    __tablename__ = "base_revisions"
    __table_args__ = (UniqueConstraint("base_model_id", "number"), UniqueConstraint("base_model_id", "digest"))

    base_model_id: Mapped[UUID] = mapped_column(ForeignKey("base_models.id"))
    number: Mapped[int]
    state: Mapped[RevisionState] = mapped_column(String(16), default=RevisionState.PENDING)
    digest: Mapped[str] = mapped_column(String(71))
    files: Mapped[list[Any]]
    note: Mapped[str] = mapped_column(default="")
    parts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    facts: Mapped[dict[str, Any] | None]
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"))
    created_by: Mapped[UUID]

    base_model: Mapped[BaseModel] = relationship(lazy="raise")
    job: Mapped[Job] = relationship(lazy="raise")

    @property
    def commit(self) -> str:
        """40 hex characters of the digest: the form that hub clients demand of a commit id."""
        return self.digest.removeprefix("sha256:")[:40]
