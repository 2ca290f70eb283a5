"""Who a user is at the identity provider, whether the user may still come in, and that an erased one never does."""

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ringi.audit import personal
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.identity import service, sessions, terms
from ringi.identity.models import BrowserSession, Membership, Token, User
from ringi.identity.provider import get_provider
from ringi.identity.refusals import (
    DisablingOneself,
    ErasingOneself,
    IssuerDiffers,
    NoIdentityProvider,
    NotAPerson,
    SubjectInUse,
    SubjectSet,
    UserDisabled,
    UserEnabled,
    UserErased,
)
from ringi.identity.schemas import UserKind
from ringi.kit.actor import Actor


def _hold(session: Session, user: User) -> None:
    """The user's row as it is now, until the transaction ends: whoever changes the same person meanwhile waits, and then sees this change."""
    session.refresh(user, with_for_update=True)


def link(session: Session, actor: Actor, user: User, subject: str, *, issuer: str | None = None) -> User:
    """Say who a person is at the identity provider, once: whoever could change it could act as that person.

    `issuer` names the provider beforehand: once there is one, its logins alone may link people, so somebody must be linked already.
    Raises NoIdentityProvider, IssuerDiffers, NotAPerson, UserErased, SubjectSet, SubjectInUse.
    """
    provider = get_provider()
    if provider is not None and issuer not in {None, provider.issuer}:
        raise IssuerDiffers(provider.issuer)
    issuer = provider.issuer if provider is not None else issuer
    if issuer is None:
        raise NoIdentityProvider
    if user.kind != UserKind.HUMAN:
        raise NotAPerson(user.name)
    _hold(session, user)
    if user.erased_at is not None:
        raise UserErased(user.name)
    if user.subject is not None:
        raise SubjectSet(user.name)
    user.issuer, user.subject, user.subject_seal = issuer, subject, personal.subject_seal(issuer, subject)
    try:
        session.flush()  # the answer shows the new row version
    except IntegrityError as error:
        # One person is one user of the whole deployment, so that nobody fills two seats; the other one may be out of the caller's sight.
        raise SubjectInUse from error
    audit.record(session, actor, AuditAction.USER_LINK, object_type="user", object_id=user.id, organization_id=user.organization_id)
    return user


def disable(session: Session, actor: Actor, user: User) -> User:
    """From now on no token and no login of this user is believed, and no vote of theirs counts.

    Raises UserDisabled, DisablingOneself, LastAdministrator.
    """
    if user.id == actor.id:
        raise DisablingOneself
    _hold(session, user)
    if user.disabled_at is not None:
        raise UserDisabled(user.name)
    terms.require_administrator(session, user.organization_id, without=user.id)
    user.disabled_at = session.scalar(select(func.clock_timestamp()))
    # A session that only slept would wake up when the user is enabled again.
    sessions.end(session, actor, BrowserSession.user_id == user.id)
    session.flush()  # the answer shows the new row version
    audit.record(session, actor, AuditAction.USER_DISABLE, object_type="user", object_id=user.id)
    return user


def enable(session: Session, actor: Actor, user: User) -> User:
    """Let a disabled user in again, with the roles and tokens that have not ended meanwhile. Raises UserEnabled, UserErased."""
    _hold(session, user)
    if user.erased_at is not None:
        raise UserErased(user.name)
    if user.disabled_at is None:
        raise UserEnabled(user.name)
    user.disabled_at = None
    session.flush()  # the answer shows the new row version
    audit.record(session, actor, AuditAction.USER_ENABLE, object_type="user", object_id=user.id)
    return user


def end(session: Session, actor: Actor, user: User) -> None:
    """Before an erasure: end every role and token, and shut the user out for good. Raises ErasingOneself, UserErased."""
    if user.id == actor.id:
        raise ErasingOneself
    _hold(session, user)
    if user.erased_at is not None:
        raise UserErased(user.name)
    terms.require_administrator(session, user.organization_id, without=user.id)
    # unscoped: the caller holds the user already.
    roles = select(Membership.id).where(Membership.user_id == user.id, Membership.revoked_at.is_(None))
    for membership_id in session.scalars(roles).all():
        service.revoke_role(session, actor, membership_id=membership_id)
    service.revoke_tokens(session, actor, Token.user_id == user.id)
    if user.disabled_at is None:
        disable(session, actor, user)
    if user.issuer is not None and user.subject is not None and user.subject_seal is None:
        user.subject_seal = personal.subject_seal(user.issuer, user.subject)
    user.erased_at = session.scalar(select(func.clock_timestamp()))
    session.flush()  # what is blanked next is blanked of erased people alone
