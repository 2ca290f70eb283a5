"""The records of a measurement: JSON lines of one sealed blob, task by task in the order of the suite."""

from collections.abc import Iterator

from ringi.jobs.contracts.sweeps import Record
from ringi.kit.digests import Digest
from ringi.measurements.reading import parsed
from ringi.storage import blobs
from ringi.storage.blobs import UploadTooLarge
from ringi.web.positions import Paging, decode_cursor, encode_cursor
from ringi.web.schemas import Page

# What one measurement may bring back, in bytes; a decision holds every record of both arms at once.
LIMIT_BYTES = 512 * 2**20


def read(digest: Digest) -> Iterator[Record]:
    """Every record, verified at the end of the stream. Raises UploadTooLarge, BlobCorrupt, RecordUnreadable."""
    store = blobs.get_store()
    if store.look(digest).size > LIMIT_BYTES:
        raise UploadTooLarge(LIMIT_BYTES)
    yield from parsed(blobs.lines(store.open(digest)))


def page(digest: Digest | None, asked: Paging, *, task: str | None) -> Page[Record]:
    """One page, of a task where one is named; empty where there are no records yet."""
    if digest is None:
        return Page(items=[], next_cursor=None)
    listing = f"records.{digest}.{task or ''}"
    first = decode_cursor(listing, asked.cursor) if asked.cursor is not None else 0
    shown, place = [], 0
    # To the end, so that nothing is shown of bytes that no longer match their digest.
    for record in read(digest):
        if task is None or record.task == task:
            if first <= place < first + asked.limit:
                shown.append(record)
            place += 1
    more = first + asked.limit < place
    return Page(items=shown, next_cursor=encode_cursor(listing, first + asked.limit) if more else None)
