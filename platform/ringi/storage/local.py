"""The blob store in a folder: `incoming/` while bytes arrive, `sha256/ab/<hex>` once they are sealed."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from ringi.kit.digests import CHUNK_BYTES, Digest, hex_of, sha256_file
from ringi.storage.blobs import BlobCorrupt, BlobMissing, DigestMismatch, StoredBlob, StoreFull, verified


class LocalBlobStore:
    """Blobs as read-only files of one folder, which may be a volume that several hosts share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.incoming = folder / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        """Where the bytes of `digest` are, or would be."""
        name = hex_of(digest)
        return self.folder / "sha256" / name[:2] / name

    def writer(self) -> "LocalBlobWriter":
        """Start a blob in `incoming/`."""
        return LocalBlobWriter(self)

    def size(self, digest: Digest) -> int:
        """Size in bytes; raises BlobMissing."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise BlobMissing(digest) from None

    def open(self, digest: Digest, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Stream bytes [start, end); only a full read can be verified, a range cannot."""
        size = self.size(digest)
        stop = size if end is None else min(end, size)
        pieces = self._read(digest, start, stop)
        return verified(pieces, digest) if (start, stop) == (0, size) else pieces

    def _read(self, digest: Digest, start: int, stop: int) -> Iterator[bytes]:
        with self.path(digest).open("rb") as stream:
            stream.seek(start)
            while start < stop and (piece := stream.read(min(CHUNK_BYTES, stop - start))):
                start += len(piece)
                yield piece

    def link(self, digest: Digest, target: Path) -> None:
        """A verified copy at `target`: a copy, not a hard link, because a reader must not be able to change the sealed bytes."""
        self.size(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path(digest), target)
        if sha256_file(target) != digest:
            target.unlink()
            raise BlobCorrupt(digest)


class LocalBlobWriter:
    """Bytes on their way in; hashed as they are written."""

    def __init__(self, store: LocalBlobStore) -> None:
        self._store = store
        self._part = store.incoming / f"{uuid4().hex}.part"
        self._stream = self._part.open("xb")
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, piece: bytes) -> None:
        """Append `piece`; a full disk becomes StoreFull."""
        self._hash.update(piece)
        self._size += len(piece)
        try:
            self._stream.write(piece)
        except OSError as error:
            raise self._explained(error) from error

    def seal(self, expected: Digest | None = None) -> StoredBlob:
        """Sync to disk, then rename to the digest's place: visible whole or not at all."""
        digest = "sha256:" + self._hash.hexdigest()
        if expected is not None and digest != expected:
            raise DigestMismatch(expected=expected, found=digest)
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            target = self._store.path(digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._part.chmod(0o444)
            self._part.replace(target)
        except OSError as error:
            raise self._explained(error) from error
        return StoredBlob(digest=digest, size=self._size)

    def abort(self) -> None:
        """Remove the part file; after `seal` there is none."""
        try:
            # Closing writes what is still buffered, and on a full disk that fails again.
            with suppress(OSError):
                self._stream.close()
        finally:
            self._part.unlink(missing_ok=True)

    @staticmethod
    def _explained(error: OSError) -> Exception:
        # EFBIG: the file system, or a limit on this process, allows no file as large as this one.
        return StoreFull() if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else error
