"""Per-item records in a sealed blob: read in pages without holding the whole, never from bytes that changed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ringi.evaluation import records
from ringi.evaluation.records import AskRecords
from ringi.jobs.contracts.evaluation import ArmRecord, ItemRecord
from ringi.kit.digests import Digest, sha256_bytes
from ringi.kit.errors import RingiError
from ringi.settings import get_settings
from ringi.storage import blobs
from ringi.storage.blobs import BlobCorrupt
from ringi.storage.local import LocalBlobStore
from ringi.web.filters import BadFilterValue, MalformedFilter, MalformedSort, UnknownField, UnknownOperator
from ringi.web.paging import InvalidCursor

ARM = ArmRecord(output="大阪", match=True, nll=0.5, tokens=2)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalBlobStore]:
    monkeypatch.setenv("RINGI_BLOB_URL", tmp_path.as_uri())
    for cached in (get_settings, blobs.get_store):
        cached.cache_clear()
    yield LocalBlobStore(tmp_path)
    for cached in (get_settings, blobs.get_store):
        cached.cache_clear()


def ask(
    *filters: str, sort: str | None = None, q: str | None = None, limit: int = 50, cursor: str | None = None, count: bool = False
) -> AskRecords:
    """The question, as the endpoint reads it."""
    return records.ask_of(limit, cursor, list(filters) or None, sort, q, count)


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
        page = records.page(digest, ask(limit=limit, cursor=cursor))
        assert len(page.items) <= limit
        seen += [record.item for record in page.items]
        cursor, pages = page.next_cursor, pages + 1
    assert seen == items
    assert pages == -(-len(items) // limit)


def test_a_cursor_of_other_records_is_refused(store: LocalBlobStore) -> None:
    cursor = records.page(stored(store, ["a", "b"]), ask(limit=1)).next_cursor
    with pytest.raises(InvalidCursor):
        records.page(stored(store, ["c", "d"]), ask(limit=1, cursor=cursor))


def test_an_evaluation_without_records_has_an_empty_page() -> None:
    assert records.page(None, ask(limit=5)).items == []


def test_bytes_that_changed_are_never_shown(store: LocalBlobStore) -> None:
    digest = stored(store, ["a", "b", "c"])
    path = store.path(digest)
    path.chmod(0o644)
    # The last record: the page that is asked for does not hold it.
    path.write_bytes(path.read_bytes().replace(b'"c"', b'"x"'))
    with pytest.raises(BlobCorrupt):
        records.page(digest, ask(limit=1))


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_lines_may_span_the_pieces_of_a_stream(size: int) -> None:
    content = '{"a":"\u2028"}\n\n{"b":"\r"}\nlast'.encode()
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    assert list(blobs.lines(pieces)) == ['{"a":"\u2028"}'.encode(), b'{"b":"\r"}', b"last"]


def arm(output: str, *, match: bool | None, nll: float | None) -> ArmRecord:
    return ArmRecord(output=output, match=match, nll=nll, tokens=3)


@pytest.fixture
def answers(store: LocalBlobStore) -> Digest:
    """Five items: one lost, one won, one unchanged, one that nothing was measured of, one in another slice."""
    rows = [
        ("lost", {"site": "大阪"}, arm("ちがう", match=False, nll=2.0), arm("次の行", match=True, nll=0.5)),
        ("won", {"site": "大阪"}, arm("次の行", match=True, nll=0.1), arm("ﾁｶﾞｳ", match=False, nll=2.1)),
        ("same", {"site": "東京"}, arm("次の行", match=True, nll=0.4), arm("次の行", match=True, nll=0.5)),
        ("unmeasured", {}, arm("", match=None, nll=None), arm("", match=None, nll=None)),
        ("half", {"site": "東京"}, arm("a", match=True, nll=0.2), arm("b", match=None, nll=None)),
    ]
    lines = [
        ItemRecord(item=item, slices=slices, prompt_digest=sha256_bytes(b"q"), reference="次の行", candidate=candidate, baseline=baseline)
        for item, slices, candidate, baseline in rows
    ]
    return blobs.put(store, [line.model_dump_json().encode() + b"\n" for line in lines]).digest


def items(digest: Digest, question: AskRecords) -> list[str]:
    return [record.item for record in records.page(digest, question).items]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["flip=negative"], ["lost"]),
        (["flip=positive"], ["won"]),
        (["flip!=none"], ["lost", "won"]),
        (["!flip"], ["unmeasured", "half"]),
        (["improvement<0"], ["lost"]),
        (["improvement"], ["lost", "won", "same"]),
        (["candidate.match=true"], ["won", "same", "half"]),
        (["candidate.match!=true"], ["lost"]),
        (["slices.site=大阪"], ["lost", "won"]),
        (["!slices.site"], ["unmeasured"]),
        (["slices.site=東京", "candidate.nll>=0.3"], ["same"]),
        (["baseline.output~チガウ"], ["won"]),
        (["item!~m"], ["lost", "won", "half"]),
        (["candidate.tokens=3"], ["lost", "won", "same", "unmeasured", "half"]),
        (["candidate.tokens>3"], []),
    ],
)
@pytest.mark.usefixtures("store")
def test_records_are_filtered_as_every_list_is(answers: Digest, filters: list[str], found: list[str]) -> None:
    assert items(answers, ask(*filters)) == found


@pytest.mark.usefixtures("store")
def test_records_are_sorted_with_the_unknown_last_and_the_datasets_order_among_equals(answers: Digest) -> None:
    assert items(answers, ask(sort="improvement")) == ["lost", "same", "won", "unmeasured", "half"]
    assert items(answers, ask(sort="-improvement")) == ["won", "same", "lost", "unmeasured", "half"]
    assert items(answers, ask(sort="baseline.nll,-candidate.nll")) == ["lost", "same", "won", "half", "unmeasured"]


@pytest.mark.usefixtures("store")
def test_a_filtered_and_sorted_list_is_paged_and_counted(answers: Digest) -> None:
    first = records.page(answers, ask("slices.site", sort="candidate.nll", limit=3, count=True))
    assert [one.item for one in first.items] == ["won", "half", "same"]
    assert (first.total, first.total_exact) == (4, True)
    second = records.page(answers, ask("slices.site", sort="candidate.nll", limit=3, cursor=first.next_cursor))
    assert ([one.item for one in second.items], second.next_cursor, second.total) == (["lost"], None, None)
    with pytest.raises(InvalidCursor):
        records.page(answers, ask("slices.site", sort="-candidate.nll", limit=3, cursor=first.next_cursor))


@pytest.mark.usefixtures("store")
def test_records_are_searched_in_any_width(answers: Digest) -> None:
    assert items(answers, ask(q="チガウ")) == ["won"]
    assert items(answers, ask(q="次の行　ちがう")) == ["lost"]


@pytest.mark.parametrize(
    ("question", "refusal"),
    [
        ({"filters": ["score>1"]}, UnknownField),
        ({"filters": ["flip>negative"]}, UnknownOperator),
        ({"filters": ["flip=lost"]}, BadFilterValue),
        ({"filters": ["improvement=much"]}, BadFilterValue),
        ({"filters": ["nothing at all"]}, MalformedFilter),
        ({"sort": "item"}, UnknownField),
        ({"sort": "improvement,-improvement"}, MalformedSort),
    ],
)
def test_what_is_not_understood_is_refused(question: dict[str, Any], refusal: type[RingiError]) -> None:
    with pytest.raises(refusal):
        ask(*question.get("filters", []), sort=question.get("sort"))
