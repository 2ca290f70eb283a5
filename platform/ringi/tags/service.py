"""Set and remove tags. Each change is an audit event of the thing that carries the tag; a value is free text, so the log commits to it only."""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.kit.actor import Actor
from ringi.kit.errors import Conflict, NotFound
from ringi.kit.ids import uuid7
from ringi.tags.models import Tag
from ringi.tags.schemas import MAX_TAGS, Taggable
from ringi.web.preconditions import Match


class Subject(NamedTuple):
    """What carries the tags: found by the caller, who may see it."""

    kind: Taggable
    id: UUID
    organization_id: UUID
    project_id: UUID | None


class TooManyTags(Conflict):
    """A thing is described, not filled."""

    code = "too_many_tags"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"A thing carries at most {limit} tags.", next_step="Remove one, or set one that it has.", details={"limit": limit}
        )


def of(session: Session, subject: Subject) -> list[Tag]:
    """All tags, by key."""
    # unscoped: the caller holds the subject already.
    return list(session.scalars(select(Tag).where(Tag.object_id == subject.id).order_by(Tag.key)))


def put(session: Session, actor: Actor, subject: Subject, *, key: str, value: str, match: Match) -> Tag:
    """Give `key` this value; nothing changes, and nothing is logged, when it has it already. Raises TooManyTags, PreconditionFailed."""
    _require(session, subject, key, match)
    # One at a time for a thing, until the commit: two that add at once would both find room for one.
    session.execute(select(func.pg_advisory_xact_lock(subject.id.int >> 65)))
    count = session.scalar(select(func.count()).select_from(Tag).where(Tag.object_id == subject.id, Tag.key != key))
    if (count or 0) >= MAX_TAGS:
        raise TooManyTags(MAX_TAGS)
    new = insert(Tag).values(
        id=uuid7(), organization_id=subject.organization_id, project_id=subject.project_id, object_type=subject.kind, object_id=subject.id,
        key=key, value=value, set_by=actor.id,
    )  # fmt: skip
    changed = session.scalar(
        new.on_conflict_do_update(
            index_elements=["object_id", "key"], set_={"value": value, "set_by": actor.id, "set_at": func.clock_timestamp()},
            where=Tag.value != value,
        ).returning(Tag.id)
    )  # fmt: skip
    if changed is not None:
        _record(session, actor, AuditAction.TAG_SET, subject, key, value)
    # unscoped: the caller holds the subject already.
    query = select(Tag).where(Tag.object_id == subject.id, Tag.key == key)
    return session.scalars(query.execution_options(populate_existing=True)).one()


def remove(session: Session, actor: Actor, subject: Subject, *, key: str, match: Match) -> Tag:
    """Take a tag away. Raises NotFound when there is none of this key, PreconditionFailed."""
    _require(session, subject, key, match)
    removed = session.scalars(delete(Tag).where(Tag.object_id == subject.id, Tag.key == key).returning(Tag)).one_or_none()
    if removed is None:
        raise NotFound("tag", key)
    _record(session, actor, AuditAction.TAG_REMOVE, subject, key, None)
    return removed


def _require(session: Session, subject: Subject, key: str, match: Match) -> None:
    if match.versions is None:
        return
    # unscoped: the caller holds the subject already. A tag that is not there matches no version.
    held = select(Tag.row_version).where(Tag.object_id == subject.id, Tag.key == key).with_for_update()
    match.require(session.scalar(held))


def _record(session: Session, actor: Actor, action: AuditAction, subject: Subject, key: str, value: str | None) -> None:
    audit.record(
        session, actor, action, object_type=subject.kind.value, object_id=subject.id, project_id=subject.project_id,
        organization_id=subject.organization_id, details={"key": key}, payload=value,
    )  # fmt: skip
