"""Per-item records in a sealed blob: read in pages without holding the whole, never from bytes that changed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ringi.evaluation import records
from ringi.jobs.contracts.evaluation import ArmRecord, ItemRecord
from ringi.kit.digests import Digest, sha256_bytes
from ringi.settings import get_settings
from ringi.storage import blobs
from ringi.storage.blobs import BlobCorrupt
from ringi.storage.local import LocalBlobStore
from ringi.web.paging import InvalidCursor
from ringi.web.positions import Paging

ARM = ArmRecord(output="大阪", match=True, nll=0.5, tokens=2)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalBlobStore]:
    monkeypatch.setenv("RINGI_BLOB_URL", tmp_path.as_uri())
    for cached in (get_settings, blobs.get_store):
        cached.cache_clear()
    yield LocalBlobStore(tmp_path)
    for cached in (get_settings, blobs.get_store):
        cached.cache_clear()


def stored(store: LocalBlobStore, items: list[str]) -> Digest:
    rows = [
        ItemRecord(item=item, slices={}, prompt_digest=sha256_bytes(b"q"), reference="次の行", candidate=ARM, baseline=ARM)
        for item in items
    ]
    return blobs.put(store, [row.model_dump_json().encode() + b"\n" for row in rows]).digest


@pytest.mark.parametrize("limit", [1, 3, 7, 10, 200])
def test_pages_give_every_record_once_and_in_order(store: LocalBlobStore, limit: int) -> None:
    items = [f"item-{number}" for number in range(10)]
    digest = stored(store, items)
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = records.page(digest, Paging(limit=limit, cursor=cursor))
        assert len(page.items) <= limit
        seen += [record.item for record in page.items]
        cursor, pages = page.next_cursor, pages + 1
    assert seen == items
    assert pages == -(-len(items) // limit)


def test_a_cursor_of_other_records_is_refused(store: LocalBlobStore) -> None:
    cursor = records.page(stored(store, ["a", "b"]), Paging(limit=1, cursor=None)).next_cursor
    with pytest.raises(InvalidCursor):
        records.page(stored(store, ["c", "d"]), Paging(limit=1, cursor=cursor))


def test_an_evaluation_without_records_has_an_empty_page() -> None:
    assert records.page(None, Paging(limit=5, cursor=None)).items == []


def test_bytes_that_changed_are_never_shown(store: LocalBlobStore) -> None:
    digest = stored(store, ["a", "b", "c"])
    path = store.path(digest)
    path.chmod(0o644)
    # The last record: the page that is asked for does not hold it.
    path.write_bytes(path.read_bytes().replace(b'"c"', b'"x"'))
    with pytest.raises(BlobCorrupt):
        records.page(digest, Paging(limit=1, cursor=None))


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_lines_may_span_the_pieces_of_a_stream(size: int) -> None:
    content = '{"a":"\u2028"}\n\n{"b":"\r"}\nlast'.encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    assert list(blobs.lines(pieces)) == ['{"a":"\u2028"}'.encode(), b'{"b":"\r"}', b"last"]
