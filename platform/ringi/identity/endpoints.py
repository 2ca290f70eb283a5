"""HTTP for organisations, projects, users, roles and tokens."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from ringi.identity import people, service
from ringi.identity.dependencies import CurrentActor, InProject, SetupActor, allowed, allowed_in_project
from ringi.identity.lists import MEMBERSHIPS, PROJECTS, TOKENS, USERS
from ringi.identity.models import Membership, Organization, Project, Token, User
from ringi.identity.permissions import ORGANIZATION_ROLES, PROJECT_ROLES, Permission, visible
from ringi.identity.provider import get_provider
from ringi.identity.refusals import (
    DisablingOneself,
    IssuerDiffers,
    LastAdministrator,
    LastingRoleRefused,
    NoIdentityProvider,
    NotAPerson,
    OwnTokenNeedsLogin,
    RoleTooLong,
    SubjectInUse,
    SubjectNeeded,
    SubjectSet,
    TokenForAnother,
    TokenRevoked,
    UserDisabled,
    UserEnabled,
    UserErased,
)
from ringi.identity.schemas import (
    CreateOrganization,
    CreateProject,
    CreateUser,
    GrantRole,
    IssuedToken,
    IssueToken,
    LimitToken,
    LinkUser,
    MembershipOut,
    OrganizationCreated,
    OrganizationOut,
    ProjectOut,
    RoleOut,
    TokenOut,
    UserKind,
    UserOut,
    WhoAmI,
)
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.tags.lists import with_tags
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, tags=["identity"], responses=responses(Unauthenticated, Forbidden, NotFound))


def membership_out(membership: Membership) -> MembershipOut:
    """With names instead of ids."""
    project = membership.project.name if membership.project else None
    return MembershipOut(
        id=membership.id,
        user=membership.user.name,
        role=membership.role,
        project=project,
        expires_at=membership.expires_at,
        created_at=membership.created_at,
        row_version=membership.row_version,
    )


def token_out(token: Token) -> TokenOut:
    """Without the secret."""
    fields = {name: getattr(token, name) for name in TokenOut.model_fields if name != "user"}
    return TokenOut(user=token.user.name, **fields)


@router.post("/organizations", status_code=201, responses=responses(SubjectNeeded, NoIdentityProvider, SubjectInUse))
def create_organization(session: SessionDep, actor: SetupActor, body: CreateOrganization) -> OrganizationCreated:
    """Needs the deployment's setup key instead of a token; answers with the administrator's token, shown once."""
    organization, admin = service.create_organization(session, actor, name=body.name, display_name=body.display_name, admin=body.admin)
    if body.admin_subject is not None:
        people.link(session, actor, admin, body.admin_subject)
    elif get_provider() is not None:
        raise SubjectNeeded
    secret, token = service.issue_token(session, actor, user=admin, name="first token", days=90)
    return OrganizationCreated(
        organization=OrganizationOut.model_validate(organization),
        admin=UserOut.model_validate(admin),
        token=IssuedToken(token=secret, details=token_out(token)),
    )


@router.get("/whoami")
def whoami(session: SessionDep, actor: CurrentActor) -> WhoAmI:
    """Who the token belongs to and what it allows."""
    organization = session.scalars(select(Organization).where(Organization.id == actor.organization_id)).one()
    names = {project.id: project.name for project in session.scalars(visible(actor, Project))}
    return WhoAmI(
        id=actor.id, name=actor.name, kind=actor.kind, organization=organization.name, environment=actor.environment,
        organization_permissions=sorted(actor.organization_permissions),
        projects={names[key]: sorted(held) for key, held in actor.project_permissions.items() if key in names},
        issuer=actor.login and actor.login.issuer, acr=actor.login and actor.login.acr, logged_in_at=actor.login and actor.login.at,
    )  # fmt: skip


@router.get("/roles")
def list_roles(actor: CurrentActor) -> list[RoleOut]:  # noqa: ARG001  # for people with a token
    """Every role and what it allows."""
    scopes = {"project": PROJECT_ROLES, "organization": ORGANIZATION_ROLES}
    return [RoleOut(role=role, scope=scope, permissions=sorted(held)) for scope, roles in scopes.items() for role, held in roles.items()]


@router.post("/projects", status_code=201)
def create_project(session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_MANAGE)], body: CreateProject) -> ProjectOut:
    """A new project."""
    return ProjectOut.model_validate(service.create_project(session, actor, name=body.name, display_name=body.display_name))


@router.get("/projects")
def list_projects(
    session: SessionDep, actor: Annotated[Actor, allowed(Permission.PROJECT_READ)], ask: Annotated[Ask, asking(PROJECTS)]
) -> Page[ProjectOut]:
    """Projects that the caller may see."""
    return page_of(session, visible(actor, Project), ask, ProjectOut.model_validate)


@router.get("/projects/{project}")  # noqa: FAST003  # a dependency takes the project
def get_project(session: SessionDep, caller: Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]) -> ProjectOut:
    """One project."""
    return with_tags(session, ProjectOut.model_validate(caller.project))


@router.post("/users", status_code=201, responses=responses(NoIdentityProvider, NotAPerson, SubjectInUse))
def create_user(session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_MANAGE)], body: CreateUser) -> UserOut:
    """A new user or service account, without any role."""
    user = service.create_user(session, actor, name=body.name, display_name=body.display_name, kind=body.kind)
    return UserOut.model_validate(user if body.subject is None else people.link(session, actor, user, body.subject))


@router.get("/users/{user}")
def get_user(session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_READ)], user: str) -> UserOut:
    """One user."""
    return UserOut.model_validate(service.find_user(session, actor, user))


@router.put(
    "/users/{user}/subject",
    responses=responses(PreconditionFailed, NoIdentityProvider, IssuerDiffers, NotAPerson, SubjectSet, SubjectInUse, UserErased),
)
def link_user(
    session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_MANAGE)], user: str, body: LinkUser, match: IfMatch
) -> UserOut:
    """Say who a person is at the identity provider; once."""
    found = service.find_user(session, actor, user)
    match.check(session, found)
    return UserOut.model_validate(people.link(session, actor, found, body.subject, issuer=body.issuer))


@router.post("/users/{user}/disable", responses=responses(PreconditionFailed, UserDisabled, DisablingOneself, LastAdministrator))
def disable_user(session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_MANAGE)], user: str, match: IfMatch) -> UserOut:
    """From now on no token and no login of this user is believed, and no vote of theirs counts."""
    found = service.find_user(session, actor, user)
    match.check(session, found)
    return UserOut.model_validate(people.disable(session, actor, found))


@router.post("/users/{user}/enable", responses=responses(PreconditionFailed, UserEnabled, UserErased))
def enable_user(session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_MANAGE)], user: str, match: IfMatch) -> UserOut:
    """Let a disabled user in again, with the roles and tokens that have not ended meanwhile."""
    found = service.find_user(session, actor, user)
    match.check(session, found)
    return UserOut.model_validate(people.enable(session, actor, found))


@router.get("/users")
def list_users(
    session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_READ)], ask: Annotated[Ask, asking(USERS)]
) -> Page[UserOut]:
    """Users of the organisation."""
    return page_of(session, visible(actor, User), ask, UserOut.model_validate)


@router.post("/memberships", status_code=201, responses=responses(UserErased, RoleTooLong, LastingRoleRefused))
def grant_role(session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_MANAGE)], body: GrantRole) -> MembershipOut:
    """Give a user a role."""
    membership = service.grant_role(
        session, actor, user=body.user, role=body.role, project=body.project, days=body.days, lasting=body.lasting
    )
    session.refresh(membership, ["expires_at", "created_at"])
    return membership_out(membership)


@router.get("/memberships")
def list_memberships(
    session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_READ)], ask: Annotated[Ask, asking(MEMBERSHIPS)]
) -> Page[MembershipOut]:
    """Roles that are not revoked."""
    query = (
        visible(actor, Membership)
        .where(Membership.revoked_at.is_(None))
        .options(joinedload(Membership.user), joinedload(Membership.project))
    )
    return page_of(session, query, ask, membership_out)


@router.get("/memberships/{membership_id}")
def get_membership(session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_READ)], membership_id: UUID) -> MembershipOut:
    """One role that is not revoked."""
    return membership_out(service.find_membership(session, actor, membership_id))


@router.delete("/memberships/{membership_id}", responses=responses(PreconditionFailed, LastAdministrator))
def revoke_role(
    session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_MANAGE)], membership_id: UUID, match: IfMatch
) -> MembershipOut:
    """End a role now."""
    match.check(session, service.find_membership(session, actor, membership_id))
    return membership_out(service.revoke_role(session, actor, membership_id=membership_id))


@router.post("/users/{user}/tokens", status_code=201, responses=responses(TokenForAnother, UserErased))
def issue_token(
    session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_MANAGE)], user: str, body: IssueToken
) -> IssuedToken:
    """A token for a user; where people log in at an identity provider, for a service account. The secret is in this answer alone."""
    owner = service.find_user(session, actor, user)
    if get_provider() is not None and owner.kind == UserKind.HUMAN and owner.id != actor.id:
        raise TokenForAnother(owner.name)
    secret, token = service.issue_token(
        session, actor, user=owner, name=body.name, days=body.days, scopes=body.scopes, environment=body.environment, networks=body.networks
    )
    return IssuedToken(token=secret, details=token_out(token))


@router.post("/tokens", status_code=201, responses=responses(OwnTokenNeedsLogin))
def issue_own_token(session: SessionDep, actor: CurrentActor, body: IssueToken) -> IssuedToken:
    """A token of one's own, made with a login at the identity provider; the secret is in this answer and nowhere else."""
    if actor.login is None:
        raise OwnTokenNeedsLogin
    owner = service.find_user(session, actor, actor.name)
    secret, token = service.issue_token(
        session, actor, user=owner, name=body.name, days=body.days, scopes=body.scopes, environment=body.environment, networks=body.networks
    )
    return IssuedToken(token=secret, details=token_out(token))


