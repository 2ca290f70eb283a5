"""Datasets and their sealed versions."""

from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.db.base import Base, Identified, OwnedByProject, Versioned, search_column
from ringi.identity.models import Project


class Dataset(Versioned, OwnedByProject, Base):
    """A named series of versions."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(default="")
    search: Mapped[str] = search_column("name", "description")

    project: Mapped[Project] = relationship(lazy="raise")


class DatasetVersion(Identified, OwnedByProject, Base):
    """Sealed: rows are written once and have no setters. Content-addressed by `digest`."""

    __tablename__ = "dataset_versions"
    __table_args__ = (UniqueConstraint("dataset_id", "number"), UniqueConstraint("dataset_id", "digest"))

    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id"))
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(String(71))
    source_digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"))
    split: Mapped[dict[str, Any]]
    train_digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"))
    train_size: Mapped[int] = mapped_column(BigInteger)
    validation_digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"))
    validation_size: Mapped[int] = mapped_column(BigInteger)
    report: Mapped[dict[str, Any]]
    # What was done to the rows (Recipe); empty in versions from before there were recipes.
    recipe: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'::jsonb"))
    licence: Mapped[str] = mapped_column(default="", server_default="")
    origin: Mapped[str] = mapped_column(default="", server_default="")
    consent: Mapped[str] = mapped_column(default="", server_default="")
    retain_until: Mapped[date | None]
    created_by: Mapped[UUID]

    dataset: Mapped[Dataset] = relationship(lazy="raise")


class DatasetPolicy(Versioned, OwnedByProject, Base):
    """What a project wants of every new version, at the least; no row is nothing."""

    __tablename__ = "dataset_policies"
    __table_args__ = (UniqueConstraint("project_id"),)

    personal_data: Mapped[str] = mapped_column(String(16))
