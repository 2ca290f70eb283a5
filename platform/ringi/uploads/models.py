"""Who has shown possession of which bytes: a digest alone is no right to the file behind it."""

from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ringi.db.base import Base, Identified, OwnedByOrganization


class Upload(Identified, OwnedByOrganization, Base):
    """A user sent these bytes. Registering them by digest is possible for that user only."""

    __tablename__ = "uploads"
    __table_args__ = (UniqueConstraint("user_id", "digest"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"))
