"""The pages of a list: `asking(LISTING)` is the dependency that reads the query parameters, `page_of` runs the query.

Pages are found by the values of the last row (keyset), not by counting, so rows that are added meanwhile move nothing. A cursor is opaque:
base64url of JSON, a digest of the list's path with everything that was asked for, and those values. It holds no right: what a caller may not
see is filtered out of every page anew. A list that never changes, such as the lines of a sealed file, is paged by position (`positions.py`).
"""

import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NamedTuple, TypeVar, TypeVarTuple
from uuid import UUID

from fastapi import Depends, Query, Request
from sqlalchemy import ColumnElement, Select, and_, asc, desc, false, func, or_, select
from sqlalchemy.orm import Session

from ringi.kit.errors import InvalidInput
from ringi.kit.times import read_time
from ringi.web import filters
from ringi.web.filters import Order
from ringi.web.heads import UnknownParameter
from ringi.web.listing import Condition, Kind, Listing
from ringi.web.schemas import Item, Page

MAX_PAGE = 200
# Counting goes so far; a larger list is told to have at least so many.
MAX_COUNT = 100_000
# Four keys of 500 characters of three bytes each, in base64, and the rest.
_MAX_CURSOR = 12_000
_SHARED = frozenset({"limit", "cursor", "filter", "sort", "q", "count"})
# How much of the list is shown is no part of what is asked of it.
_UNBOUND = frozenset({"limit", "cursor", "count"})
_LARGEST: dict[Kind, float] = {Kind.INTEGER: 2**63 - 1, Kind.NUMBER: sys.float_info.max}
Row = TypeVar("Row")
Several = TypeVarTuple("Several")


class InvalidCursor(InvalidInput):
    """The cursor was not made by this list, or by this list asked for something else."""

    code, status = "invalid_cursor", 422

    def __init__(self) -> None:
        super().__init__(
            "This cursor does not belong to this list with this filter, order and search.", next_step="Start again without a cursor."
        )


@dataclass(frozen=True)
class Ask:
    """What a client asks of a list, understood."""

    listing: Listing
    limit: int
    after: tuple[Any, ...] | None
    conditions: tuple[Condition, ...]
    order: tuple[Order, ...]
    binding: str
    count: bool


class Found(NamedTuple):
    """The rows of one page, and the rest of its answer."""

    rows: list[Any]
    next_cursor: str | None
    total: int | None
    total_exact: bool | None


def asking(listing: Listing) -> Any:
    """The dependency of a list's endpoint; its parameters describe the list's fields. Refuses with the codes of `filters.py`."""
    example = next(iter(listing.fields))
    about = f"One comparison; repeat it for more, all of them hold. FIELD, `=` `!=` `>` `>=` `<` `<=` `~` (contains) `!~`, value; `{example}` alone is 'known', `!{example}` 'unknown'. Fields:\n\n{listing.described()}"
    sorts = f"Fields apart by commas, `-` for descending; unknown values come last. Newest first unless given. Of: {', '.join(listing.sortable())}."
    texts = "Free text: every word stands somewhere in the texts, whatever its width and case."

    def ask(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
        cursor: Annotated[
            # The form is for readers of the document; what is no cursor is refused as one, under its own code.
            str | None,
            Query(
                max_length=_MAX_CURSOR, description="`next_cursor` of the page before.", json_schema_extra={"pattern": "^[A-Za-z0-9_-]*$"}
            ),
        ] = None,
        filter: Annotated[list[str] | None, Query(description=about)] = None,  # noqa: A002  # the parameter's name
        sort: Annotated[str | None, Query(max_length=400, description=sorts)] = None,
        q: Annotated[
            str | None, Query(max_length=filters.MAX_SEARCH_LENGTH, description=texts, include_in_schema=bool(listing.search))
        ] = None,
        count: Annotated[
            bool, Query(description=f"Also tell `total`, up to {MAX_COUNT:,}; `total_exact` says whether there are more.")
        ] = False,
    ) -> Ask:
        known = _SHARED | set(listing.also) if listing.search else (_SHARED | set(listing.also)) - {"q"}
        for name in request.query_params:
            if name not in known:
                raise UnknownParameter(name, sorted(known))
        conditions = [*filters.conditions_of(listing, filter or []), *filters.search_of(listing, q)]
        order = tuple(filters.order_of(listing, sort))
        binding = _binding(request)
        after = _read_cursor(cursor, binding, order) if cursor is not None else None
        return Ask(listing, limit, after, tuple(conditions), order, binding, count)

    return Depends(ask)


