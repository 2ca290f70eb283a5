"""The blob store in a folder: `incoming/` while bytes arrive, `sha256/ab/<hex>` once they are sealed, `parts/` of upload sessions."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from ringi.kit.digests import CHUNK_BYTES, Digest, chunks, hex_of, sha256_file
from ringi.storage.blobs import (
    BlobCorrupt,
    BlobMissing,
    DigestMismatch,
    StoredBlob,
    StoredObject,
    StoreFull,
    StoreUnavailable,
    verified,
)
from ringi.storage.schemas import StoredKind

# EFBIG: the file system, or a limit on this process, allows no file as large as this one.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class LocalBlobStore:
    """Blobs as read-only files of one folder, which may be a volume that several hosts share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.incoming = folder / "incoming"
        self.parts = folder / "parts"
        for place in (self.incoming, self.parts):
            place.mkdir(parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        """Where the bytes of `digest` are, or would be."""
        name = hex_of(digest)
        return self.folder / "sha256" / name[:2] / name

    def writer(self, expected: Digest | None = None) -> "LocalBlobWriter":
        """Start a blob in `incoming/`."""
        return LocalBlobWriter(self, expected=expected)

    def part_writer(self, part: UUID) -> "LocalBlobWriter":
        """Start a part in `incoming/`."""
        return LocalBlobWriter(self, place=self.parts / str(part))

    def look(self, digest: Digest) -> StoredObject:
        """Size and time; raises BlobMissing."""
        with _explained():
            try:
                found = self.path(digest).stat()
            except FileNotFoundError:
                raise BlobMissing(digest) from None
        return StoredObject(StoredKind.BLOB, digest, found.st_size, _time(found))

    def open(self, digest: Digest, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Stream bytes [start, end); only a full read can be verified, a range cannot."""
        size = self.look(digest).size
        stop = size if end is None else min(end, size)
        pieces = self._read(digest, start, stop)
        return verified(pieces, digest) if (start, stop) == (0, size) else pieces

    def _read(self, digest: Digest, start: int, stop: int) -> Iterator[bytes]:
        with _explained():
            stream = self.path(digest).open("rb")
        with stream:
            stream.seek(start)
            while start < stop:
                with _explained():
                    piece = stream.read(min(CHUNK_BYTES, stop - start))
                if not piece:
                    return
                start += len(piece)
                yield piece

    def open_part(self, part: UUID) -> Iterator[bytes]:
        """Stream a part; raises BlobMissing."""
        with _explained():
            try:
                stream = (self.parts / str(part)).open("rb")
            except FileNotFoundError:
                raise BlobMissing(str(part)) from None
        with stream:
            yield from chunks(stream)

    def link(self, digest: Digest, target: Path) -> None:
        """A verified copy at `target`: a copy, not a hard link, because a reader must not be able to change the sealed bytes."""
        self.look(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path(digest), target)
        if sha256_file(target) != digest:
            target.unlink()
            raise BlobCorrupt(digest)

    def objects(self) -> Iterator[StoredObject]:
        """Every file."""
        for shard in _entries(self.folder / "sha256"):
            yield from (StoredObject(StoredKind.BLOB, f"sha256:{name}", size, at) for name, size, at in _files(Path(shard.path)))
        yield from (StoredObject(StoredKind.PART, *found) for found in _files(self.parts))
        yield from (StoredObject(StoredKind.INCOMING, *found) for found in _files(self.incoming))

    def remove(self, kind: StoredKind, name: str) -> None:
        """Remove one file; harmless when it is gone."""
        places = {StoredKind.PART: self.parts / name, StoredKind.INCOMING: self.incoming / name}
        with _explained():
            (self.path(name) if kind is StoredKind.BLOB else places[kind]).unlink(missing_ok=True)

    def now(self) -> datetime:
        """The file server's time, which need not be this host's; asked without making a file, so that it works on a full disk."""
        with _explained():
            os.utime(self.incoming)
            return _time(self.incoming.stat())

    def check(self) -> None:
        """Raises StoreUnavailable when the folder is gone or read-only."""
        if not os.access(self.incoming, os.W_OK):
            raise StoreUnavailable("its folder is missing or cannot be written to")


class LocalBlobWriter:
    """Bytes on their way in; hashed as they are written. Sealed at `place`, or at the place of their digest."""

    def __init__(self, store: LocalBlobStore, *, expected: Digest | None = None, place: Path | None = None) -> None:
        self._store = store
        self._expected = expected
        self._place = place
        self._part = store.incoming / f"{uuid4().hex}.part"
        with _explained():
            self._stream = self._part.open("xb")
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, piece: bytes) -> None:
        """Append `piece`; a full disk becomes StoreFull."""
        self._hash.update(piece)
        self._size += len(piece)
        with _explained():
            self._stream.write(piece)

    def seal(self) -> StoredBlob:
        """Sync to disk, then rename to its place: visible whole or not at all, and still there after a power cut."""
        digest = "sha256:" + self._hash.hexdigest()
        if self._expected not in {None, digest}:
            raise DigestMismatch(expected=self._expected or "", found=digest)
        with _explained():
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            target = self._place or self._store.path(digest)
            made = not target.parent.exists()
            target.parent.mkdir(parents=True, exist_ok=True)
            self._part.chmod(0o444)
            self._part.replace(target)
            # A rename is an entry in a folder; it is safe when the folder is, and a new folder when the one around it is.
            for folder in [target.parent, target.parent.parent, target.parent.parent.parent][: 3 if made else 1]:
                _sync_folder(folder)
        return StoredBlob(digest=digest, size=self._size)

    def abort(self) -> None:
        """Remove the part file; after `seal` there is none."""
        try:
            # Closing writes what is still buffered, and on a full disk that fails again.
            with suppress(OSError):
                self._stream.close()
        finally:
            self._part.unlink(missing_ok=True)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFull from error
        raise StoreUnavailable(f"the folder answers '{error.strerror}'") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _time(found: os.stat_result) -> datetime:
    return datetime.fromtimestamp(found.st_mtime, UTC)


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries


def _files(folder: Path) -> Iterator[tuple[str, int, datetime]]:
    """Name, size in bytes and time of every file of a folder that is still there when it is looked at."""
    for entry in _entries(folder):
        with suppress(FileNotFoundError):
            found = entry.stat(follow_symlinks=False)
            yield entry.name, found.st_size, _time(found)
