"""Who is doing this: passed to every service call, written into every audit event."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class ActorKind(StrEnum):
    """The `actor.type` of an audit event (governance B2)."""

    USER = "user"
    SERVICE = "service"
    SYSTEM = "system"


@dataclass(frozen=True)
class Login:
    """How a person logged in at the company's identity provider (OpenID Connect Core 1.0, section 2)."""

    issuer: str
    # The provider's word for how surely it knows the person; None where it says nothing.
    acr: str | None
    amr: tuple[str, ...]
    # When the person last proved who they are, and how many seconds ago that was when the request came; None where the token does not say.
    at: datetime | None
    age_s: float | None


@dataclass(frozen=True)
class Actor:
    """A user, service account or part of the platform, with what its roles allow.

    `organization_permissions` hold everywhere in the organisation, `project_permissions[p]` only in project `p`.
    """

    kind: ActorKind
    id: UUID
    name: str
    organization_id: UUID | None = None
    token_id: UUID | None = None
    # None for whoever showed a token of this platform.
    login: Login | None = None
    # The session of a browser, for whoever came with its cookie.
    session_id: UUID | None = None
    # A service token is bound to one deployment environment (governance H3); None means any.
    environment: str | None = None
    # What a narrowed token allows at most; None means everything that its owner's roles allow.
    scopes: frozenset[str] | None = None
    # Where a token may be used from, in CIDR form; None means everywhere.
    networks: tuple[str, ...] | None = None
    organization_permissions: frozenset[str] = frozenset()
    project_permissions: dict[UUID, frozenset[str]] = field(default_factory=dict)
    request_id: str | None = None
    # How many requests a minute this token may send; None means the deployment's default.
    requests_per_minute: int | None = None

    def may(self, permission: str, project_id: UUID | None = None) -> bool:
        """Whether a role of this actor allows `permission` in the project (or in the organisation as a whole)."""
        if permission in self.organization_permissions:
            return True
        return project_id is not None and permission in self.project_permissions.get(project_id, frozenset())


def system_actor(name: str) -> Actor:
    """The actor for what the platform does by itself: the worker that seals a version, the relay, the sequencer."""
    return Actor(kind=ActorKind.SYSTEM, id=UUID(int=0), name=name)
