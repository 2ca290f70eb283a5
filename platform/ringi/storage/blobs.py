"""Bytes named by their SHA-256: written aside, sealed by a rename, verified on every full read.

`BlobStore` is the Protocol; `local.py` is the folder that a single host or a shared volume uses.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ringi.kit.digests import Digest
from ringi.kit.errors import RingiError
from ringi.settings import get_settings
from ringi.storage.models import Blob


class StoredBlob(NamedTuple):
    """What was stored: its digest and its size in bytes."""

    digest: Digest
    size: int


class DigestMismatch(RingiError):
    """The bytes that arrived are not the bytes that were announced."""

    code, status = "blob_digest_mismatch", 400

    def __init__(self, *, expected: Digest, found: Digest) -> None:
        super().__init__(
            f"The content has digest {found}, but {expected} was announced.",
            next_step="Nothing was kept. Check the file and upload it again.",
            details={"expected": expected, "found": found},
        )


class BlobCorrupt(RingiError):
    """Stored bytes no longer match their name: disk rot or tampering."""

    code, status = "blob_corrupt", 500

    def __init__(self, digest: Digest) -> None:
        super().__init__(
            f"The stored bytes of {digest} no longer match their digest and were not used.",
            next_step="Restore this blob from a backup; compare the audit log for who could write to the store.",
        )


class BlobMissing(RingiError):
    """The store does not hold these bytes."""

    code, status = "blob_missing", 404

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"No bytes with digest {digest} are stored.", next_step="Upload the file first: POST /api/v1/uploads.")


class UploadTooLarge(RingiError):
    """More bytes than one upload may have."""

    code, status = "upload_too_large", 413

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The upload is larger than the limit of {limit} bytes.",
            next_step="Split the weights into shards, or raise RINGI_MAX_UPLOAD_BYTES.",
        )


class StoreFull(RingiError):
    """The disk has no room; nothing half-written stays behind."""

    code, status, retryable = "blob_store_full", 507, True

    def __init__(self) -> None:
        super().__init__(
            "The blob store has no space left; nothing was kept.", next_step="Free space in the store, then send the file again."
        )


class BlobWriter(Protocol):
    """One blob being written aside. Leave without `seal` and nothing stays."""

    def write(self, piece: bytes) -> None:
        """Append `piece`."""

    def seal(self, expected: Digest | None = None) -> StoredBlob:
        """Make the bytes visible under their digest; raises DigestMismatch when `expected` differs."""

    def abort(self) -> None:
        """Drop what was written; harmless after `seal`."""


class BlobStore(Protocol):
    """Where bytes live."""

    def writer(self) -> BlobWriter:
        """Start a blob."""

    def open(self, digest: Digest, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Stream bytes [start, end); a full read verifies the digest and raises BlobCorrupt at its end."""

    def size(self, digest: Digest) -> int:
        """Size in bytes; raises BlobMissing."""

    def link(self, digest: Digest, target: Path) -> None:
        """Place a verified copy of the blob at `target` for a reader that needs a file."""


def put(store: BlobStore, pieces: Iterable[bytes], *, expected: Digest | None = None) -> StoredBlob:
    """Store a stream; memory does not grow with it."""
    writer = store.writer()
    try:
        for piece in pieces:
            writer.write(piece)
        return writer.seal(expected)
    finally:
        writer.abort()


def register(session: Session, stored: StoredBlob) -> None:
    """Record that the bytes exist; the same bytes again add nothing."""
    session.execute(insert(Blob).values(digest=stored.digest, size=stored.size).on_conflict_do_nothing())


def read_all(store: BlobStore, digest: Digest, *, limit: int) -> bytes:
    """A small blob as bytes, verified; raises UploadTooLarge past `limit` bytes."""
    if store.size(digest) > limit:
        raise UploadTooLarge(limit)
    return b"".join(store.open(digest))


def lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream without their line feed; memory does not grow with the stream. Blank lines are passed over."""
    rest = b""
    for piece in pieces:
        # At line feeds alone: bytes.splitlines also breaks at a carriage return.
        *whole, rest = (rest + piece).split(b"\n")
        yield from filter(None, whole)
    if rest:
        yield rest


def verified(pieces: Iterable[bytes], digest: Digest) -> Iterator[bytes]:
    """Pass `pieces` on and raise BlobCorrupt at the end when they do not hash to `digest`."""
    running = hashlib.sha256()
    for piece in pieces:
        running.update(piece)
        yield piece
    if "sha256:" + running.hexdigest() != digest:
        raise BlobCorrupt(digest)


@cache
def get_store() -> BlobStore:
    """The store of `RINGI_BLOB_URL` (`file:///folder`), by default the data folder's `blobs`."""
    from ringi.storage.local import LocalBlobStore  # noqa: PLC0415  # local.py builds on this file

    url = get_settings().blob_url
    if url is None:
        return LocalBlobStore(get_settings().blob_dir)
    parts = urlsplit(url)
    if parts.scheme != "file":
        raise RingiError(f"No blob store speaks '{parts.scheme}:' yet.", next_step="Use RINGI_BLOB_URL=file:///a/shared/folder.")
    return LocalBlobStore(Path(unquote(parts.path)))
