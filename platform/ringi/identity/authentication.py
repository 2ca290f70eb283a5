"""From a token, or a login at the identity provider, to the Actor behind it, in one question."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import and_, bindparam, func, select, update
from sqlalchemy.orm import Session, joinedload

from ringi.db import callers
from ringi.db.session import NOTED
from ringi.identity import access_tokens, logins, sessions, tokens
from ringi.identity.models import BrowserSession, LoginProof, Membership, Token, User
from ringi.identity.permissions import FOR_PEOPLE, ORGANIZATION_ROLES, PROJECT_ROLES, Permission
from ringi.identity.provider import get_provider
from ringi.identity.schemas import Role, UserKind
from ringi.identity.service import current_roles
from ringi.kit.actor import Actor, ActorKind, Login
from ringi.kit.errors import ShownToken, Unauthenticated
from ringi.observe import context

_IMPLIED: dict[str, frozenset[str]] = {Permission.RELEASE_PULL: frozenset({Permission.PROJECT_READ, Permission.ORGANIZATION_READ})}
_BY_SECRET = (
    # unscoped: there is no caller yet; the secret is the right to its own row, and the caller's own roles make what the caller may see.
    select(Token, Membership, func.clock_timestamp().label("now"))
    .outerjoin(Membership, and_(*current_roles(Token.user_id)))
    .where(Token.secret_hash == bindparam("hash"))
    .options(joinedload(Token.user))
)
_BY_LOGIN = (
    # unscoped: as above; the provider's signature is the right to the row of its subject.
    select(User, Membership, func.clock_timestamp().label("now"))
    .join(LoginProof, LoginProof.user_id == User.id)
    .outerjoin(Membership, and_(*current_roles(User.id)))
    .where(LoginProof.proof == bindparam("proof"), User.issuer == bindparam("issuer"), User.subject == bindparam("subject"))
)


_BY_SESSION = (
    # unscoped: as above; the secret of the browser's cookie is the right to its own row.
    select(BrowserSession, User, Membership, func.clock_timestamp().label("now"))
    .join(User, User.id == BrowserSession.user_id)
    .outerjoin(Membership, and_(*current_roles(User.id)))
    .where(BrowserSession.secret_hash == bindparam("hash"))
)


def authenticate(session: Session, secret: str | None, *, request_id: str | None = None, watching: bool = False) -> Actor:
    """The Actor behind a token of this platform, a login at the identity provider, or a session of a browser; where it was shown from is not
    looked at. `watching` is no use of a session: a page that is left open ends like one that was closed.

    Raises Unauthenticated, which says whether it is missing, invalid, expired, revoked or its user disabled, AccessTokenRefused, SessionOver and
    IdentityProviderAway.
    """
    if secret is None:
        raise Unauthenticated
    proof = tokens.hashed(secret)
    callers.present(proof)
    if sessions.well_formed(secret):
        return _in_session(session, proof, request_id, watching=watching)
    if access_tokens.looks_signed(secret):
        return _logged_in(session, secret, proof, request_id)
    if not tokens.well_formed(secret) or not (rows := session.execute(_BY_SECRET, {"hash": proof}).all()):
        raise Unauthenticated("The token is not one of this platform's.", reason="invalid")
    token, now = rows[0].Token, rows[0].now
    if token.revoked_at is not None:
        raise Unauthenticated("The token was revoked.", reason="revoked", token=ShownToken(token.id, token.organization_id))
    if token.user.disabled_at is not None:
        raise Unauthenticated("The user of this token is disabled.", reason="disabled", token=ShownToken(token.id, token.organization_id))
    if token.expires_at <= now:
        ended = f"The token expired at {token.expires_at:%Y-%m-%d %H:%M:%S} UTC."
        raise Unauthenticated(ended, reason="expired", token=ShownToken(token.id, token.organization_id))
    # Once a minute is precise enough to find unused tokens, and it keeps reads from becoming writes.
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        # SKIP LOCKED: of two requests at once one writes it, and neither waits for the other to end.
        # unscoped: as above.
        free = select(Token.id).where(Token.id == token.id).with_for_update(skip_locked=True).scalar_subquery()
        session.execute(
            update(Token).where(Token.id == free).values(last_used_at=now).execution_options(synchronize_session=False, **NOTED)
        )
    shown = _Shown(
        token_id=token.id, scopes=token.scopes, environment=token.environment, requests_per_minute=token.requests_per_minute,
        networks=None if token.networks is None else tuple(token.networks),
    )  # fmt: skip
    return _actor_of(token.user, [row.Membership for row in rows if row.Membership is not None], shown, request_id)


def _logged_in(session: Session, text: str, proof: str, request_id: str | None) -> Actor:
    provider = get_provider()
    if provider is None:
        raise Unauthenticated("This platform has no identity provider, so it believes its own tokens only.", reason="invalid")
    claims = access_tokens.believed(provider, text)
    asked = {"proof": proof, "issuer": claims.issuer, "subject": claims.subject}
    rows = session.execute(_BY_LOGIN, asked).all()
    if not rows:
        # The first request with this token: from now on the database knows whose it is.
        if not logins.remember(proof, issuer=claims.issuer, subject=claims.subject, expires_at=claims.expires_at):
            raise access_tokens.AccessTokenRefused("nobody here has its subject", reason="unknown_subject")
        rows = session.execute(_BY_LOGIN, asked).all()
    user, login = rows[0].User, claims.login(rows[0].now)
    if user.disabled_at is not None:
        raise Unauthenticated("This user is disabled.", reason="disabled")
    return _actor_of(user, [row.Membership for row in rows if row.Membership is not None], _Shown(login=login), request_id)


def _in_session(session: Session, proof: str, request_id: str | None, *, watching: bool) -> Actor:
    provider, rows = get_provider(), session.execute(_BY_SESSION, {"hash": proof}).all()
    if not rows:
        raise sessions.SessionOver("this platform does not know it", reason="invalid")
    found, user, now = rows[0].BrowserSession, rows[0].User, rows[0].now
    login = sessions.check(found, user, now)
    if provider is None or provider.issuer != login.issuer:
        raise sessions.SessionOver("people log in elsewhere now", reason="revoked", of=found)
    if not watching:
        sessions.note_use(session, found, now)
    shown = _Shown(login=login, session_id=found.id)
    return _actor_of(user, [row.Membership for row in rows if row.Membership is not None], shown, request_id)


@dataclass(frozen=True)
class _Shown:
    """What the caller showed, and how it narrows the caller's roles."""

    token_id: UUID | None = None
    login: Login | None = None
    session_id: UUID | None = None
    scopes: list[str] | None = None
    environment: str | None = None
    requests_per_minute: int | None = None
    networks: tuple[str, ...] | None = None


def _actor_of(user: User, memberships: list[Membership], shown: _Shown, request_id: str | None) -> Actor:
    context.note(actor=user.id, organization=user.organization_id)
    scopes = None
    if shown.scopes is not None:
        named: frozenset[str] = frozenset(shown.scopes)
        scopes = named.union(*(_IMPLIED.get(scope, frozenset()) for scope in named))
    allowed = frozenset(Permission) if scopes is None else scopes
    if user.kind == UserKind.SERVICE:
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
        kind=ActorKind.SERVICE if user.kind == UserKind.SERVICE else ActorKind.USER,
        id=user.id, name=user.name, organization_id=user.organization_id, token_id=shown.token_id, login=shown.login,
        session_id=shown.session_id,
        environment=shown.environment, organization_permissions=frozenset(in_organization),
        project_permissions={key: frozenset(value) for key, value in in_projects.items()},
        scopes=scopes, request_id=request_id, requests_per_minute=shown.requests_per_minute, networks=shown.networks,
    )  # fmt: skip
