"""The limits of projects, and which stored bytes are whose."""

from sqlalchemy import BigInteger, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from ringi.db.base import Base, Identified, OwnedByProject, Versioned


class ProjectQuota(Versioned, OwnedByProject, Base):
    """The limits of a project; no row is no limit. Its lock gives out what is left, one request at a time."""

    __tablename__ = "project_quotas"
    __table_args__ = (UniqueConstraint("project_id"),)

    requests_per_minute: Mapped[int | None]
    open_jobs: Mapped[int | None]
    jobs_per_day: Mapped[int | None]
    gpu_hours_per_month: Mapped[float | None]
    stored_bytes: Mapped[int | None] = mapped_column(BigInteger)


class ProjectBytes(Identified, OwnedByProject, Base):
    """A project has sealed something that holds these bytes; the same bytes count once in a project, and once in each."""

    __tablename__ = "project_bytes"
    __table_args__ = (UniqueConstraint("project_id", "digest"),)

    digest: Mapped[str] = mapped_column(String(71))
    size: Mapped[int] = mapped_column(BigInteger)
