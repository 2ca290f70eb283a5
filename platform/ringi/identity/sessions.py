"""Sessions of browsers: a random secret in a cookie, its hash in a table, and everything else here (docs/decisions/0017).

A session ends after a while without a request, at its own end, at the logout, with its user, or when somebody who may ends it. A login always
makes a new one, so that nobody waits in a session that they planted.
"""

import hmac
import re
import secrets
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, false, func, or_, select, update
from sqlalchemy.orm import Session, joinedload

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.db.session import NOTED, platform_transaction
from ringi.identity import step_up, tokens
from ringi.identity.models import BrowserSession, User
from ringi.identity.permissions import Permission, visible
from ringi.kit.actor import Actor, ActorKind, Login, system_actor
from ringi.kit.errors import NotFound, ShownToken, Unauthenticated
from ringi.settings import get_settings

_PREFIX = "rgs_"
_FORM = re.compile(r"rgs_[0-9A-Za-z_-]{43}")
# Those that are over are shown for a while, then they are forgotten.
KEPT_AFTER_ITS_END = timedelta(days=7)
SEEN_EVERY = timedelta(minutes=1)


class SessionOver(Unauthenticated):
    """The browser's session has ended."""

    code = "session_over"

    def __init__(self, what: str, *, reason: str, of: BrowserSession | None = None) -> None:
        shown = ShownToken(of.id, of.organization_id, "session") if of is not None else None
        super().__init__(f"The session of this browser is over: {what}.", reason=reason, token=shown)
        self.next_step = "Log in again: /auth/login."


class LoginOfNobody(Exception):
    """Nobody here has that subject, or they were disabled; `reason` says which, and `who` who it was."""

    def __init__(self, reason: str, who: ShownToken | None = None) -> None:
        super().__init__(reason)
        self.reason, self.who = reason, who


class Begun(NamedTuple):
    """A new session: what the browser keeps, and for how long."""

    secret: str
    lasts_s: float


def well_formed(secret: str) -> bool:
    """Whether it has the form of a session's secret."""
    return _FORM.fullmatch(secret) is not None


def csrf_token(secret: str) -> str:
    """What a page of ours shows with every change: of this session alone, and nothing that leads back to its secret."""
    return hmac.digest(secret.encode(), b"ringi csrf token 1", "sha256").hex()


def begin(login: Login, subject: str, *, earlier: str | None, request_id: str | None) -> Begun:
    """A new session of the person who logged in; `earlier` is the secret of the browser's last one, which ends. Raises LoginOfNobody."""
    secret, lasts_s = _PREFIX + secrets.token_urlsafe(32), get_settings().session_s
    with platform_transaction() as session:
        # unscoped: there is no caller yet; the provider's signature over the subject is the right to the row of that subject.
        user = session.scalars(select(User).where(User.issuer == login.issuer, User.subject == subject).with_for_update()).one_or_none()
        if user is None:
            raise LoginOfNobody("unknown_subject")
        if user.disabled_at is not None:
            raise LoginOfNobody("disabled", ShownToken(user.id, user.organization_id, "user"))
        actor = Actor(ActorKind.USER, user.id, user.name, user.organization_id, login=login, request_id=request_id)
        if earlier is not None:
            _end_earlier(session, actor, earlier)
        made = BrowserSession(
            organization_id=user.organization_id, user_id=user.id, secret_hash=tokens.hashed(secret), issuer=login.issuer, acr=login.acr,
            amr=list(login.amr), logged_in_at=login.at, ends_at=func.clock_timestamp() + timedelta(seconds=lasts_s),
        )  # fmt: skip
        session.add(made)
        session.flush()  # its id goes into the audit event
        audit.record(session, actor, AuditAction.SESSION_BEGIN, object_type="session", object_id=made.id)
    return Begun(secret, lasts_s)


def check(found: BrowserSession, user: User, now: datetime) -> Login:
    """The login behind a session at `now`. Raises SessionOver."""
    if found.ended_at is not None or user.disabled_at is not None:
        raise SessionOver("it was ended", reason="revoked", of=found)
    idle = timedelta(seconds=get_settings().session_idle_s)
    if found.ends_at <= now or found.last_seen_at + idle <= now:
        raise SessionOver("its time has run out", reason="session_expired", of=found)
    age_s = None if found.logged_in_at is None else (now - found.logged_in_at).total_seconds()
    return Login(issuer=found.issuer, acr=found.acr, amr=tuple(found.amr), at=found.logged_in_at, age_s=age_s)


