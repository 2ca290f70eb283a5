"""What every adapter version is told about every other revision of its base."""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.adapters.models import AdapterVersion
from ringi.base_models.models import BaseRevision
from ringi.db.base import Base, Identified, OwnedByOrganization, OwnedByProject
from ringi.jobs.models import Job


class BaseComparison(Identified, OwnedByOrganization, Base):
    """The measured difference of two revisions; adapters sealed later are judged from it without measuring again."""

    __tablename__ = "base_comparisons"
    __table_args__ = (UniqueConstraint("old_revision_id", "new_revision_id"),)

    old_revision_id: Mapped[UUID] = mapped_column(ForeignKey("base_revisions.id"))
    new_revision_id: Mapped[UUID] = mapped_column(ForeignKey("base_revisions.id"))
    facts: Mapped[dict[str, Any]]
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"))

    job: Mapped[Job] = relationship(lazy="raise")


class CompatibilityAssessment(Identified, OwnedByProject, Base):
    """The verdict on one version for one base revision, with every reason."""

    __tablename__ = "compatibility_assessments"
    __table_args__ = (UniqueConstraint("version_id", "base_revision_id"),)

    version_id: Mapped[UUID] = mapped_column(ForeignKey("adapter_versions.id"), index=True)
    base_revision_id: Mapped[UUID] = mapped_column(ForeignKey("base_revisions.id"), index=True)
    verdict: Mapped[str] = mapped_column(String(32))
    action: Mapped[str] = mapped_column(String(32))
    report: Mapped[dict[str, Any]]
    report_digest: Mapped[str] = mapped_column(String(71))

    version: Mapped[AdapterVersion] = relationship(lazy="raise")
    base_revision: Mapped[BaseRevision] = relationship(lazy="raise")
