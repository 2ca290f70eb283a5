"""What a list can be filtered, sorted and searched by: each list declares its fields once, and everything else follows from that.

    ADAPTERS = Listing("adapters", key=Adapter.id, fields={"name": column(Adapter.name, "The adapter's name."), ...}, search=(Adapter.search,))

`filters.py` turns what a client asks for into conditions on these fields, `paging.py` runs the query. A field whose value is unknown (NULL,
or not there) matches no comparison at all, neither `=` nor `!=`: unknown is not a value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, Date, DateTime, Float, Integer, Select, Uuid, func
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import InstrumentedAttribute, Session

Condition = ColumnElement[bool]


class Kind(StrEnum):
    """What a field's values are, and so how they are written and compared."""

    TEXT = "text"
    CHOICE = "choice"
    NUMBER = "number"
    INTEGER = "integer"
    TIME = "time"
    ID = "id"
    FLAG = "true/false"


_EQUAL, _ORDERED = ("=", "!="), ("=", "!=", ">=", "<=", ">", "<")
# Every operator that a kind knows. `~` is "contains", as the free-text search reads it.
OPERATORS: dict[Kind, tuple[str, ...]] = {
    Kind.TEXT: (*_EQUAL, "~", "!~"),
    Kind.CHOICE: _EQUAL,
    Kind.NUMBER: _ORDERED,
    Kind.INTEGER: _ORDERED,
    Kind.TIME: _ORDERED,
    Kind.ID: _EQUAL,
    Kind.FLAG: _EQUAL,
}


def _on_the_row(condition: Condition) -> Condition:
    return condition


@dataclass(frozen=True)
class Field:
    """One field. `value` is compared; `within` makes the comparison a condition on the list's row; `order` sorts, None when it cannot."""

    kind: Kind
    value: ColumnElement[Any]
    about: str
    order: ColumnElement[Any] | None = None
    nullable: bool = True
    choices: tuple[str, ...] = ()
    within: Callable[[Condition], Condition] = _on_the_row


class Family(NamedTuple):
    """Fields without a fixed name, such as `tags.<key>`; `make` gives None for a name that no such field can have."""

    about: str
    example: str
    make: Callable[[str], Field | None]


@dataclass(frozen=True)
class Listing:
    """One list. `key` breaks ties and is the order unless another is asked for, newest first; `also` are its own query parameters.

    `search` are folded texts (`search.folded`, or a stored column of them) in which `q=` looks; without any the list has no `q=`.
    `finish` completes a page of rendered items, such as with their tags.
    """

    name: str
    key: InstrumentedAttribute[UUID]
    fields: Mapping[str, Field]
    search: tuple[ColumnElement[str], ...] = ()
    families: Mapping[str, Family] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    finish: Callable[[Session, Sequence[Any]], None] | None = None

    def find(self, name: str) -> Field | None:
        """The field of that name, also of a family."""
        if (known := self.fields.get(name)) is not None:
            return known
        prefix, dot, rest = name.partition(".")
        family = self.families.get(prefix) if dot else None
        return family.make(rest) if family is not None else None

    def names(self) -> list[str]:
        """Every field that can be filtered by, as a refusal lists them."""
        return sorted([*self.fields, *(f"{prefix}.<{family.example}>" for prefix, family in self.families.items())])

    def sortable(self) -> list[str]:
        """Every field that can be sorted by."""
        found = [name for name, one in self.fields.items() if one.order is not None]
        return sorted([*found, *(f"{prefix}.<{family.example}>" for prefix, family in self.families.items())])

    def described(self) -> str:
        """The fields as a Markdown list, for the API's document."""
        lines = [_line(name, one) for name, one in self.fields.items()]
        lines += [f"- `{prefix}.<{family.example}>`: {family.about}" for prefix, family in self.families.items()]
        return "\n".join(lines)


def _line(name: str, one: Field) -> str:
    kind = " | ".join(f"`{choice}`" for choice in one.choices) if one.choices else one.kind.value
    return f"- `{name}` ({kind}{'' if one.order is not None else ', not sortable'}): {one.about}"


def column(attribute: InstrumentedAttribute[Any], about: str, *, choices: type[StrEnum] | None = None, sort: bool = True) -> Field:
    """A column of the list's own table."""
    value: ColumnElement[Any] = attribute.expression
    known = tuple(choice.value for choice in choices) if choices else ()
    nullable = bool(attribute.property.columns[0].nullable)
    return Field(_kind(value, known), value, about, order=value if sort else None, nullable=nullable, choices=known)


def measured(
    document: ColumnElement[Any] | InstrumentedAttribute[Any], *path: str, about: str, choices: type[StrEnum] | None = None
) -> Field:
    """A number (or, with `choices`, one of some words) inside a JSON document; null and missing ones match no comparison."""
    text = func.jsonb_extract_path_text(document, *path)
    if choices is not None:
        return Field(Kind.CHOICE, text, about, order=text, choices=tuple(choice.value for choice in choices))
    number = sql_cast(text, Float(53))
    return Field(Kind.NUMBER, number, about, order=number)


def word(document: InstrumentedAttribute[Any], *path: str, about: str) -> Field:
    """A text inside a JSON document."""
    text = func.jsonb_extract_path_text(document, *path)
    return Field(Kind.TEXT, text, about, order=text)


def flag(document: InstrumentedAttribute[Any], *path: str, about: str) -> Field:
    """A truth value inside a JSON document."""
    value = sql_cast(func.jsonb_extract_path_text(document, *path), Boolean)
    return Field(Kind.FLAG, value, about, order=value)


def through(
    reference: InstrumentedAttribute[Any], keys: Select[Any], value: ColumnElement[Any] | InstrumentedAttribute[Any], about: str,
    *, choices: type[StrEnum] | None = None, sort: bool = True,
) -> Field:  # fmt: skip
    """A value of another table, in which `keys` selects what `reference` points at. With several rows behind it, any of them may match.

    Sorting needs that there is one at most, so `sort=False` stands where there may be more. A comparison becomes a semi-join.
    """
    compared: ColumnElement[Any] = value.expression if isinstance(value, InstrumentedAttribute) else value
    known = tuple(choice.value for choice in choices) if choices else ()
    (key,) = keys.selected_columns
    value_of_one = keys.with_only_columns(compared, maintain_column_froms=True).where(key == reference)
    return Field(
        _kind(compared, known), compared, about, choices=known,
        order=value_of_one.correlate(reference.class_.__table__).scalar_subquery() if sort else None,
        within=lambda condition: reference.in_(keys.where(condition).correlate(None)),
    )  # fmt: skip


def of_any(reference: InstrumentedAttribute[Any], keys: Select[Any], field: Field) -> Field:
    """A field of rows that belong to this one, such as the versions of an adapter: any of them may match."""
    return replace(
        field, order=None, nullable=True, within=lambda condition: reference.in_(keys.where(field.within(condition)).correlate(None))
    )


def _kind(value: ColumnElement[Any], choices: tuple[str, ...]) -> Kind:
    if choices:
        return Kind.CHOICE
    kinds: tuple[tuple[type[Any], Kind], ...] = (
        (DateTime, Kind.TIME),
        (Date, Kind.TIME),
        (Boolean, Kind.FLAG),
        (Float, Kind.NUMBER),
        (Integer, Kind.INTEGER),
        (Uuid, Kind.ID),
    )
    return next((kind for known, kind in kinds if isinstance(value.type, known)), Kind.TEXT)
