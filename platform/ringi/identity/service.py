"""Create organisations, projects and users, grant roles, issue and revoke tokens, and turn a token into an Actor."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Select, Uuid, column, func, or_, select, table, update
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.identity import addresses, terms, tokens
from ringi.identity.models import Membership, Organization, Project, Token, User
from ringi.identity.permissions import ORGANIZATION_ROLES, Permission, exclusions, visible
from ringi.identity.records import membership_record, token_record
from ringi.identity.refusals import (
    LimitTooHigh,
    NameTaken,
    ReservedName,
    RoleAlreadyHeld,
    RoleExcluded,
    TokenRevoked,
    UnknownScope,
    UserErased,
    WiderToken,
    WrongRoleScope,
    require_own_name,
)
from ringi.identity.schemas import Role, UserKind
from ringi.kit.actor import Actor
from ringi.kit.errors import NotFound
from ringi.kit.ids import uuid_in
from ringi.settings import get_settings

# First halves of hub paths that mean something else: base models, and the hub's own routes.
RESERVED_PROJECTS = frozenset({"api", "bases"})
# What pulling reads on its way: the project and its channel, and the base models of the organisation.
# The quotas of projects stand above this domain (docs/decisions/0004 has the same for channels), so the table is named by its columns.
_QUOTAS = table("project_quotas", column("project_id", Uuid), column("requests_per_minute", Integer))


def create_organization(session: Session, actor: Actor, *, name: str, display_name: str, admin: str) -> tuple[Organization, User]:
    """A new tenant with an administrator of identities and of the system."""
    if session.scalar(select(Organization.id).where(Organization.name == name)) is not None:
        raise NameTaken("organization", name)
    require_own_name(admin)
    organization = Organization(name=name, display_name=display_name)
    session.add(organization)
    session.flush()  # organization.id goes into the user
    user = User(organization_id=organization.id, name=admin, kind=UserKind.HUMAN)
    session.add(user)
    session.flush()  # user.id goes into the roles
    audit.record(
        session, actor, AuditAction.ORGANIZATION_CREATE, object_type="organization", object_id=organization.id,
        organization_id=organization.id,
    )  # fmt: skip
    audit.record(
        session, actor, AuditAction.USER_CREATE, object_type="user", object_id=user.id, organization_id=organization.id,
        details={"kind": user.kind},
    )  # fmt: skip
    for role in (Role.IDENTITY_ADMIN, Role.SYSTEM_ADMIN):
        first = Membership(organization_id=organization.id, user_id=user.id, role=role, granted_by=actor.id)
        session.add(first)
        session.flush()  # its id goes into the audit event
        _note_grant(session, actor, first)
    return organization, user


def create_project(session: Session, actor: Actor, *, name: str, display_name: str) -> Project:
    """A new project of the caller's organisation."""
    if name in RESERVED_PROJECTS:
        raise ReservedName(name)
    # unscoped: a name can be taken by a project that the caller may not see; the query names the organisation itself.
    taken = select(Project.id).where(Project.organization_id == actor.organization_id, Project.name == name)
    if session.scalar(taken) is not None:
        raise NameTaken("project", name)
    project = Project(organization_id=actor.organization_id, name=name, display_name=display_name)
    session.add(project)
    session.flush()  # project.id goes into the audit event
    audit.record(session, actor, AuditAction.PROJECT_CREATE, object_type="project", object_id=project.id, project_id=project.id)
    return project


def create_user(session: Session, actor: Actor, *, name: str, display_name: str, kind: UserKind) -> User:
    """A new user without any role. Raises ReservedName, NameTaken."""
    require_own_name(name)
    if session.scalar(visible(actor, User).where(User.name == name)) is not None:
        raise NameTaken("user", name)
    user = User(organization_id=actor.organization_id, name=name, display_name=display_name, kind=kind)
    session.add(user)
    session.flush()  # user.id goes into the audit event
    audit.record(session, actor, AuditAction.USER_CREATE, object_type="user", object_id=user.id, details={"kind": kind})
    return user


def find_user(session: Session, actor: Actor, name: str) -> User:
    """A user of the caller's organisation by name, or by the id under which the log tells of them."""
    user = session.scalars(visible(actor, User).where(User.name == name)).one_or_none()
    if user is None and (user_id := uuid_in(name)) is not None:
        user = session.scalars(visible(actor, User).where(User.id == user_id)).one_or_none()
    if user is None:
        raise NotFound("user", name)
    return user


def find_project(session: Session, actor: Actor, name: str) -> Project:
    """A project that the caller may see, by name."""
    project = session.scalars(visible(actor, Project).where(Project.name == name)).one_or_none()
    if project is None:
        raise NotFound("project", name)
    return project


