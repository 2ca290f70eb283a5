"""From `filter=`, `sort=` and `q=` to conditions and orders on the fields of a list. Whatever is not understood is refused, never ignored.

`state=sealed`, `created_at>=2026-11-01`, `metrics.improvement>0.1`, `name~応答`, `tags.team` (is there), `!tags.team` (is not).
"""

import math
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, not_, or_, true

from ringi.kit.errors import InvalidInput
from ringi.kit.times import FORMS, Moment, read_time
from ringi.web.listing import OPERATORS, Condition, Field, Kind, Listing
from ringi.web.search import MAX_WORDS, contains, folded, matches, words_of

MAX_FILTERS, MAX_SORTS = 20, 4
MAX_FILTER_LENGTH, MAX_SEARCH_LENGTH = 1000, 200
_ITEM = re.compile(r"(?P<no>!?)(?P<field>[\w./:-]+)(?:(?P<operator>>=|<=|!=|!~|=|>|<|~)(?P<value>.*))?", re.DOTALL)
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_FLAGS = {"true": True, "false": False}
_SHOWN = 80


class MalformedFilter(InvalidInput):
    """An item of `filter=` that is no comparison, too long, or one too many."""

    code, status = "malformed_filter", 422

    def __init__(self, item: str, reason: str) -> None:
        super().__init__(
            f"The filter '{item[:_SHOWN]}' cannot be read: {reason}.",
            next_step="Write FIELD, an operator (= != > >= < <= ~ !~) and a value; FIELD alone means 'is known', !FIELD the opposite.",
        )


class UnknownField(InvalidInput):
    """The list has no field of this name to filter or sort by."""

    code, status = "unknown_field", 422

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"This list has no field '{name[:_SHOWN]}' for this.", next_step=f"There are: {', '.join(known)}.",
            details={"field": name[:_SHOWN], "fields": list(known)},
        )  # fmt: skip


class UnknownOperator(InvalidInput):
    """The field's kind of value does not know the comparison."""

    code, status = "unknown_operator", 422

    def __init__(self, name: str, operator: str, known: Sequence[str]) -> None:
        super().__init__(
            f"'{name}' cannot be compared with '{operator}'.", next_step=f"Its operators are: {' '.join(known)}.",
            details={"field": name, "operator": operator, "operators": list(known)},
        )  # fmt: skip


class BadFilterValue(InvalidInput):
    """The value is none of the field's kind."""

    code, status = "bad_filter_value", 422

    def __init__(self, name: str, value: str, expected: str) -> None:
        # Shown escaped: it may hold anything.
        super().__init__(
            f"{value[:_SHOWN]!a} is no value of '{name}'.", next_step=f"Needed is {expected}.", details={"field": name, "expected": expected}
        )  # fmt: skip


class MalformedSort(InvalidInput):
    """`sort=` names a field twice, too many fields, or none."""

    code, status = "malformed_sort", 422

    def __init__(self, reason: str) -> None:
        super().__init__(f"The order cannot be read: {reason}.", next_step="Write fields apart by commas, '-' before one for descending.")


class MalformedSearch(InvalidInput):
    """`q=` on a list without texts, or with more than can be looked for."""

    code, status = "malformed_search", 422

    def __init__(self, reason: str) -> None:
        super().__init__(f"This list cannot be searched for that: {reason}.", next_step="Search for fewer or other words, or use filter=.")


class Comparison(NamedTuple):
    """One item of `filter=`, read: `operator` is None where it asks whether the field is known, or, `negated`, unknown."""

    field: str
    operator: str | None
    text: str
    negated: bool


class Order(NamedTuple):
    """One key of the order. Unknown values come last, whichever way it goes."""

    value: ColumnElement[Any]
    kind: Kind
    nullable: bool
    descending: bool


def conditions_of(listing: Listing, items: Sequence[str]) -> list[Condition]:
    """Every item of `filter=` as a condition; all of them hold for what is listed."""
    return [_condition(listing, comparison) for comparison in comparisons_of(items)]


def comparisons_of(items: Sequence[str]) -> list[Comparison]:
    """Every item of `filter=`, read as far as that goes without knowing the list's fields; raises MalformedFilter."""
    if len(items) > MAX_FILTERS:
        raise MalformedFilter(items[MAX_FILTERS], f"a list takes at most {MAX_FILTERS}")
    return [_read(item) for item in items]


def _read(item: str) -> Comparison:
    if len(item) > MAX_FILTER_LENGTH:
        raise MalformedFilter(item, f"it has more than {MAX_FILTER_LENGTH} characters")
    parts = _ITEM.fullmatch(item)
    if parts is None or (parts["no"] and parts["operator"]):
        raise MalformedFilter(item, "it is no comparison of a field")
    return Comparison(parts["field"], parts["operator"], parts["value"] or "", negated=bool(parts["no"]))


