"""Workers by name. A process that starts again under its name finds what people wanted of it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, String, func
from sqlalchemy.orm import Mapped, mapped_column

from ringi.db.base import Base, Versioned
from ringi.fleet.schemas import Device, Wanted


class Worker(Versioned, Base):
    """One worker. Without an organisation it serves all. `job_id` is a link to what it does now, not a key: the job's lease is the truth."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(200), unique=True)
    owner: Mapped[str] = mapped_column(String(400))
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"))
    wanted: Mapped[Wanted] = mapped_column(String(16), default=Wanted.ACTIVE)
    reason: Mapped[str | None]
    queues: Mapped[list[Any]]
    device: Mapped[Device] = mapped_column(String(16))
    device_name: Mapped[str]
    claimed_bytes: Mapped[int | None] = mapped_column(BigInteger)
    measured_bytes: Mapped[int | None] = mapped_column(BigInteger)
    engines: Mapped[list[Any]]
    versions: Mapped[dict[str, Any]]
    job_id: Mapped[UUID | None]
    heartbeat_s: Mapped[float]
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    stopped_at: Mapped[datetime | None]

    @property
    def memory_bytes(self) -> int | None:
        """What jobs are matched with: a claim counts only as far as it was measured."""
        known = [one for one in (self.claimed_bytes, self.measured_bytes) if one is not None]
        return min(known, default=None)
