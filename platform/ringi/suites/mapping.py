"""Rows of a dataset as items. Pure."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ringi.jobs.contracts.suites import Item
from ringi.suites import refusals
from ringi.suites.schemas import MAX_CHOICES, FromDataset
from ringi.suites.sealing import items_of


class Mapped(NamedTuple):
    """Items, and the choices that they share."""

    items: tuple[Item, ...]
    choices: tuple[str, ...]


def rows_of(task: str, lines: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    """JSON lines as objects. Raises SuiteItemsUnreadable."""
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise refusals.SuiteItemsUnreadable(task, f"line {number} is no JSON") from None
        if not isinstance(row, dict):
            raise refusals.SuiteItemsUnreadable(task, f"line {number} is no object")
        yield row


def mapped(task: str, rows: Sequence[Mapping[str, Any]], how: FromDataset, *, choices: Sequence[str]) -> Mapped:
    """Items of a dataset's rows, in their order. Raises SuiteColumnUnknown, SuiteAnswerOutOfRange, SuiteChoicesInvalid."""
    shared = sorted(set.intersection(*(set(row) for row in rows))) if rows else []
    for column in (how.prompt, how.reference, *how.slices, how.source, how.choices_from):
        if rows and column is not None and column not in shared:
            raise refusals.SuiteColumnUnknown(how.version, column, shared)
    offered = tuple(choices)
    if how.choices_from is not None and not offered:
        offered = tuple(sorted({row[how.choices_from] for row in rows}))
        if len(offered) > MAX_CHOICES:
            raise refusals.SuiteChoicesInvalid(
                task, None, f"column '{how.choices_from}' has {len(offered)} values, and at most {MAX_CHOICES} are taken"
            )
    places = {choice: place for place, choice in enumerate(offered)}
    return Mapped(items_of(task, [_item(task, row, how, places) for row in rows]), offered)


def _item(task: str, row: Mapping[str, Any], how: FromDataset, places: Mapping[str, int]) -> dict[str, Any]:
    item: dict[str, Any] = {"id": row["id"], "prompt": row[how.prompt], "references": [row[how.reference]]}
    item["tags"] = {column: row[column] for column in how.slices}
    if how.source is not None:
        item["source"] = row[how.source]
    if places:
        right = row[how.choices_from or how.reference]
        if right not in places:
            raise refusals.SuiteAnswerOutOfRange(task, str(row["id"]), right, len(places))
        item["answer"] = places[right]
    return item
