"""Organisations, projects, users, their roles and tokens."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.db.base import Base, Identified, OwnedByOrganization, Versioned
from ringi.identity.schemas import Role, UserKind


class Organization(Identified, Base):
    """A tenant."""

    __tablename__ = "organizations"

    name: Mapped[str] = mapped_column(String(64), unique=True)
    display_name: Mapped[str] = mapped_column(default="")


class Project(Versioned, OwnedByOrganization, Base):
    """Where adapters live; its name is the first half of every adapter's hub repository."""

    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("organization_id", "name"),)

    name: Mapped[str] = mapped_column(String(64))
    display_name: Mapped[str] = mapped_column(default="")


# What the name of an erased person begins with; nobody else's does.
ERASED = "erased-"


class User(Versioned, OwnedByOrganization, Base):
    """A person or a service account of one organisation."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("organization_id", "name"),
        UniqueConstraint("issuer", "subject"),
        CheckConstraint("(issuer IS NULL) = (subject IS NULL)", name="issuer_with_subject"),
    )

    name: Mapped[str] = mapped_column(String(64))
    display_name: Mapped[str] = mapped_column(default="")
    kind: Mapped[UserKind] = mapped_column(String(16), default=UserKind.HUMAN)
    disabled_at: Mapped[datetime | None]
    # Who this is at the identity provider (`iss` and `sub`); None for a local user and for service accounts. Set once.
    issuer: Mapped[str | None] = mapped_column(String(512))
    subject: Mapped[str | None] = mapped_column(String(255))
    # Keyed hash of both (audit/personal.py). It outlives an erasure, so that nobody comes back as a second person.
    subject_seal: Mapped[str | None] = mapped_column(String(64), unique=True)
    erased_at: Mapped[datetime | None]


class Membership(Versioned, OwnedByOrganization, Base):
    """One role of one user, in one project or in the organisation. Ended by `revoked_at`, never deleted: it explains old votes."""

    __tablename__ = "memberships"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    project_id: Mapped[UUID | None] = mapped_column(ForeignKey("projects.id"), index=True)
    role: Mapped[Role] = mapped_column(String(32))
    granted_by: Mapped[UUID]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    user: Mapped[User] = relationship(lazy="raise")
    project: Mapped[Project | None] = relationship(lazy="raise")


class LoginProof(OwnedByOrganization, Base):
    """An access token that was believed once: its SHA-256, and whose login it is (identity/logins.py)."""

    __tablename__ = "logins"

    proof: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    expires_at: Mapped[datetime] = mapped_column(index=True)


class BrowserSession(Identified, OwnedByOrganization, Base):
    """A login of a person in a browser; only the SHA-256 of the cookie's secret is kept (identity/sessions.py)."""

    __tablename__ = "browser_sessions"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    # What the ID token said of the login.
    issuer: Mapped[str] = mapped_column(String(512))
    acr: Mapped[str | None] = mapped_column(String(128))
    amr: Mapped[list[Any]]
    logged_in_at: Mapped[datetime | None]
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    ends_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]

    user: Mapped[User] = relationship(lazy="raise")


class Token(Versioned, OwnedByOrganization, Base):
    """An access token; only the SHA-256 of its secret is kept."""

    __tablename__ = "tokens"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(String(16))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[Any] | None]
    environment: Mapped[str | None] = mapped_column(String(64))
    # Where it may be used from; None means everywhere.
    networks: Mapped[list[Any] | None]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    # None: the deployment's default; 0: no limit.
    requests_per_minute: Mapped[int | None]

    user: Mapped[User] = relationship(lazy="raise")