def _binding(request: Request) -> str:
    asked = sorted((name, value) for name, value in request.query_params.multi_items() if name not in _UNBOUND)
    return hashlib.sha256(json.dumps([request.url.path, asked]).encode()).hexdigest()[:24]


def page_of(session: Session, query: Select[Row], ask: Ask, render: Callable[[Row], Item]) -> Page[Item]:
    """The page that is asked for; `query` selects one thing a row, without an order of its own."""
    found = rows_of(session, query, ask)
    items = [render(row[0]) for row in found.rows]
    if ask.listing.finish is not None:
        ask.listing.finish(session, items)
    return Page(items=items, next_cursor=found.next_cursor, total=found.total, total_exact=found.total_exact)


def rows_of(session: Session, query: Select[*Several], ask: Ask) -> Found:
    """The same for a query that selects several things a row."""
    filtered = query.where(*ask.conditions)
    total, exact = _count(session, filtered) if ask.count else (None, None)
    if ask.after is not None:
        filtered = filtered.where(_beyond(ask.order, ask.after))
    keys = [order.value.label(f"order_{number}") for number, order in enumerate(ask.order)]
    orders = [(desc if order.descending else asc)(key).nulls_last() if order.nullable else (desc if order.descending else asc)(key)
              for order, key in zip(ask.order, keys, strict=True)]  # fmt: skip
    rows = session.execute(filtered.add_columns(*keys).order_by(*orders).limit(ask.limit + 1)).all()
    shown = rows[: ask.limit]
    last = tuple(shown[-1])[-len(keys) :] if len(rows) > ask.limit else None
    cursor = _write_cursor(ask.binding, last) if last is not None else None
    return Found([tuple(row)[: -len(keys)] for row in shown], cursor, total, exact)


def _count(session: Session, filtered: Select[*Several]) -> tuple[int, bool]:
    counted: int = session.execute(select(func.count()).select_from(filtered.limit(MAX_COUNT + 1).subquery())).scalar_one()
    return min(counted, MAX_COUNT), counted <= MAX_COUNT


def _beyond(order: tuple[Order, ...], values: tuple[Any, ...]) -> Condition:
    """Rows that come after those values: further in the first key, or level in it and further in the second, and so on."""
    ways: list[Condition] = []
    level: list[Condition] = []
    for key, value in zip(order, values, strict=True):
        ways.append(and_(*level, _further(key, value)))
        level.append(key.value.is_(None) if value is None else key.value == value)
    first = order[0]
    if first.nullable:
        return or_(*ways)
    # Said once more for the first key alone, so that an index on it can begin there.
    bound: ColumnElement[bool] = first.value <= values[0] if first.descending else first.value >= values[0]
    return and_(bound, or_(*ways))


def _further(key: Order, value: Any) -> Condition:
    if value is None:
        return false()
    further: ColumnElement[bool] = key.value < value if key.descending else key.value > value
    return or_(further, key.value.is_(None)) if key.nullable else further


def _write_cursor(binding: str, values: tuple[Any, ...]) -> str:
    plain = [value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, UUID) else value for value in values]
    return base64.urlsafe_b64encode(json.dumps([binding, *plain], separators=(",", ":"), ensure_ascii=False).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, binding: str, order: tuple[Order, ...]) -> tuple[Any, ...]:
    try:
        found = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if not isinstance(found, list) or found[:1] != [binding] or len(found) != len(order) + 1:
            raise InvalidCursor
        return tuple(_read_value(key, value) for key, value in zip(order, found[1:], strict=True))
    except (binascii.Error, UnicodeError, ValueError, RecursionError, filters.BadFilterValue):
        raise InvalidCursor from None


def _read_value(key: Order, value: Any) -> Any:
    if value is None and key.nullable:
        return None
    if key.kind in {Kind.NUMBER, Kind.INTEGER}:
        # NaN is not below anything.
        known = isinstance(value, int) or (isinstance(value, float) and key.kind is Kind.NUMBER)
        if not known or isinstance(value, bool) or not abs(value) <= _LARGEST[key.kind]:
            raise InvalidCursor
        return value
    if key.kind is Kind.FLAG and isinstance(value, bool):
        return value
    if not isinstance(value, str) or key.kind is Kind.FLAG:
        raise InvalidCursor
    if key.kind is Kind.ID:
        return UUID(value)
    if key.kind is Kind.TIME:
        return read_time(value).at
    if key.kind in {Kind.TEXT, Kind.CHOICE}:
        filters.check_storable("cursor", value)
    return value