def note_use(session: Session, found: BrowserSession, now: datetime) -> None:
    """Once a minute is precise enough for an end in hours, and keeps reads from becoming writes."""
    if now - found.last_seen_at <= SEEN_EVERY:
        return
    # SKIP LOCKED: of two requests at once one writes it, and neither waits for the other to end.
    # unscoped: the caller's own session.
    free = select(BrowserSession.id).where(BrowserSession.id == found.id).with_for_update(skip_locked=True).scalar_subquery()
    noting = update(BrowserSession).where(BrowserSession.id == free).values(last_seen_at=now)
    session.execute(noting.execution_options(synchronize_session=False, **NOTED))


def end(session: Session, actor: Actor, *where: ColumnElement[bool]) -> int:
    """End every session of which `where` holds and that has not ended; returns how many. Who may is the caller's business."""
    ending = update(BrowserSession).where(*where, BrowserSession.ended_at.is_(None)).values(ended_at=func.clock_timestamp())
    ended = session.scalars(ending.returning(BrowserSession.id).execution_options(synchronize_session=False)).all()
    for session_id in ended:
        audit.record(session, actor, AuditAction.SESSION_END, object_type="session", object_id=session_id)
    return len(ended)


def _end_earlier(session: Session, actor: Actor, secret: str) -> None:
    """The browser's last session, whoever's it was: its cookie is about to be lost, and nobody could log it out any more."""
    # unscoped: the secret of the browser's cookie is the right to its own row; the entry goes to the organisation that the session was of.
    ending = update(BrowserSession).where(BrowserSession.secret_hash == tokens.hashed(secret), BrowserSession.ended_at.is_(None))
    ended = ending.values(ended_at=func.clock_timestamp()).returning(
        BrowserSession.id, BrowserSession.user_id, BrowserSession.organization_id
    )
    for session_id, user_id, organization_id in session.execute(ended.execution_options(synchronize_session=False)):
        # Who came after them, the organisation of the other session is not told.
        by = actor if user_id == actor.id else replace(system_actor("authentication"), request_id=actor.request_id)
        audit.record(
            session, by, AuditAction.SESSION_END, object_type="session", object_id=session_id, organization_id=organization_id
        )  # fmt: skip


def in_sight(actor: Actor) -> Select[BrowserSession]:
    """The caller's sessions; an identity_admin sees the organisation's, and a narrowed token none."""
    query = visible(actor, BrowserSession).options(joinedload(BrowserSession.user))
    if not actor.may(Permission.IDENTITY_READ):
        query = query.where(BrowserSession.user_id == actor.id)
    return query.where(false()) if actor.scopes is not None else query


def end_one(session: Session, actor: Actor, session_id: UUID) -> BrowserSession:
    """End a session of one's own, or, for an identity_admin with a fresh login, of anybody in the organisation. Raises NotFound, FreshLoginNeeded."""
    if actor.scopes is not None:
        raise NotFound("session", session_id)
    of_organization = [BrowserSession.id == session_id, BrowserSession.organization_id == actor.organization_id]
    if not end(session, actor, *of_organization, BrowserSession.user_id == actor.id):
        if not actor.may(Permission.IDENTITY_MANAGE):
            raise NotFound("session", session_id)
        step_up.check(actor, Permission.IDENTITY_MANAGE)
        if not end(session, actor, *of_organization):
            raise NotFound("session", session_id)
    # unscoped: the row that was just ended, in the caller's organisation.
    query = select(BrowserSession).where(BrowserSession.id == session_id).options(joinedload(BrowserSession.user))
    return session.scalars(query.execution_options(populate_existing=True)).one()


def purge(session: Session, *, batch: int = 1000) -> int:
    """Forget what has been over for a week, so many at once; returns how many."""
    before = func.clock_timestamp() - KEPT_AFTER_ITS_END
    # unscoped: housekeeping of all organisations.
    over = select(BrowserSession.id).where(or_(BrowserSession.ended_at < before, BrowserSession.ends_at < before))
    some = over.order_by(BrowserSession.ends_at).limit(batch)
    return len(session.scalars(delete(BrowserSession).where(BrowserSession.id.in_(some)).returning(BrowserSession.id)).all())
