"""One table: which thing of another system a version is. The application may add rows and change none."""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.adapters.models import AdapterVersion
from ringi.db.base import Base, Identified, OwnedByProject


class VersionOrigin(Identified, OwnedByProject, Base):
    """A version of another system in a project is one version here; two of theirs with equal bytes may be the same one."""

    __tablename__ = "version_origins"
    __table_args__ = (UniqueConstraint("project_id", "system", "source", "name", "version"),)

    version_id: Mapped[UUID] = mapped_column(ForeignKey("adapter_versions.id"), index=True)
    system: Mapped[str] = mapped_column(String(16))
    source: Mapped[str] = mapped_column(String(256))
    name: Mapped[str] = mapped_column(String(256))
    version: Mapped[str] = mapped_column(String(80))
    run_id: Mapped[str | None] = mapped_column(String(256))
    run_url: Mapped[str | None] = mapped_column(String(1000))
    facts: Mapped[dict[str, Any]]
    digest: Mapped[str] = mapped_column(String(71))
    imported_by: Mapped[UUID]

    adapter_version: Mapped[AdapterVersion] = relationship(lazy="raise")
