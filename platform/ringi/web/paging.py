"""The pages of a list.

A cursor is opaque to clients: base64url of the list's name and the last row's id. Ids are UUID v7, so their order is the order of time.
A list that never changes, such as the lines of a sealed file, is paged by position instead.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Query
from sqlalchemy import Select
from sqlalchemy.orm import Session

from ringi.kit.errors import InvalidInput
from ringi.web.schemas import Item, Page, Schema

MAX_PAGE = 200
Row = TypeVar("Row")
Place = TypeVar("Place")


class InvalidCursor(InvalidInput):
    """The cursor was not made by this list."""

    code = "invalid_cursor"

    def __init__(self) -> None:
        super().__init__("This cursor does not belong to this list.", next_step="Start again without a cursor.")


class Paging(Schema):
    """The query parameters of every list."""

    limit: int
    cursor: str | None


def paging(limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50, cursor: Annotated[str | None, Query(max_length=200)] = None) -> Paging:
    """`?limit=` (1 to 200) and `?cursor=`."""
    return Paging(limit=limit, cursor=cursor)


def encode_cursor(listing: str, last: UUID | int) -> str:
    """The cursor after row `last` (an id, or a position from 0) of the list named `listing`."""
    return base64.urlsafe_b64encode(f"{listing}:{last}".encode()).decode().rstrip("=")


def decode_cursor(listing: str, cursor: str, place: Callable[[str], Place]) -> Place:
    """What follows in a cursor, read by `place`; raises InvalidCursor for another list's cursor and for anything made up."""
    try:
        name, _, last = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii").rpartition(":")
        if name != listing:
            raise InvalidCursor
        return place(last)
    except (binascii.Error, UnicodeError, ValueError):
        raise InvalidCursor from None


def page_of(session: Session, query: Select[Row], *, key: Any, listing: str, page: Paging, render: Callable[[Row], Item]) -> Page[Item]:
    """Run `query` newest first from the cursor on; `key` is the id column that orders it."""
    if page.cursor is not None:
        query = query.where(key < decode_cursor(listing, page.cursor, UUID))
    rows: Sequence[Row] = session.scalars(query.order_by(key.desc()).limit(page.limit + 1)).unique().all()
    shown = rows[: page.limit]
    more = len(rows) > page.limit
    last = getattr(shown[-1], key.key) if more else None
    return Page(items=[render(row) for row in shown], next_cursor=encode_cursor(listing, last) if last else None)
