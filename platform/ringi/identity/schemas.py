"""The words of identity: roles (governance E1), permissions, and the models in and out."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from ringi.identity.addresses import MAX_NETWORKS, NetworkText
from ringi.tags.schemas import Tagged
from ringi.web.schemas import Integer, Name, Reason, Schema, Secret, Text

# The form of a permission; which ones there are is said by permissions.py, which stands above this module.
# As the provider writes its own name, which is compared byte for byte (RFC 8414 section 3.3).
Issuer = Annotated[str, StringConstraints(pattern=r"^https?://[!-~]{1,480}$")]
Subject = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]
Scope = Annotated[str, StringConstraints(pattern=r"^[a-z_]+:[a-z_]+$", max_length=64)]


class Role(StrEnum):
    """Project roles first, then those of the whole organisation."""

    VIEWER = "viewer"
    CONTRIBUTOR = "contributor"
    EVALUATOR = "evaluator"
    REVIEWER = "reviewer"
    VALIDATOR = "validator"
    RISK_OWNER = "risk_owner"
    SERVICE_OWNER = "service_owner"
    DEPLOYER = "deployer"
    INCIDENT_COMMANDER = "incident_commander"
    POLICY_ADMIN = "policy_admin"
    IDENTITY_ADMIN = "identity_admin"
    SYSTEM_ADMIN = "system_admin"
    AUDITOR = "auditor"


class UserKind(StrEnum):
    """A person, or a service account, which may never vote."""

    HUMAN = "human"
    SERVICE = "service"


class CreateOrganization(Schema):
    """A new organisation with its first administrator, whose `admin_subject` (`sub`) is needed where people log in at an identity provider."""

    name: Name
    display_name: Text = ""
    admin: Name
    admin_subject: Subject | None = None


class CreateProject(Schema):
    """A new project; `display_name` may be Japanese."""

    name: Name
    display_name: Text = ""


class CreateUser(Schema):
    """A new member of the organisation. `subject` is who a person is at the identity provider (`sub`)."""

    name: Name
    display_name: Text = ""
    kind: UserKind = UserKind.HUMAN
    subject: Subject | None = None


class LinkUser(Schema):
    """Who a person is at the identity provider (`sub`); said once. `issuer`: that provider, where this deployment has none yet and will have it."""

    subject: Subject
    issuer: Issuer | None = None


class EraseUser(Schema):
    """Why a person is erased. It is kept, so name nobody in it."""

    reason: Reason


class GrantRole(Schema):
    """A role for a user, in a project or (without one) in the whole organisation, for ever or for some days.

    Privileged roles are held for a time: 90 days unless `days` says otherwise (the deployment may set another default), 365 at most. `lasting`
    hands identity_admin on without an end.
    """

    user: Name
    role: Role
    project: Name | None = None
    days: Annotated[Integer, Field(ge=1, le=3650)] | None = None
    lasting: bool = False


class IssueToken(Schema):
    """A token for a user. `scopes` narrow what the user's roles allow; `environment` binds a service token to one environment, `networks` (CIDR)
    to where it may be used from.

    The scope `release:pull` includes `project:read` and `organization:read`, which a pull needs to find its adapter and base model.
    """

    name: Text = "token"
    days: Annotated[Integer, Field(ge=1, le=365)] = 90
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=64)] | None = None
    environment: Name | None = None
    networks: Annotated[list[NetworkText], Field(min_length=1, max_length=MAX_NETWORKS)] | None = None


class LimitToken(Schema):
    """How many requests a minute a token may send: null is the deployment's limit, which none may exceed; 0, no limit, where it has none."""

    requests_per_minute: Annotated[Integer, Field(ge=0, le=10_000_000)] | None


class OrganizationOut(Schema):
    """An organisation."""

    id: UUID
    name: str
    display_name: str
    created_at: datetime


class ProjectOut(Tagged):
    """A project."""

    name: str
    display_name: str
    created_at: datetime
    row_version: int


class UserOut(Schema):
    """A user or service account."""

    id: UUID
    name: str
    display_name: str
    kind: UserKind
    subject: str | None
    issuer: str | None
    disabled_at: datetime | None
    erased_at: datetime | None
    created_at: datetime
    row_version: int


class MembershipOut(Schema):
    """One role of one user."""

    id: UUID
    user: str
    role: Role
    project: str | None
    expires_at: datetime | None
    created_at: datetime
    row_version: int


class TokenOut(Schema):
    """A token without its secret."""

    id: UUID
    user: str
    name: str
    prefix: str
    scopes: list[str] | None
    environment: str | None
    networks: list[str] | None
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    requests_per_minute: int | None
    row_version: int


class IssuedToken(Schema):
    """The only answer that ever holds the secret."""

    token: Secret
    details: TokenOut


class OrganizationCreated(Schema):
    """The new organisation and its administrator's first token, shown once."""

    organization: OrganizationOut
    admin: UserOut
    token: IssuedToken


class WhoAmI(Schema):
    """The caller as the platform sees it."""

    id: UUID
    name: str
    kind: str
    organization: str
    organization_permissions: list[str]
    projects: dict[str, list[str]]
    environment: str | None
    # Null for whoever shows a token of this platform; `logged_in_at` also where the provider does not say.
    issuer: str | None = None
    acr: str | None = None
    logged_in_at: datetime | None = None


class SessionOut(Schema):
    """A session of a browser, without its secret. `current`: the one that asks."""

    id: UUID
    user: str
    acr: str | None
    logged_in_at: datetime | None
    created_at: datetime
    last_seen_at: datetime
    ends_at: datetime
    ended_at: datetime | None
    current: bool


class SessionState(Schema):
    """The browser's own session. `csrf_token` goes into the header X-CSRF-Token of every change; without a request it ends at `idle_ends_at`."""

    id: UUID
    user: str
    issuer: str
    acr: str | None
    logged_in_at: datetime | None
    ends_at: datetime
    idle_ends_at: datetime
    csrf_token: Secret


class LoggedOut(Schema):
    """The session is over. At `end_session_url` the browser ends the one at the identity provider, too; null where it has no such place."""

    end_session_url: str | None


class LoginOptions(Schema):
    """How people log in here. `issuer` is null where they are local users, `cli_client_id` where no client is registered for terminals.

    `audience_parameter` says by which parameter an access token for `audience` is asked for (`resource` of RFC 8707, or `audience`); the step-up
    is what votes, roles and policies need.
    """

    issuer: str | None
    cli_client_id: str | None
    scopes: str
    audience: str | None
    audience_parameter: Literal["none", "resource", "audience"]
    step_up_acr: str | None
    step_up_max_age_s: float | None


class RoleOut(Schema):
    """A role and what it allows."""

    role: Role
    scope: str
    permissions: list[str]
