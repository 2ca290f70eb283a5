"""Calls about organisations, projects, users, roles and tokens."""

from typing import Unpack
from uuid import UUID

from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.connection import Connection, route
from ringi.cli.listed import Listed
from ringi.identity.schemas import (
    CreateOrganization,
    CreateProject,
    CreateUser,
    EraseUser,
    GrantRole,
    IssuedToken,
    IssueToken,
    LimitToken,
    LinkUser,
    LoginOptions,
    MembershipOut,
    OrganizationCreated,
    ProjectOut,
    Role,
    RoleOut,
    SessionOut,
    TokenOut,
    UserKind,
    UserOut,
    WhoAmI,
)


class IdentityCalls:
    """`client.identity`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def create_organization(
        self, name: str, *, admin: str, display_name: str = "", admin_subject: str | None = None
    ) -> OrganizationCreated:
        """Needs a client whose token is the setup key; the answer holds the administrator's token, once."""
        body = CreateOrganization(name=name, admin=admin, display_name=display_name, admin_subject=admin_subject)
        return self._http.post("/organizations", OrganizationCreated, body)

    def whoami(self) -> WhoAmI:
        """Who the token belongs to and what it allows."""
        return self._http.get("/whoami", WhoAmI)

    def login_options(self) -> LoginOptions:
        """How people log in at this platform; needs no token."""
        return self._http.get_beside("/auth/provider", LoginOptions)

    def roles(self) -> list[RoleOut]:
        """Every role and what it allows."""
        return self._http.get_list("/roles", RoleOut)

    def create_project(self, name: str, *, display_name: str = "") -> ProjectOut:
        """A new project."""
        return self._http.post("/projects", ProjectOut, CreateProject(name=name, display_name=display_name))

    def projects(self, **asked: Unpack[Asked]) -> Listed[ProjectOut]:
        """Projects in sight."""
        return self._http.items("/projects", ProjectOut, **asked)

    def project(self, name: str) -> ProjectOut:
        """One project."""
        return self._http.get(route("projects", name), ProjectOut)

    def create_user(self, name: str, *, display_name: str = "", kind: UserKind = UserKind.HUMAN, subject: str | None = None) -> UserOut:
        """A new user without roles; `subject` is who a person is at the identity provider."""
        return self._http.post("/users", UserOut, CreateUser(name=name, display_name=display_name, kind=kind, subject=subject))

    def link_user(self, user: str, subject: str, *, issuer: str | None = None, if_match: str | None = None) -> UserOut:
        """Say who a person is at the identity provider; once. `issuer` where the deployment has none yet."""
        return self._http.put(route("users", user, "subject"), UserOut, LinkUser(subject=subject, issuer=issuer), if_match=if_match)

    def disable_user(self, user: str, *, if_match: str | None = None) -> UserOut:
        """Let the user in no more, by no token and no login."""
        return self._http.post(route("users", user, "disable"), UserOut, if_match=if_match)

    def enable_user(self, user: str, *, if_match: str | None = None) -> UserOut:
        """Let a disabled user in again."""
        return self._http.post(route("users", user, "enable"), UserOut, if_match=if_match)

    def erase_user(self, user: str, reason: str, *, if_match: str | None = None) -> UserOut:
        """Erase a person for good; the answer shows the pseudonym."""
        return self._http.post(route("users", user, "erase"), UserOut, EraseUser(reason=reason), if_match=if_match)

    def user(self, name: str) -> UserOut:
        """One user."""
        return self._http.get(route("users", name), UserOut)

    def users(self, **asked: Unpack[Asked]) -> Listed[UserOut]:
        """Users of the organisation."""
        return self._http.items("/users", UserOut, **asked)

    def grant_role(
        self, user: str, role: Role, *, project: str | None = None, days: int | None = None, lasting: bool = False
    ) -> MembershipOut:
        """Give a role, in a project or in the whole organisation; a privileged one for 90 days unless `days` says otherwise."""
        return self._http.post("/memberships", MembershipOut, GrantRole(user=user, role=role, project=project, days=days, lasting=lasting))

    def memberships(self, **asked: Unpack[AskedInOrder]) -> Listed[MembershipOut]:
        """Roles that are not revoked."""
        return self._http.items("/memberships", MembershipOut, **asked)

    def membership(self, membership_id: UUID) -> MembershipOut:
        """One role that is not revoked."""
        return self._http.get(route("memberships", str(membership_id)), MembershipOut)

    def revoke_role(self, membership_id: UUID, *, if_match: str | None = None) -> MembershipOut:
        """End a role now."""
        return self._http.delete(route("memberships", str(membership_id)), MembershipOut, if_match=if_match)

    def issue_token(
        self, user: str, *, name: str = "token", days: int = 90, scopes: list[str] | None = None, environment: str | None = None,
        networks: list[str] | None = None,
    ) -> IssuedToken:  # fmt: skip
        """A token; its secret is in this answer and nowhere else."""
        body = IssueToken(name=name, days=days, scopes=scopes, environment=environment, networks=networks)
        return self._http.post(route("users", user, "tokens"), IssuedToken, body)

    def issue_own_token(
        self, *, name: str = "token", days: int = 90, scopes: list[str] | None = None, environment: str | None = None,
        networks: list[str] | None = None,
    ) -> IssuedToken:  # fmt: skip
        """A token of the caller's own; the client's token has to be an access token of the identity provider."""
        body = IssueToken(name=name, days=days, scopes=scopes, environment=environment, networks=networks)
        return self._http.post("/tokens", IssuedToken, body)

    def tokens(self, **asked: Unpack[Asked]) -> Listed[TokenOut]:
        """The caller's tokens, or the organisation's for an identity_admin."""
        return self._http.items("/tokens", TokenOut, **asked)

    def sessions(self, **asked: Unpack[AskedInOrder]) -> Listed[SessionOut]:
        """The caller's sessions of browsers, or the organisation's for an identity_admin."""
        return self._http.items("/sessions", SessionOut, **asked)

    def end_session(self, session_id: UUID) -> SessionOut:
        """End a session of a browser now."""
        return self._http.delete(route("sessions", str(session_id)), SessionOut)

    def token(self, token_id: UUID) -> TokenOut:
        """One token, without its secret."""
        return self._http.get(route("tokens", str(token_id)), TokenOut)

    def limit_token(self, token_id: UUID, requests_per_minute: int | None, *, if_match: str | None = None) -> TokenOut:
        """Set how many requests a minute a token may send: None is the deployment's limit, which none may exceed."""
        path, body = route("tokens", str(token_id), "limits"), LimitToken(requests_per_minute=requests_per_minute)
        return self._http.put(path, TokenOut, body, if_match=if_match)

    def revoke_token(self, token_id: UUID, *, if_match: str | None = None) -> TokenOut:
        """End a token now."""
        return self._http.delete(route("tokens", str(token_id)), TokenOut, if_match=if_match)
