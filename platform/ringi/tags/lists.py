"""Tags in lists: `tags.<key>` as a field, and the tags of every item on a page, read in one query."""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from ringi.tags.models import Tag
from ringi.tags.schemas import Tagged, TagKey, Tags
from ringi.web.listing import Family, Field, Kind

_KEY: TypeAdapter[str] = TypeAdapter(TagKey)

Shown = TypeVar("Shown", bound=Tagged)


def tags_of(key: InstrumentedAttribute[UUID]) -> dict[str, Family]:
    """The fields `tags.<key>` of a list whose rows have this id."""

    def make(name: str) -> Field | None:
        try:
            known = _KEY.validate_python(name)
        except ValidationError:
            return None
        # unscoped: the list's own rows are scoped, and only their tags are looked at.
        carriers = select(Tag.object_id).where(Tag.key == known)
        value = select(Tag.value).where(Tag.key == known, Tag.object_id == key).correlate(key.class_.__table__).scalar_subquery()
        return Field(
            Kind.TEXT,
            Tag.value.expression,
            f"The tag '{known}'.",
            order=value,
            within=lambda condition: key.in_(carriers.where(condition).correlate(None)),
        )

    return {"tags": Family("A tag's value; an item without the tag matches no comparison.", "key", make)}


def with_tags(session: Session, shown: Shown) -> Shown:
    """One thing with its tags."""
    fill(session, [shown])
    return shown


def fill(session: Session, items: Sequence[Any]) -> None:
    """Put every item's tags on it."""
    # unscoped: the caller holds the items already.
    query = select(Tag.object_id, Tag.key, Tag.value).where(Tag.object_id.in_([item.id for item in items])).order_by(Tag.key)
    found: dict[UUID, Tags] = {}
    for object_id, key, value in session.execute(query):
        found.setdefault(object_id, {})[key] = value
    for item in items:
        item.tags = found.get(item.id, {})
