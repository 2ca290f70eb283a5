"""Adapters, their immutable versions, and what each channel serves."""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from ringi.adapters.schemas import VersionKind, VersionSource, VersionState
from ringi.base_models.models import BaseModel, BaseRevision
from ringi.db.base import Base, Identified, OwnedByProject, Versioned, search_column
from ringi.identity.models import Project
from ringi.jobs.contracts.adapters import FULL_WEIGHTS


class Adapter(Versioned, OwnedByProject, Base):
    """A named series of versions over one base model; the hub serves it as `<project>/<name>`."""

    __tablename__ = "adapters"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(default="")
    base_model_id: Mapped[UUID] = mapped_column(ForeignKey("base_models.id"), index=True)
    created_by: Mapped[UUID]
    search: Mapped[str] = search_column("name", "description")

    project: Mapped[Project] = relationship(lazy="raise")
    base_model: Mapped[BaseModel] = relationship(lazy="raise")

    @property
    def reference(self) -> str:
        """`project/adapter`."""
        return f"{self.project.name}/{self.name}"


class AdapterVersion(Versioned, OwnedByProject, Base):
    """Sealed files under a manifest. Only `state` ever changes, by `lifecycle.advance`."""

    __tablename__ = "adapter_versions"
    __table_args__ = (UniqueConstraint("adapter_id", "number"), UniqueConstraint("adapter_id", "manifest_digest"))

    adapter_id: Mapped[UUID] = mapped_column(ForeignKey("adapters.id"))
    number: Mapped[int]
    state: Mapped[VersionState] = mapped_column(String(16), default=VersionState.SEALED)
    state_reason: Mapped[str | None]
    source: Mapped[VersionSource] = mapped_column(String(16))
    manifest_digest: Mapped[str] = mapped_column(String(71), index=True)
    # The exact bytes that were hashed; never re-serialised.
    manifest: Mapped[bytes] = mapped_column(LargeBinary)
    files: Mapped[list[Any]]
    base_revision_id: Mapped[UUID] = mapped_column(ForeignKey("base_revisions.id"), index=True)
    facts: Mapped[dict[str, Any]]
    effect: Mapped[dict[str, Any]]
    runtime: Mapped[dict[str, Any]]
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"))
    created_by: Mapped[UUID]
    audit_event_id: Mapped[UUID | None]

    adapter: Mapped[Adapter] = relationship(lazy="raise")
    base_revision: Mapped[BaseRevision] = relationship(lazy="raise")

    @property
    def kind(self) -> VersionKind:
        """What its files are."""
        return VersionKind.FULL_WEIGHTS if self.facts.get("peft_type") == FULL_WEIGHTS else VersionKind.ADAPTER

    @property
    def commit(self) -> str:
        """40 hex characters of the manifest digest: the hub's commit id of this version."""
        return self.manifest_digest.removeprefix("sha256:")[:40]


class ChannelHead(Identified, OwnedByProject, Base):
    """What `:production` means for an adapter now. Read here by references; moved by `releases/service.py` only, by compare-and-set."""

    __tablename__ = "channel_heads"
    __table_args__ = (UniqueConstraint("project_id", "channel", "adapter_id"),)

    channel: Mapped[str] = mapped_column(String(64))
    adapter_id: Mapped[UUID] = mapped_column(ForeignKey("adapters.id"), index=True)
    version_id: Mapped[UUID] = mapped_column(ForeignKey("adapter_versions.id"))
    sequence: Mapped[int]

    version: Mapped[AdapterVersion] = relationship(lazy="raise")


def version_name(session: Session, version: AdapterVersion) -> str:
    """`project/adapter:v3` of a version whose adapter need not be loaded."""
    # unscoped: the caller holds the version already.
    named = select(Project.name, Adapter.name).join(Adapter, Adapter.project_id == Project.id).where(Adapter.id == version.adapter_id)
    project, adapter = session.execute(named).one()
    return f"{project}/{adapter}:v{version.number}"