@router.get("/tokens")
def list_tokens(session: SessionDep, actor: CurrentActor, ask: Annotated[Ask, asking(TOKENS)]) -> Page[TokenOut]:
    """The caller's tokens; an identity_admin sees the organisation's, a narrowed token only itself."""
    return page_of(session, service.tokens_in_sight(actor), ask, token_out)


@router.get("/tokens/{token_id}")
def get_token(session: SessionDep, actor: CurrentActor, token_id: UUID) -> TokenOut:
    """One token, without its secret."""
    return token_out(service.find_token(session, actor, token_id))


@router.put("/tokens/{token_id}/limits", responses=responses(PreconditionFailed))
def limit_token(
    session: SessionDep, actor: Annotated[Actor, allowed(Permission.IDENTITY_MANAGE)], token_id: UUID, body: LimitToken, match: IfMatch
) -> TokenOut:
    """Set how many requests a minute a token may send."""
    token = service.find_token(session, actor, token_id)
    match.check(session, token)
    return token_out(service.limit_token(session, actor, token=token, requests_per_minute=body.requests_per_minute))


@router.delete("/tokens/{token_id}", responses=responses(PreconditionFailed, TokenRevoked))
def revoke_token(session: SessionDep, actor: CurrentActor, token_id: UUID, match: IfMatch) -> TokenOut:
    """End a token now."""
    match.check(session, service.find_token(session, actor, token_id))
    return token_out(service.revoke_token(session, actor, token_id=token_id))
