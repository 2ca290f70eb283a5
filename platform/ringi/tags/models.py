"""Tags of everything, in one table."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from ringi.db.base import Base, OwnedByOrganization, Versioned
from ringi.tags.schemas import Taggable


class Tag(Versioned, OwnedByOrganization, Base):
    """One key and value on one thing. Ids are unique over all tables, so `object_id` alone names the thing; nothing is ever deleted."""

    __tablename__ = "tags"
    __table_args__ = (UniqueConstraint("object_id", "key"), Index("ix_tags_key_value", "key", "value", "object_id"))

    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("projects.id"), index=True)
    object_type: Mapped[Taggable] = mapped_column(String(32))
    object_id: Mapped[UUID]
    key: Mapped[str] = mapped_column(String(128))
    value: Mapped[str] = mapped_column(String(500))
    set_by: Mapped[UUID]
    set_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
