"""The declarative base: constraint names that migrations can rely on, UUID v7 keys, UTC times."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Computed, DateTime, FetchedValue, ForeignKey, MetaData, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, mapped_column

from ringi.kit.ids import uuid7

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Every table. Times are database time in UTC; documents are JSONB."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: DateTime(timezone=True), dict[str, Any]: JSONB, list[Any]: JSONB}  # noqa: RUF012  # SQLAlchemy's own name


def search_column(*texts: str) -> MappedColumn[str]:
    """A stored column of the named text columns in the form in which they are searched (web/search.py); never loaded with its row."""
    # Written as PostgreSQL prints it, but for brackets: a migration test compares the two.
    joined = " || ' '::text || ".join(f"COALESCE({text}, ''::character varying)::text" for text in texts)
    return mapped_column(
        Text,
        Computed(f"casefold(NORMALIZE({joined}, NFKC) COLLATE pg_unicode_fast)", persisted=True),
        deferred=True,
        deferred_raiseload=True,
    )


class Identified:
    """A UUID v7 key and the database time of the row's birth."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Versioned(Identified):
    """Identified rows that are changed in place: a trigger counts the changes (migration 0004), whoever makes them and by whatever statement."""

    row_version: Mapped[int] = mapped_column(server_default=text("1"), server_onupdate=FetchedValue())


class OwnedByOrganization:
    """Rows that the whole organisation shares, such as base models."""

    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)


class OwnedByProject:
    """Rows that belong to one project; `identity.permissions.visible` scopes every read of them."""

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id"), index=True)
