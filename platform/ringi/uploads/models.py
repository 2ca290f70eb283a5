"""Who has shown possession of which bytes, and uploads that are still under way. A digest alone is no right to the file behind it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from ringi.db.base import Base, Identified, OwnedByOrganization
from ringi.uploads.schemas import UploadState

_OPEN = text("state = 'open'")


class Upload(Identified, OwnedByOrganization, Base):
    """A user sent these bytes. Registering them by digest is possible for that user only."""

    __tablename__ = "uploads"
    __table_args__ = (UniqueConstraint("user_id", "digest"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"))


class UploadSession(Identified, OwnedByOrganization, Base):
    """An upload in parts. `received` is how many bytes of `size` are acknowledged; a user has one open session for a digest."""

    __tablename__ = "upload_sessions"
    __table_args__ = (Index("uq_upload_sessions_user_id_digest_open", "user_id", "digest", unique=True, postgresql_where=_OPEN),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    digest: Mapped[str] = mapped_column(String(71))
    size: Mapped[int] = mapped_column(BigInteger)
    received: Mapped[int] = mapped_column(BigInteger, default=0)
    state: Mapped[UploadState] = mapped_column(String(16), default=UploadState.OPEN)
    expires_at: Mapped[datetime]


class UploadPart(Base):
    """Bytes [start, start + size) of a session, in the store as part `id`. Removed with the session's end."""

    __tablename__ = "upload_parts"
    __table_args__ = (UniqueConstraint("session_id", "start"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("upload_sessions.id"))
    start: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int] = mapped_column(BigInteger)