def _condition(listing: Listing, comparison: Comparison) -> Condition:
    name, operator, text, negated = comparison
    field = listing.find(name)
    if field is None:
        raise UnknownField(name, listing.names())
    if operator is None:
        known = field.within(field.value.is_not(None))
        # `x IN (…)` of an unknown x is itself unknown, and so would be its negation.
        return known.is_not(true()) if negated else known
    check_operator(name, field.kind, operator)
    return field.within(_comparison(name, field, operator, text))


def check_operator(name: str, kind: Kind, operator: str) -> None:
    """Raises UnknownOperator."""
    if operator not in OPERATORS[kind]:
        raise UnknownOperator(name, operator, OPERATORS[kind])


def _comparison(name: str, field: Field, operator: str, text: str) -> Condition:
    check_storable(name, text)
    if operator in {"~", "!~"}:
        found = contains(folded(field.value), text)
        return found if operator == "~" else not_(found)
    if field.kind is Kind.TIME:
        return _time_comparison(name, field.value, operator, text)
    value = value_of(name, field.kind, text, choices=field.choices)
    compared: dict[str, Callable[[], Condition]] = {
        "=": lambda: field.value == value,
        "!=": lambda: field.value != value,
        ">": lambda: field.value > value,
        ">=": lambda: field.value >= value,
        "<": lambda: field.value < value,
        "<=": lambda: field.value <= value,
    }
    return compared[operator]()


def check_storable(name: str, text: str) -> None:
    """Raises BadFilterValue for what no text in the database can hold."""
    if "\x00" in text or any(0xD800 <= ord(character) < 0xE000 for character in text):  # noqa: PLR2004  # surrogates
        raise BadFilterValue(name, text, "text without NUL characters and lone surrogates")


def value_of(name: str, kind: Kind, text: str, *, choices: tuple[str, ...] = ()) -> Any:
    """The value that is written as `text`, for every kind but times; raises BadFilterValue."""
    if kind is Kind.CHOICE and text not in choices:
        raise BadFilterValue(name, text, f"one of: {', '.join(choices)}")
    if kind is Kind.INTEGER:
        return int(_formed(name, text, _INTEGER, "a whole number of at most 18 digits"))
    if kind is Kind.NUMBER:
        number = float(_formed(name, text, _NUMBER, "a number such as 0.1 or 2e-4"))
        if not math.isfinite(number):
            raise BadFilterValue(name, text, "a number of sensible size")
        return number
    if kind is Kind.FLAG:
        if text not in _FLAGS:
            raise BadFilterValue(name, text, "true or false")
        return _FLAGS[text]
    if kind is Kind.ID:
        try:
            return UUID(text)
        except ValueError:
            raise BadFilterValue(name, text, "an id (UUID)") from None
    return text


def _formed(name: str, text: str, form: re.Pattern[str], expected: str) -> str:
    if form.fullmatch(text) is None:
        raise BadFilterValue(name, text, expected)
    return text


def _moment(name: str, text: str) -> Moment:
    try:
        return read_time(text)
    except ValueError:
        raise BadFilterValue(name, text, f"{FORMS}; in a URL the '+' of a zone is written %2B") from None


def _time_comparison(name: str, value: ColumnElement[Any], operator: str, text: str) -> Condition:
    moment, whole_day = _moment(name, text)
    try:
        # A day is everything from its midnight to the next: `=` means on that day, `>` after it, `<=` until its end.
        end = moment + (timedelta(days=1) if whole_day else timedelta(microseconds=1))
    except OverflowError:
        raise BadFilterValue(name, text, "a time before the year 9999") from None
    compared: dict[str, Condition] = {
        "=": and_(value >= moment, value < end),
        "!=": or_(value < moment, value >= end),
        ">": value >= end,
        ">=": value >= moment,
        "<": value < moment,
        "<=": value < end,
    }
    return compared[operator]


def order_of(listing: Listing, sort: str | None) -> list[Order]:
    """The keys of the order, the list's own key last, newest first."""
    names = sort.split(",") if sort else []
    if len(names) > MAX_SORTS:
        raise MalformedSort(f"at most {MAX_SORTS} fields")
    if len({name.removeprefix("-") for name in names}) < len(names):
        raise MalformedSort("a field stands in it twice")
    orders = []
    for name in names:
        field = listing.find(name.removeprefix("-"))
        if field is None or field.order is None:
            raise UnknownField(name.removeprefix("-"), listing.sortable())
        orders.append(Order(field.order, field.kind, field.nullable, name.startswith("-")))
    return [*orders, Order(listing.key.expression, Kind.ID, nullable=False, descending=True)]


def search_of(listing: Listing, text: str | None) -> list[Condition]:
    """`q=` as a condition; none when nothing is looked for."""
    words = words_of(text) if text else []
    if not words:
        return []
    check_storable("q", text or "")
    if len(words) > MAX_WORDS:
        raise MalformedSearch(f"it has {len(words)} words, at most {MAX_WORDS} are looked for")
    if not listing.search:
        raise MalformedSearch("it has no texts to look in")
    return [matches(listing.search, words)]
