"""Suites and their sealed versions."""

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.db.base import Base, Identified, OwnedByProject, search_column
from ringi.identity.models import Project


class Suite(Identified, OwnedByProject, Base):
    """A named series of versions."""

    __tablename__ = "suites"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(default="")
    search: Mapped[str] = search_column("name", "description")
    created_by: Mapped[UUID]

    project: Mapped[Project] = relationship(lazy="raise")


class SuiteVersion(Identified, OwnedByProject, Base):
    """Sealed: rows are written once. `digest` names the document's bytes, and the document those of its tasks' items."""

    __tablename__ = "suite_versions"
    __table_args__ = (UniqueConstraint("suite_id", "number"), UniqueConstraint("suite_id", "digest"))

    suite_id: Mapped[UUID] = mapped_column(ForeignKey("suites.id"))
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"), index=True)
    document: Mapped[dict[str, Any]]
    facts: Mapped[dict[str, Any]]
    items: Mapped[int] = mapped_column(BigInteger)
    created_by: Mapped[UUID]
    audit_event_id: Mapped[UUID]

    suite: Mapped[Suite] = relationship(lazy="raise")