def find_limited_project(session: Session, actor: Actor, name: str) -> tuple[Project, int | None]:
    """The same with its requests a minute, which `quotas` sets further up; None is no limit."""
    query = visible(actor, Project).where(Project.name == name).add_columns(_QUOTAS.c.requests_per_minute)
    row = session.execute(query.outerjoin(_QUOTAS, _QUOTAS.c.project_id == Project.id)).one_or_none()
    if row is None:
        raise NotFound("project", name)
    return row[0], row[1]


def find_membership(session: Session, actor: Actor, membership_id: UUID) -> Membership:
    """A role of the caller's organisation that is not revoked."""
    query = visible(actor, Membership).where(Membership.id == membership_id, Membership.revoked_at.is_(None))
    membership = session.scalars(query.options(joinedload(Membership.user), joinedload(Membership.project))).one_or_none()
    if membership is None:
        raise NotFound("membership", membership_id)
    return membership


def tokens_in_sight(actor: Actor) -> Select[Token]:
    """The caller's tokens; an identity_admin sees the organisation's, a narrowed token only itself."""
    query = visible(actor, Token).options(joinedload(Token.user))
    if not actor.may(Permission.IDENTITY_READ):
        query = query.where(Token.user_id == actor.id)
    if actor.scopes is not None:
        query = query.where(Token.id == actor.token_id)
    return query


def find_token(session: Session, actor: Actor, token_id: UUID) -> Token:
    """A token in sight."""
    token = session.scalars(tokens_in_sight(actor).where(Token.id == token_id)).one_or_none()
    if token is None:
        raise NotFound("token", token_id)
    return token


def current_roles(user_id: UUID | InstrumentedAttribute[UUID]) -> list[ColumnElement[bool]]:
    """Conditions of the roles that count now: not revoked, not expired by database time."""
    return [
        Membership.user_id == user_id,
        Membership.revoked_at.is_(None),
        or_(Membership.expires_at.is_(None), Membership.expires_at > func.clock_timestamp()),
    ]


def grant_role(
    session: Session, actor: Actor, *, user: str, role: Role, project: str | None, days: int | None, lasting: bool = False
) -> Membership:
    """Give a role; refuses combinations that E1 excludes. The user row is locked so that two grants at once see each other."""
    days = terms.days_of(session, actor, role, days, lasting=lasting)
    if (role in ORGANIZATION_ROLES) == (project is not None):
        raise WrongRoleScope(role)
    target = session.scalars(visible(actor, User).where(User.name == user).with_for_update()).one_or_none()
    if target is None:
        raise NotFound("user", user)
    if target.erased_at is not None:
        raise UserErased(user)
    scope = find_project(session, actor, project) if project else None
    # unscoped: the caller holds the user already.
    held = session.scalars(select(Membership).where(*current_roles(target.id))).all()
    for other in held:
        same_place = other.project_id is None or scope is None or other.project_id == scope.id
        if same_place and other.role in exclusions(role):
            raise RoleExcluded(user, role, Role(other.role))
        # A role that one gave oneself counts for no vote, so someone else may give it again.
        worth_repeating = other.granted_by == target.id != actor.id
        same = other.role == role and other.project_id == (scope.id if scope else None)
        if same and other.expires_at is None and not worth_repeating:
            raise RoleAlreadyHeld(user, role)
    membership = Membership(
        organization_id=actor.organization_id, user_id=target.id, user=target, project_id=scope.id if scope else None, project=scope, role=role,
        granted_by=actor.id, expires_at=func.clock_timestamp() + timedelta(days=days) if days else None,
    )  # fmt: skip
    session.add(membership)
    session.flush()  # membership.id goes into the audit event
    session.refresh(membership, ["expires_at"])
    _note_grant(session, actor, membership, days=days)
    return membership


def _note_grant(session: Session, actor: Actor, membership: Membership, *, days: int | None = None) -> None:
    audit.record(
        session, actor, AuditAction.MEMBERSHIP_GRANT, object_type="membership", object_id=membership.id, project_id=membership.project_id,
        organization_id=membership.organization_id, record=membership_record(membership),
        details={"user": str(membership.user_id), "role": membership.role, "days": days},
    )  # fmt: skip


def counted_roles(session: Session, *, user_id: UUID, project_id: UUID) -> frozenset[Role]:
    """Roles that a user holds now in a project and that someone else gave them: a role granted to oneself never counts (A3.3)."""
    # unscoped: the platform itself asks whether a vote counts, of a user and a project that it holds.
    held = select(Membership.role).where(*current_roles(user_id), Membership.project_id == project_id, Membership.granted_by != user_id)
    held = held.join(User, User.id == Membership.user_id).where(User.disabled_at.is_(None))
    return frozenset(Role(role) for role in session.scalars(held))


