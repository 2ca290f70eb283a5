"""What an evaluation's records can be filtered, sorted and searched by.

The grammar and the refusals are those of every list (`web/filters.py`). The records lie in one sealed file and not in the database, so the
comparisons are made here; texts are folded as `web/search.py` describes, by Python alone.
"""

import operator
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from ringi.jobs.contracts.evaluation import ItemRecord
from ringi.web import filters
from ringi.web.filters import Comparison, MalformedSearch, MalformedSort, UnknownField
from ringi.web.listing import Kind
from ringi.web.search import MAX_WORDS, words_of

Holds = Callable[[ItemRecord], bool]
# Sorts as asked: unknown values last, whichever way it goes.
Key = Callable[[ItemRecord], tuple[tuple[bool, float], ...]]
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip
_SLICE = "slices."


class Flip(StrEnum):
    """How the match changed from the baseline to the candidate."""

    NEGATIVE = "negative"
    POSITIVE = "positive"
    NONE = "none"


class RecordField(NamedTuple):
    """One field; `value` of a record is None where it is unknown."""

    kind: Kind
    about: str
    value: Callable[[ItemRecord], Any]
    choices: tuple[str, ...] = ()


def _improvement(record: ItemRecord) -> float | None:
    candidate, baseline = record.candidate.nll, record.baseline.nll
    return None if candidate is None or baseline is None else baseline - candidate


def _flip(record: ItemRecord) -> Flip | None:
    candidate, baseline = record.candidate.match, record.baseline.match
    if candidate is None or baseline is None:
        return None
    if candidate == baseline:
        return Flip.NONE
    return Flip.POSITIVE if candidate else Flip.NEGATIVE


FIELDS: Mapping[str, RecordField] = {
    "item": RecordField(Kind.TEXT, "The item's id.", lambda one: one.item),
    "reference": RecordField(Kind.TEXT, "The right answer.", lambda one: one.reference),
    "flip": RecordField(
        Kind.CHOICE, "The match lost (negative) or won (positive) against the baseline.", _flip, tuple(one.value for one in Flip)
    ),
    "improvement": RecordField(Kind.NUMBER, "The baseline's likelihood loss minus the candidate's, in nats a token.", _improvement),
    "candidate.output": RecordField(Kind.TEXT, "What the candidate answered.", lambda one: one.candidate.output),
    "candidate.match": RecordField(Kind.FLAG, "Whether that is the reference.", lambda one: one.candidate.match),
    "candidate.nll": RecordField(Kind.NUMBER, "Its loss on the reference, in nats a token.", lambda one: one.candidate.nll),
    "candidate.tokens": RecordField(Kind.INTEGER, "The reference's tokens that it was scored on.", lambda one: one.candidate.tokens),
    "baseline.output": RecordField(Kind.TEXT, "What the baseline answered.", lambda one: one.baseline.output),
    "baseline.match": RecordField(Kind.FLAG, "Whether that is the reference.", lambda one: one.baseline.match),
    "baseline.nll": RecordField(Kind.NUMBER, "Its loss on the reference, in nats a token.", lambda one: one.baseline.nll),
    "baseline.tokens": RecordField(Kind.INTEGER, "The reference's tokens that it was scored on.", lambda one: one.baseline.tokens),
}
NAMES = (*FIELDS, f"{_SLICE}<key>")
SORTABLE = tuple(name for name, field in FIELDS.items() if field.kind in {Kind.NUMBER, Kind.INTEGER})


def described() -> str:
    """The fields as a Markdown list, for the API's document."""
    lines = [f"- `{name}` ({' | '.join(f'`{one}`' for one in field.choices) or field.kind.value}): {field.about}"
             for name, field in FIELDS.items()]  # fmt: skip
    return "\n".join([*lines, f"- `{_SLICE}<key>` (text): The item's slice of that name."])


def condition_of(items: Sequence[str], q: str | None) -> Holds | None:
    """What `filter=` and `q=` ask for, None when they ask for nothing. Refuses with the codes of `web/filters.py`."""
    held = [_condition(comparison) for comparison in filters.comparisons_of(items)]
    if q and (words := words_of(q)):
        filters.check_storable("q", q)
        if len(words) > MAX_WORDS:
            raise MalformedSearch(f"it has {len(words)} words, at most {MAX_WORDS} are looked for")
        held.append(_search([_folded(word) for word in words]))
    return (lambda record: all(holds(record) for holds in held)) if held else None


def order_of(sort: str | None) -> Key | None:
    """What `sort=` asks for, None for the order of the dataset."""
    names = sort.split(",") if sort else []
    if len(names) > filters.MAX_SORTS:
        raise MalformedSort(f"at most {filters.MAX_SORTS} fields")
    if len({name.removeprefix("-") for name in names}) < len(names):
        raise MalformedSort("a field stands in it twice")
    if unknown := [name for name in names if name.removeprefix("-") not in SORTABLE]:
        raise UnknownField(unknown[0].removeprefix("-"), SORTABLE)
    keys = [(FIELDS[name.removeprefix("-")].value, -1 if name.startswith("-") else 1) for name in names]

    def key(record: ItemRecord) -> tuple[tuple[bool, float], ...]:
        values = [(value(record), sign) for value, sign in keys]
        return tuple((value is None, 0.0 if value is None else sign * value) for value, sign in values)

    return key if keys else None


def _condition(comparison: Comparison) -> Holds:
    name, sign, text, negated = comparison
    field = _find(name)
    if sign is None:
        return lambda record: (field.value(record) is None) is negated
    filters.check_operator(name, field.kind, sign)
    filters.check_storable(name, text)
    if sign in {"~", "!~"}:
        wanted, part = sign == "~", _folded(text)
        return _known(field, lambda value: (part in _folded(value)) is wanted)
    compare, other = _COMPARED[sign], filters.value_of(name, field.kind, text, choices=field.choices)
    return _known(field, lambda value: compare(value, other))


def _find(name: str) -> RecordField:
    if name.startswith(_SLICE) and (key := name.removeprefix(_SLICE)):
        return RecordField(Kind.TEXT, "", lambda record: record.slices.get(key))
    if name not in FIELDS:
        raise UnknownField(name, NAMES)
    return FIELDS[name]


def _known(field: RecordField, holds: Callable[[Any], bool]) -> Holds:
    """Unknown is not a value: it matches no comparison, `!=` included."""

    def held(record: ItemRecord) -> bool:
        value = field.value(record)
        return value is not None and holds(value)

    return held


def _search(words: list[str]) -> Holds:
    def found(record: ItemRecord) -> bool:
        texts = [_folded(text) for text in (record.item, record.reference, record.candidate.output, record.baseline.output)]
        return all(any(word in text for text in texts) for word in words)

    return found


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
