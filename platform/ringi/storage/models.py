"""Which bytes the platform holds. A row appears only after the bytes are whole and named by their digest."""

from datetime import datetime

from sqlalchemy import BigInteger, String, func
from sqlalchemy.orm import Mapped, mapped_column

from ringi.db.base import Base


class Blob(Base):
    """One sealed run of bytes in the blob store; `size` in bytes."""

    __tablename__ = "blobs"

    digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