def revoke_role(session: Session, actor: Actor, *, membership_id: UUID) -> Membership:
    """End a role now. Raises NotFound, LastAdministrator."""
    held = session.scalars(visible(actor, Membership).where(Membership.id == membership_id)).one_or_none()
    if held is not None and held.role == Role.IDENTITY_ADMIN:
        terms.require_administrator(session, held.organization_id, without=held.user_id, but=held.id)
    ended = session.scalars(
        update(Membership)
        .where(Membership.id == membership_id, Membership.organization_id == actor.organization_id, Membership.revoked_at.is_(None))
        .values(revoked_at=func.clock_timestamp())
        .returning(Membership)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if ended is None:
        raise NotFound("membership", membership_id)
    audit.record(
        session, actor, AuditAction.MEMBERSHIP_REVOKE, object_type="membership", object_id=ended.id, project_id=ended.project_id,
        record=membership_record(ended),
    )  # fmt: skip
    # unscoped: the row that was just ended, in the caller's organisation.
    return session.scalars(
        select(Membership).where(Membership.id == ended.id).options(joinedload(Membership.user), joinedload(Membership.project))
    ).one()


def issue_token(
    session: Session, actor: Actor, *, user: User, name: str, days: int, scopes: list[str] | None = None, environment: str | None = None,
    networks: list[str] | None = None,
) -> tuple[str, Token]:  # fmt: skip
    """A new token for `user`; the secret is returned here and never again. A narrowed token makes none that allows more than itself."""
    if user.erased_at is not None:
        raise UserErased(user.name)
    if scopes and (unknown := sorted(set(scopes) - set(Permission))):
        raise UnknownScope(unknown)
    wider = actor.scopes is not None and (scopes is None or not actor.scopes.issuperset(scopes))
    wider = wider or (actor.environment is not None and environment != actor.environment)
    if wider or not addresses.narrows(networks, actor.networks):
        raise WiderToken
    secret = tokens.draw()
    token = Token(
        organization_id=user.organization_id, user_id=user.id, user=user, name=name, prefix=secret[:10], secret_hash=tokens.hashed(secret),
        scopes=scopes, environment=environment, networks=networks, expires_at=func.clock_timestamp() + timedelta(days=days),
    )  # fmt: skip
    session.add(token)
    session.flush()  # token.id goes into the audit event
    session.refresh(token, ["expires_at", "created_at", "row_version"])
    audit.record(
        session, actor, AuditAction.TOKEN_ISSUE, object_type="token", object_id=token.id, organization_id=user.organization_id,
        record=token_record(token), details={"user": str(user.id), "days": days, "networks": len(networks) if networks else None},
    )  # fmt: skip
    return secret, token


def revoke_token(session: Session, actor: Actor, *, token_id: UUID) -> Token:
    """End a token now; its owner and an identity_admin may, but with a narrowed token only that token itself. Raises NotFound, TokenRevoked."""
    mine = [Token.id == token_id, Token.organization_id == actor.organization_id]
    if not actor.may(Permission.IDENTITY_MANAGE):
        mine.append(Token.user_id == actor.id)
    if actor.scopes is not None:
        mine.append(Token.id == actor.token_id)
    if not revoke_tokens(session, actor, *mine):
        # unscoped: `mine` names the caller's organisation.
        earlier = session.scalars(select(Token.revoked_at).where(*mine)).one_or_none()
        raise NotFound("token", token_id) if earlier is None else TokenRevoked(earlier)
    # unscoped: the row that was just ended, in the caller's organisation.
    return session.scalars(select(Token).where(Token.id == token_id).options(joinedload(Token.user))).one()


def revoke_tokens(session: Session, actor: Actor, *where: ColumnElement[bool]) -> int:
    """End every token of which `where` holds and that has not ended; returns how many. Who may is the caller's business."""
    ending = update(Token).where(*where, Token.revoked_at.is_(None)).values(revoked_at=func.clock_timestamp())
    ended = session.scalars(ending.returning(Token).execution_options(populate_existing=True)).all()
    for token in ended:
        audit.record(session, actor, AuditAction.TOKEN_REVOKE, object_type="token", object_id=token.id, record=token_record(token))
    return len(ended)


def limit_token(session: Session, actor: Actor, *, token: Token, requests_per_minute: int | None) -> Token:
    """Set how many requests a minute a token may send, at most as many as the deployment lets any token send. Raises LimitTooHigh."""
    most = get_settings().requests_per_minute
    if most and requests_per_minute is not None and not 0 < requests_per_minute <= most:
        raise LimitTooHigh(most)
    token.requests_per_minute = requests_per_minute
    session.flush()  # the answer shows the new row version
    audit.record(
        session, actor, AuditAction.TOKEN_LIMIT, object_type="token", object_id=token.id, record=token_record(token),
        details={"requests_per_minute": requests_per_minute},
    )  # fmt: skip
    return token
