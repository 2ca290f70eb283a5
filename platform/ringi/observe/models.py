"""The signs of life that processes without a door leave in the database."""

from datetime import datetime

from sqlalchemy import String, func
from sqlalchemy.orm import Mapped, mapped_column

from ringi.db.base import Base


class ProcessSign(Base):
    """The last time that a process's own loop came round. `instance` is process name, machine and process id."""

    __tablename__ = "process_signs"

    role: Mapped[str] = mapped_column(String(32), primary_key=True)
    instance: Mapped[str] = mapped_column(String(200), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
