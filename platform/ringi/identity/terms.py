"""For how long roles are held (governance E1, AISVS 5.2.6), and that an organisation cannot lock itself out by it."""

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from ringi.identity.models import Membership, Organization, User
from ringi.identity.permissions import PRIVILEGED, PRIVILEGED_MAX_DAYS
from ringi.identity.refusals import LastAdministrator, LastingRoleRefused, RoleTooLong
from ringi.identity.schemas import Role, UserKind
from ringi.kit.actor import Actor
from ringi.settings import get_settings


def _lasting_administrators(organization_id: UUID) -> Select[UUID]:
    """Who can hand out roles whatever ends: people with identity_admin without an end. Taken under the organisation's lock."""
    # unscoped: the query names the organisation itself.
    held = select(Membership.user_id).join(User, User.id == Membership.user_id).where(User.disabled_at.is_(None))
    lasting = (Membership.role == Role.IDENTITY_ADMIN, Membership.expires_at.is_(None), Membership.revoked_at.is_(None))
    return held.where(Membership.organization_id == organization_id, User.kind == UserKind.HUMAN, *lasting)


def require_administrator(session: Session, organization_id: UUID, *, without: UUID, but: UUID | None = None) -> None:
    """Raises LastAdministrator when nobody but user `without` is one; their role `but` is what is about to end, all of them by default."""
    # unscoped: as above. Of two that end at once, the second sees the first.
    session.execute(select(Organization.id).where(Organization.id == organization_id).with_for_update(key_share=True))
    lasting = _lasting_administrators(organization_id)
    theirs = lasting.where(User.id == without)
    if session.scalar(theirs.limit(1) if but is None else theirs.where(Membership.id == but)) is None:
        return
    others = lasting.where(User.id != without) if but is None else lasting.where(Membership.id != but)
    if session.scalar(others.limit(1)) is None:
        raise LastAdministrator


def days_of(session: Session, actor: Actor, role: Role, days: int | None, *, lasting: bool) -> int | None:
    """For how long a role is given; None is without an end. Raises RoleTooLong, LastingRoleRefused."""
    if lasting:
        givers = _lasting_administrators(actor.organization_id) if actor.organization_id else None
        if role is not Role.IDENTITY_ADMIN or days is not None or givers is None or actor.id not in session.scalars(givers).all():
            raise LastingRoleRefused
        return None
    if role not in PRIVILEGED:
        return days
    if days is not None and days > PRIVILEGED_MAX_DAYS:
        raise RoleTooLong(role, PRIVILEGED_MAX_DAYS)
    return days or get_settings().privileged_role_days
