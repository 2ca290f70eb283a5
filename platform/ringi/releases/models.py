"""Channels and the releases that moved them. What a channel serves now is `adapters.models.ChannelHead`."""

from uuid import UUID

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.adapters.models import AdapterVersion
from ringi.approvals.models import ApprovalGrant
from ringi.db.base import Base, Identified, OwnedByProject, Versioned
from ringi.identity.models import User
from ringi.releases.schemas import ReleaseAction


class Channel(Versioned, OwnedByProject, Base):
    """A name under which clients pull; bound to one environment for ever."""

    __tablename__ = "channels"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    name: Mapped[str] = mapped_column(String(64))
    environment: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(default="")


class Release(Identified, OwnedByProject, Base):
    """One move of one adapter's pointer on a channel; never changed afterwards."""

    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("channel_id", "adapter_id", "sequence"),)

    channel_id: Mapped[UUID] = mapped_column(ForeignKey("channels.id"))
    adapter_id: Mapped[UUID] = mapped_column(ForeignKey("adapters.id"), index=True)
    version_id: Mapped[UUID] = mapped_column(ForeignKey("adapter_versions.id"))
    previous_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapter_versions.id"))
    grant_id: Mapped[UUID] = mapped_column(ForeignKey("approval_grants.id"))
    sequence: Mapped[int]
    action: Mapped[ReleaseAction] = mapped_column(String(16))
    reason: Mapped[str]
    released_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    audit_event_id: Mapped[UUID | None]

    channel: Mapped[Channel] = relationship(lazy="raise")
    version: Mapped[AdapterVersion] = relationship(lazy="raise", foreign_keys=[version_id])
    previous_version: Mapped[AdapterVersion | None] = relationship(lazy="raise", foreign_keys=[previous_version_id])
    grant: Mapped[ApprovalGrant] = relationship(lazy="raise")
    releaser: Mapped[User] = relationship(lazy="raise")
