"""Who a user is at the identity provider, and whether the user may still come in."""

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.identity.models import User
from ringi.identity.provider import get_provider
from ringi.identity.refusals import (
    DisablingOneself,
    NoIdentityProvider,
    NotAPerson,
    SubjectInUse,
    SubjectSet,
    UserDisabled,
    UserEnabled,
)
from ringi.identity.schemas import UserKind
from ringi.kit.actor import Actor


def link(session: Session, actor: Actor, user: User, subject: str) -> User:
    """Say who a person is at the identity provider, once: whoever could change it could act as that person.

    Raises NoIdentityProvider, NotAPerson, SubjectSet, SubjectInUse.
    """
    provider = get_provider()
    if provider is None:
        raise NoIdentityProvider
    if user.kind != UserKind.HUMAN:
        raise NotAPerson(user.name)
    if user.subject is not None:
        raise SubjectSet(user.name)
    user.issuer, user.subject = provider.issuer, subject
    try:
        session.flush()  # the answer shows the new row version
    except IntegrityError as error:
        # One person is one user of the whole deployment, so that nobody fills two seats; the other one may be out of the caller's sight.
        raise SubjectInUse from error
    audit.record(session, actor, AuditAction.USER_LINK, object_type="user", object_id=user.id, organization_id=user.organization_id)
    return user


def disable(session: Session, actor: Actor, user: User) -> User:
    """From now on no token and no login of this user is believed, and no vote of theirs counts. Raises UserDisabled, DisablingOneself."""
    if user.id == actor.id:
        raise DisablingOneself
    if user.disabled_at is not None:
        raise UserDisabled(user.name)
    user.disabled_at = session.scalar(select(func.clock_timestamp()))
    session.flush()  # the answer shows the new row version
    audit.record(session, actor, AuditAction.USER_DISABLE, object_type="user", object_id=user.id)
    return user


def enable(session: Session, actor: Actor, user: User) -> User:
    """Let a disabled user in again, with the roles and tokens that have not ended meanwhile. Raises UserEnabled."""
    if user.disabled_at is None:
        raise UserEnabled(user.name)
    user.disabled_at = None
    session.flush()  # the answer shows the new row version
    audit.record(session, actor, AuditAction.USER_ENABLE, object_type="user", object_id=user.id)
    return user
