"""From a token to the Actor behind it, in one question."""

from collections import defaultdict
from datetime import timedelta
from uuid import UUID

from sqlalchemy import and_, bindparam, func, select, update
from sqlalchemy.orm import Session, joinedload

from ringi.db import callers
from ringi.db.session import NOTED
from ringi.identity import tokens
from ringi.identity.models import Membership, Token
from ringi.identity.permissions import FOR_PEOPLE, ORGANIZATION_ROLES, PROJECT_ROLES, Permission
from ringi.identity.schemas import Role, UserKind
from ringi.identity.service import current_roles
from ringi.kit.actor import Actor, ActorKind
from ringi.kit.errors import Unauthenticated
from ringi.observe import context

_IMPLIED: dict[str, frozenset[str]] = {Permission.RELEASE_PULL: frozenset({Permission.PROJECT_READ, Permission.ORGANIZATION_READ})}
_THE_CALLER = (
    # unscoped: there is no caller yet; the secret is the right to its own row, and the caller's own roles make what the caller may see.
    select(Token, Membership, func.clock_timestamp().label("now"))
    .outerjoin(Membership, and_(*current_roles(Token.user_id)))
    .where(Token.secret_hash == bindparam("hash"))
    .options(joinedload(Token.user))
)


def authenticate(session: Session, secret: str | None, *, request_id: str | None = None) -> Actor:
    """The Actor behind a token; Unauthenticated says whether it is missing, invalid, expired or revoked."""
    if secret is None:
        raise Unauthenticated
    proof = tokens.hashed(secret)
    callers.present(proof)
    if not tokens.well_formed(secret) or not (rows := session.execute(_THE_CALLER, {"hash": proof}).all()):
        raise Unauthenticated("The token is not one of this platform's.", reason="invalid")
    token, now = rows[0].Token, rows[0].now
    if token.revoked_at is not None or token.user.disabled_at is not None:
        raise Unauthenticated("The token was revoked.", reason="revoked")
    if token.expires_at <= now:
        raise Unauthenticated(f"The token expired at {token.expires_at:%Y-%m-%d %H:%M:%S} UTC.", reason="expired")
    # Once a minute is precise enough to find unused tokens, and it keeps reads from becoming writes.
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        # SKIP LOCKED: of two requests at once one writes it, and neither waits for the other to end.
        # unscoped: as above.
        free = select(Token.id).where(Token.id == token.id).with_for_update(skip_locked=True).scalar_subquery()
        session.execute(
            update(Token).where(Token.id == free).values(last_used_at=now).execution_options(synchronize_session=False, **NOTED)
        )
    context.note(actor=token.user_id, organization=token.organization_id)
    return _actor_of(token, [row.Membership for row in rows if row.Membership is not None], request_id)


def _actor_of(token: Token, memberships: list[Membership], request_id: str | None) -> Actor:
    scopes = None
    if token.scopes is not None:
        named: frozenset[str] = frozenset(token.scopes)
        scopes = named.union(*(_IMPLIED.get(scope, frozenset()) for scope in named))
    allowed = frozenset(Permission) if scopes is None else scopes
    if token.user.kind == UserKind.SERVICE:
        allowed -= FOR_PEOPLE
    in_organization: set[str] = set()
    in_projects: dict[UUID, set[str]] = defaultdict(set)
    for membership in memberships:
        role = Role(membership.role)
        if membership.project_id is None:
            in_organization |= ORGANIZATION_ROLES[role] & allowed
        else:
            in_projects[membership.project_id] |= PROJECT_ROLES[role] & allowed
    return Actor(
        kind=ActorKind.SERVICE if token.user.kind == UserKind.SERVICE else ActorKind.USER,
        id=token.user_id, name=token.user.name, organization_id=token.organization_id, token_id=token.id, environment=token.environment,
        organization_permissions=frozenset(in_organization), project_permissions={key: frozenset(value) for key, value in in_projects.items()},
        scopes=scopes, request_id=request_id,
        requests_per_minute=token.requests_per_minute,
    )  # fmt: skip
