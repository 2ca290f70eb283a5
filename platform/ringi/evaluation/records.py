"""The per-item records that an evaluation brought back: JSON lines of one sealed blob, in the order of the dataset."""

from collections.abc import Iterator
from itertools import count

from ringi.jobs.contracts.evaluation import ItemRecord
from ringi.kit.digests import Digest
from ringi.storage import blobs
from ringi.storage.blobs import UploadTooLarge
from ringi.web.positions import Paging, decode_cursor, encode_cursor
from ringi.web.schemas import Page

# What one evaluation may bring back, in bytes; judging holds every record at once.
LIMIT_BYTES = 512 * 2**20


def read(digest: Digest) -> Iterator[ItemRecord]:
    """Every record, verified at the end of the stream; raises UploadTooLarge and BlobCorrupt."""
    store = blobs.get_store()
    if store.look(digest).size > LIMIT_BYTES:
        raise UploadTooLarge(LIMIT_BYTES)
    for line in blobs.lines(store.open(digest)):
        yield ItemRecord.model_validate_json(line)


def page(digest: Digest | None, page: Paging) -> Page[ItemRecord]:
    """One page in the order of the dataset; empty for an evaluation that has no records yet.

    The whole blob is read for every page, so that no record is shown from bytes that no longer match their digest; only the page is kept.
    """
    if digest is None:
        return Page(items=[], next_cursor=None)
    # The digest is part of the list's name: a cursor belongs to the records of one evaluation.
    listing = f"records.{digest}"
    first = decode_cursor(listing, page.cursor) if page.cursor is not None else 0
    kept, more = [], False
    for position, line in zip(count(), blobs.lines(blobs.get_store().open(digest)), strict=False):
        if first <= position < first + page.limit:
            kept.append(line)
        more = position >= first + page.limit
    items = [ItemRecord.model_validate_json(line) for line in kept]
    return Page(items=items, next_cursor=encode_cursor(listing, first + page.limit) if more else None)
