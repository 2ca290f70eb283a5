"""Pages of a list that never changes, by position: base64url of the list's name and the next position."""

import base64
import binascii
from typing import Annotated

from fastapi import Query

from ringi.web.paging import MAX_PAGE, InvalidCursor
from ringi.web.schemas import Schema


class Paging(Schema):
    """The query parameters of a list that is paged by position."""

    limit: int
    cursor: str | None


def paging(limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50, cursor: Annotated[str | None, Query(max_length=200)] = None) -> Paging:
    """`?limit=` (1 to 200) and `?cursor=`."""
    return Paging(limit=limit, cursor=cursor)


def encode_cursor(listing: str, position: int) -> str:
    """The cursor of a position (from 0) of the list named `listing`."""
    return base64.urlsafe_b64encode(f"{listing}:{position}".encode()).decode().rstrip("=")


def decode_cursor(listing: str, cursor: str) -> int:
    """The position of a cursor; raises InvalidCursor for another list's cursor and for anything made up."""
    try:
        name, _, position = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii").rpartition(":")
    except (binascii.Error, UnicodeError, ValueError):
        raise InvalidCursor from None
    if name != listing or not (position.isascii() and position.isdecimal()) or len(position) > 18:  # noqa: PLR2004  # digits of a 64-bit number
        raise InvalidCursor
    return int(position)
