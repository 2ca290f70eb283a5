"""What every blob store promises; each test runs on the folder and on the bucket."""

import hashlib
import os
from pathlib import Path
from uuid import uuid4

import pytest

from ringi.storage import blobs
from ringi.storage.blobs import BlobCorrupt, BlobMissing, DigestMismatch
from ringi.storage.schemas import StoredKind
from storage.conftest import Bench

MIB = 1024 * 1024
# Nothing, less than a part of a multipart upload, exactly one, and several with a rest.
SIZES = [0, 1, 5 * MIB + 3, 8 * MIB, 21 * MIB + 7]
JAPANESE = "稟議は、責任者全員の判が揃うまで回る提案です。".encode()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def in_pieces(data: bytes, size: int = 700_001) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "unannounced"])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_put_is_found_under_its_digest_and_nothing_else_stays(bench: Bench, size: int, *, announced: bool) -> None:
    data = os.urandom(size)
    stored = blobs.put(bench.store, in_pieces(data), expected=digest_of(data) if announced else None)
    assert stored == (digest_of(data), size)
    assert b"".join(bench.store.open(stored.digest)) == data
    found = bench.store.look(stored.digest)
    assert (found.kind, found.name, found.size) == (StoredKind.BLOB, stored.digest, size)
    assert abs(bench.store.now() - found.at) < bench.an_hour
    assert bench.lies_there() == [stored.digest]


@pytest.mark.parametrize("size", [0, 3 * MIB, 20 * MIB])
def test_nothing_is_visible_before_the_seal_and_nothing_stays_after_an_abort(bench: Bench, size: int) -> None:
    data = os.urandom(size)
    for expected in (None, digest_of(data)):
        writer = bench.store.writer(expected)
        for piece in in_pieces(data):
            writer.write(piece)
        assert bench.lies_there(StoredKind.BLOB) == []
        with pytest.raises(BlobMissing):
            bench.store.look(digest_of(data))
        writer.abort()
        assert bench.lies_there() == []


@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_other_bytes_than_announced_are_refused_and_not_kept(bench: Bench, size: int) -> None:
    with pytest.raises(DigestMismatch):
        blobs.put(bench.store, in_pieces(os.urandom(size)), expected=digest_of(JAPANESE))
    assert bench.lies_there() == []


def test_the_same_bytes_again_are_one_blob_and_renew_its_time(bench: Bench) -> None:
    first = blobs.put(bench.store, [JAPANESE])
    before = bench.store.look(first.digest).at
    assert blobs.put(bench.store, [JAPANESE], expected=first.digest) == first
    assert bench.lies_there() == [first.digest]
    assert bench.store.look(first.digest).at >= before


@pytest.mark.parametrize(("start", "end"), [(0, 1), (5, 5), (5, 999), (MIB - 1, MIB + 1), (2 * MIB, None), (3 * MIB - 1, 99 * MIB)])
def test_a_range_is_exactly_its_bytes(bench: Bench, start: int, end: int | None) -> None:
    data = os.urandom(3 * MIB)
    digest = blobs.put(bench.store, in_pieces(data)).digest
    assert b"".join(bench.store.open(digest, start=start, end=end)) == data[start:end]


def test_bytes_that_changed_are_noticed_by_every_full_read(bench: Bench, tmp_path: Path) -> None:
    digest = blobs.put(bench.store, [JAPANESE]).digest
    bench.spoil(digest, JAPANESE[:-1] + b"!")
    with pytest.raises(BlobCorrupt):
        b"".join(bench.store.open(digest))
    with pytest.raises(BlobCorrupt):
        bench.store.link(digest, tmp_path / "out" / "file")
    assert not (tmp_path / "out" / "file").exists()


def test_a_file_for_a_reader_is_a_copy_that_harms_nothing(bench: Bench, tmp_path: Path) -> None:
    digest = blobs.put(bench.store, [JAPANESE]).digest
    target = tmp_path / "深い" / "フォルダ" / "規程.txt"
    bench.store.link(digest, target)
    assert target.read_bytes() == JAPANESE
    target.chmod(0o644)
    target.write_bytes(b"mine now")
    assert b"".join(bench.store.open(digest)) == JAPANESE


def test_what_is_not_there_is_missing_before_anything_is_sent(bench: Bench, tmp_path: Path) -> None:
    nothing = digest_of(b"nothing")
    with pytest.raises(BlobMissing):
        bench.store.open(nothing)  # at the call, not at the first piece: a download has not begun to answer then
    with pytest.raises(BlobMissing):
        bench.store.look(nothing)
    with pytest.raises(BlobMissing):
        bench.store.link(nothing, tmp_path / "file")
    with pytest.raises(BlobMissing):
        list(bench.store.open_part(uuid4()))


@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_parts_have_names_of_their_own_and_are_no_blobs(bench: Bench, size: int) -> None:
    data, part = os.urandom(size), uuid4()
    writer = bench.store.part_writer(part)
    writer.write(data)
    assert writer.seal() == (digest_of(data), size)
    writer.abort()
    assert b"".join(bench.store.open_part(part)) == data
    assert [(found.kind, found.name, found.size) for found in bench.store.objects()] == [(StoredKind.PART, str(part), size)]
    with pytest.raises(BlobMissing):
        bench.store.look(digest_of(data))
    bench.store.remove(StoredKind.PART, str(part))
    assert bench.lies_there() == []


def test_removing_is_by_kind_and_name_and_harmless_twice(bench: Bench) -> None:
    kept, gone = blobs.put(bench.store, [b"kept"]), blobs.put(bench.store, [b"gone"])
    for _ in range(2):
        bench.store.remove(StoredKind.BLOB, gone.digest)
        assert bench.lies_there() == [kept.digest]


def test_bytes_that_a_killed_writer_left_behind_are_listed_and_can_be_removed(bench: Bench) -> None:
    """What a process that was killed leaves: a part file, or a multipart upload that nobody completes."""
    writer = bench.store.writer()
    for piece in in_pieces(os.urandom(20 * MIB)):
        writer.write(piece)
    (left,) = bench.store.objects()
    assert left.kind in {StoredKind.INCOMING, StoredKind.MULTIPART}
    # moto says of every open multipart upload that it began in 2010.
    assert left.kind is StoredKind.MULTIPART or abs(bench.store.now() - left.at) < bench.an_hour
    for _ in range(2):
        bench.store.remove(left.kind, left.name)
        assert bench.lies_there() == []
    writer.abort()  # a writer that wakes up after that finds nothing, and harms nothing


def test_a_store_that_works_says_so(bench: Bench) -> None:
    bench.store.check()
