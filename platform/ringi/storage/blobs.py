"""Bytes named by their SHA-256: written aside, sealed last, verified on every full read.

`BlobStore` is the Protocol, with two implementations: `local.py`, a folder of one host or of a shared volume, and `s3.py`, a bucket.
What may be removed again is decided in `retention/`; `hold` and `register` here are the platform's side of that bargain.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ringi.kit.digests import Digest
from ringi.kit.errors import RingiError
from ringi.settings import get_settings
from ringi.storage.models import Blob
from ringi.storage.schemas import StoredKind

# Keeps the locks of digests apart from other advisory locks of this database.
LOCK_SEED = 7_310_001


class StoredBlob(NamedTuple):
    """What was stored: its digest and its size in bytes."""

    digest: Digest
    size: int


class StoredObject(NamedTuple):
    """One thing in a store.

    `name` is the digest of a blob, the id of a part, and the store's own name of the rest. `size` in bytes, 0 where the store does not say.
    `at` is when it was written last, by the store's clock.
    """

    kind: StoredKind
    name: str
    size: int
    at: datetime


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


class BlobCollected(BlobMissing):
    """Unused bytes were removed in the moment in which something was about to refer to them: send them again, or let the job run again."""

    code, status, retryable = "blob_collected", 409, True


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


class StoreUnavailable(RingiError):
    """The store does not answer, or refuses this deployment."""

    code, status, retryable = "blob_store_unavailable", 503, True

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The blob store cannot be used: {reason}.",
            next_step="Try again in a moment; if it stays, check RINGI_BLOB_URL, the store and its credentials.",
        )


class StoreUrlInvalid(RingiError):
    """RINGI_BLOB_URL names no store that this installation can use."""

    code, status = "blob_url_invalid", 500

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"RINGI_BLOB_URL cannot be used: {reason}.",
            next_step="Use file:///a/shared/folder or s3://bucket/prefix?endpoint=…&region=… (docs/storage.md).",
        )


class BlobWriter(Protocol):
    """Bytes being written aside. Leave without `seal` and nothing stays. Raises StoreFull and StoreUnavailable."""

    def write(self, piece: bytes) -> None:
        """Append `piece`."""

    def seal(self) -> StoredBlob:
        """Make the bytes visible, whole, under their name; raises DigestMismatch when another digest was announced."""

    def abort(self) -> None:
        """Drop what was written; harmless after `seal`."""


class BlobStore(Protocol):
    """Where bytes live. Every method raises StoreUnavailable while the store does not answer."""

    def writer(self, expected: Digest | None = None) -> BlobWriter:
        """Start a blob; `expected` is its digest where the sender has announced it."""

    def open(self, digest: Digest, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Stream bytes [start, end); a full read verifies the digest and raises BlobCorrupt at its end."""

    def look(self, digest: Digest) -> StoredObject:
        """Size and time of a blob; raises BlobMissing."""

    def link(self, digest: Digest, target: Path) -> None:
        """Place a verified copy of the blob at `target` for a reader that needs a file."""

    def part_writer(self, part: UUID) -> BlobWriter:
        """Start a part of an upload session: bytes under a name of their own, no blob yet."""

    def open_part(self, part: UUID) -> Iterator[bytes]:
        """Stream a part; raises BlobMissing."""

    def objects(self) -> Iterator[StoredObject]:
        """Everything in the store; what comes and goes meanwhile may or may not be among it."""

    def remove(self, kind: StoredKind, name: str) -> None:
        """Remove one thing; harmless when it is gone."""

    def now(self) -> datetime:
        """The time by the clock that `at` is written with."""

    def check(self) -> None:
        """Raises StoreUnavailable when the store would take no bytes now."""


def put(store: BlobStore, pieces: Iterable[bytes], *, expected: Digest | None = None) -> StoredBlob:
    """Store a stream; memory does not grow with it."""
    writer = store.writer(expected)
    try:
        for piece in pieces:
            writer.write(piece)
        return writer.seal()
    finally:
        writer.abort()


def hold(session: Session, digests: Collection[Digest]) -> None:
    """Until the transaction ends nothing removes these digests; call it before reading whether they are there, and before referring to them.

    The collector takes the same lock alone (retention/service.py). A lock of the digest and not of its row: it also guards bytes without a row.
    """
    lock = text("SELECT pg_advisory_xact_lock_shared(hashtextextended(digest, :seed)) FROM unnest(CAST(:digests AS text[])) AS digest")
    session.execute(lock, {"seed": LOCK_SEED, "digests": sorted(digests)})


def register(session: Session, stored: StoredBlob) -> None:
    """Record that the bytes exist; the same bytes again add nothing. Raises BlobCollected when they were removed after they were sealed."""
    hold(session, [stored.digest])
    try:
        get_store().look(stored.digest)
    except BlobMissing:
        raise BlobCollected(stored.digest) from None
    session.execute(insert(Blob).values(digest=stored.digest, size=stored.size).on_conflict_do_nothing())


def read_all(store: BlobStore, digest: Digest, *, limit: int) -> bytes:
    """A small blob as bytes, verified; raises UploadTooLarge past `limit` bytes."""
    if store.look(digest).size > limit:
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
    """The store of `RINGI_BLOB_URL` (`file:///folder`, `s3://bucket/prefix`), by default the data folder's `blobs`. Raises StoreUrlInvalid."""
    return store_at(get_settings().blob_url or get_settings().blob_dir.absolute().as_uri())


def store_at(url: str) -> BlobStore:
    """The store that a URL names."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        from ringi.storage.local import LocalBlobStore  # noqa: PLC0415  # local.py builds on this file

        return LocalBlobStore(Path(unquote(parts.path)))
    if parts.scheme != "s3":
        raise StoreUrlInvalid(f"no blob store speaks '{parts.scheme}:'")
    try:
        from ringi.storage.s3 import bucket_at  # noqa: PLC0415  # only deployments on a bucket have its client installed
    except ModuleNotFoundError as error:
        raise StoreUrlInvalid(f"'s3:' needs the extra s3 ({error}): pip install 'ringi[s3]'") from error
    return bucket_at(url)
