"""The per-item records that an evaluation brought back: JSON lines of one sealed blob, in the order of the dataset."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

from ringi.evaluation import record_fields
from ringi.evaluation.record_fields import Holds, Key
from ringi.jobs.contracts.evaluation import ItemRecord
from ringi.kit.digests import Digest
from ringi.storage import blobs
from ringi.storage.blobs import UploadTooLarge
from ringi.web.filters import MAX_SEARCH_LENGTH
from ringi.web.paging import MAX_PAGE
from ringi.web.positions import decode_cursor, encode_cursor
from ringi.web.schemas import Page

# What one evaluation may bring back, in bytes; judging holds every record at once.
LIMIT_BYTES = 512 * 2**20
_FILTER = f"One comparison; repeat it for more, all of them hold. Fields:\n\n{record_fields.described()}"
_SORT = f"Fields apart by commas, `-` for descending; unknown values come last. In the order of the dataset unless given. Of: {', '.join(record_fields.SORTABLE)}."
_TEXTS = "Free text: every word stands in the id, the reference or an answer, whatever its width and case."


@dataclass(frozen=True)
class AskRecords:
    """What a client asks of the records, understood; `name` is the same for the same question."""

    limit: int
    cursor: str | None
    condition: Holds | None
    order: Key | None
    count: bool
    name: str


def ask_of(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")] = None,
    filter: Annotated[list[str] | None, Query(description=_FILTER)] = None,  # noqa: A002  # the parameter's name
    sort: Annotated[str | None, Query(max_length=400, description=_SORT)] = None,
    q: Annotated[str | None, Query(max_length=MAX_SEARCH_LENGTH, description=_TEXTS)] = None,
    count: Annotated[bool, Query(description="Also tell `total`.")] = False,
) -> AskRecords:
    """The query parameters, understood; refuses with the codes of every list."""
    question = json.dumps([sorted(filter or []), sort, q])
    condition, order = record_fields.condition_of(filter or [], q), record_fields.order_of(sort)
    return AskRecords(limit, cursor, condition, order, count, hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()[:16])


asking_records = Depends(ask_of)


def read(digest: Digest) -> Iterator[ItemRecord]:
    """Every record, verified at the end of the stream; raises UploadTooLarge and BlobCorrupt."""
    store = blobs.get_store()
    if store.look(digest).size > LIMIT_BYTES:
        raise UploadTooLarge(LIMIT_BYTES)
    for line in _lines(digest):
        yield ItemRecord.model_validate_json(line)


def page(digest: Digest | None, ask: AskRecords) -> Page[ItemRecord]:
    """One page, in the order of the dataset unless another is asked for; empty for an evaluation that has no records yet.

    The whole blob is read for every page, so that no record is shown from bytes that no longer match their digest; of every record that is
    listed its place is kept, of those on the page the record. Raises BlobCorrupt, InvalidCursor.
    """
    if digest is None:
        return Page(items=[], next_cursor=None, total=0 if ask.count else None, total_exact=True if ask.count else None)
    # The digest is part of the list's name: a cursor belongs to the records of one evaluation, asked for in one way.
    listing = f"records.{digest}.{ask.name}"
    first = decode_cursor(listing, ask.cursor) if ask.cursor is not None else 0
    places = _places(digest, ask)
    chosen = places[first : first + ask.limit]
    shown = set(chosen)
    lines = {place: line for place, line in enumerate(_lines(digest)) if place in shown}
    return Page(
        items=[ItemRecord.model_validate_json(lines[place]) for place in chosen],
        next_cursor=encode_cursor(listing, first + ask.limit) if first + ask.limit < len(places) else None,
        total=len(places) if ask.count else None,
        total_exact=True if ask.count else None,
    )


def _places(digest: Digest, ask: AskRecords) -> list[int]:
    """Where the listed records stand in the file, in the order that was asked for."""
    if ask.condition is None and ask.order is None:
        return [place for place, _ in enumerate(_lines(digest))]
    kept = []
    for place, line in enumerate(_lines(digest)):
        record = ItemRecord.model_validate_json(line)
        if ask.condition is None or ask.condition(record):
            kept.append((ask.order(record) if ask.order else (), place))
    return [place for _, place in sorted(kept)]


def _lines(digest: Digest) -> Iterator[bytes]:
    return blobs.lines(blobs.get_store().open(digest))
