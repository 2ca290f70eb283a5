"""What a backup is: files in a folder, or in one uncompressed tar, and a manifest with the size and SHA-256 of each, written last.

    manifest.json               what is in it; a backup without it was cut off
    database/<name>.dump        PostgreSQL's custom format (pg_dump -Fc)
    blobs/sha256/ab/<hex>       as in a blob store
    checkpoint                  the newest signed checkpoint of the database's snapshot
    keys/<name>                 left out with --without-keys

The digests find damage, not malice: whoever can write the backup can write its manifest. That its log is the right one is shown by the
signed checkpoint, and by those that witnesses and auditors hold.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from ringi.audit.durable import sync_folder
from ringi.kit.digests import Digest, chunks, hex_of
from ringi.kit.errors import RingiError

FORMAT, MANIFEST, CHECKPOINT = "ringi-backup/1", "manifest.json", "checkpoint"


class BackupDamaged(RingiError):
    """The backup is cut off, changed, or none at all."""

    code, status = "backup_damaged", 400

    def __init__(self, what: str) -> None:
        super().__init__(
            f"This backup cannot be used: {what}.", next_step="Nothing was touched. Take another copy of it, or an older backup."
        )


class BackupRefused(RingiError):
    """The place of a backup is taken, or what should be backed up is not whole."""

    code, status = "backup_refused", 409


class Held(BaseModel):
    """One file of a backup; `size` in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size: int
    digest: Digest


class Manifest(BaseModel):
    """What a backup says of itself. `log_size` and `log_root` (hex) are of the log in the snapshot, entries that no checkpoint covers included.

    `collected`: blobs that were removed as unused between the snapshot and their turn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    created_at: str
    revision: str
    origin: str
    log_size: int
    log_root: str
    databases: list[str]
    keys: list[str]
    collected: list[Digest]
    files: list[Held]


class Writer(Protocol):
    """Where a backup goes."""

    def put(self, name: str, pieces: Iterable[bytes], size: int) -> None:
        """Add a file of `size` bytes."""

    def finish(self) -> None:
        """Everything is there: give it its name."""

    def abandon(self) -> None:
        """Leave nothing behind."""


class _FolderWriter:
    def __init__(self, path: Path) -> None:
        self.path, self.aside = path, path.with_name(f".{path.name}.partial")
        if self.aside.exists():
            shutil.rmtree(self.aside)
        # Keys and text of people are in it.
        self.aside.mkdir(mode=0o700, parents=True)

    def put(self, name: str, pieces: Iterable[bytes], size: int) -> None:  # noqa: ARG002  # the tar needs it beforehand
        place = self.aside / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        place.chmod(0o600)

    def finish(self) -> None:
        for folder in (self.aside, *(one for one in self.aside.rglob("*") if one.is_dir())):
            sync_folder(folder)
        self.aside.rename(self.path)
        sync_folder(self.path.parent)

    def abandon(self) -> None:
        shutil.rmtree(self.aside, ignore_errors=True)


class _Pieces(io.RawIOBase):
    """Pieces as a file: tarfile reads from files alone."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._rest = iter(pieces), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


class _TarWriter:
    def __init__(self, path: Path) -> None:
        self.path, self.aside = path, path.with_name(f".{path.name}.partial")
        self.aside.unlink(missing_ok=True)
        self.aside.touch(mode=0o600)
        self._tar = tarfile.open(self.aside, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  # closed by finish and abandon

    def put(self, name: str, pieces: Iterable[bytes], size: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, 0o600
        source = io.BufferedReader(_Pieces(pieces))
        self._tar.addfile(entry, source)
        # The last step of a verified read is behind its last byte.
        if source.read():
            raise BackupRefused(f"'{name}' has more than {size} bytes.", next_step="Take the backup again.")

    def finish(self) -> None:
        self._tar.close()
        with self.aside.open("rb") as whole:
            os.fsync(whole.fileno())
        self.aside.rename(self.path)
        sync_folder(self.path.parent)

    def abandon(self) -> None:
        self._tar.close()
        self.aside.unlink(missing_ok=True)


def writer_to(path: Path) -> Writer:
    """A new backup at `path`: a tar when it ends in `.tar`, else a folder. Raises BackupRefused when there is something already."""
    if path.exists():
        raise BackupRefused(f"'{path}' exists already.", next_step="Name a new folder, or a new file that ends in .tar.")
    path.parent.mkdir(parents=True, exist_ok=True)
    return _TarWriter(path) if path.suffix == ".tar" else _FolderWriter(path)


class Recorder:
    """Writes files and keeps what the manifest says of them."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.files: list[Held] = []

    def put(self, name: str, pieces: Iterable[bytes], size: int) -> None:
        """Add a file, hashed as it is written. Raises BackupRefused when it has another size."""
        running, seen = hashlib.sha256(), 0

        def passed() -> Iterator[bytes]:
            nonlocal seen
            for piece in pieces:
                running.update(piece)
                seen += len(piece)
                yield piece

        try:
            self._writer.put(name, passed(), size)
        except OSError as error:
            raise BackupRefused(f"'{name}' could not be written: {error}.", next_step="Make room, then take the backup again.") from error
        if seen != size:
            raise BackupRefused(f"'{name}' has {seen} bytes instead of {size}.", next_step="Take the backup again.")
        self.files.append(Held(name=name, size=size, digest="sha256:" + running.hexdigest()))

    def put_bytes(self, name: str, data: bytes) -> None:
        """Add a small file."""
        self.put(name, [data], len(data))

    def put_file(self, name: str, path: Path) -> None:
        """Add a copy of a file."""
        with path.open("rb") as stream:
            self.put(name, chunks(stream), path.stat().st_size)


class Opened(NamedTuple):
    """A backup whose every byte was read and found as its manifest says."""

    manifest: Manifest
    path: Path

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of a file."""
        with closing(_stream(self.path, name)) as stream:
            yield from chunks(stream)

    def read(self, name: str) -> bytes:
        """A small file."""
        return b"".join(self.pieces(name))


def blob_name(digest: Digest) -> str:
    """Where a blob stands in a backup."""
    return f"blobs/sha256/{hex_of(digest)[:2]}/{hex_of(digest)}"


def _stream(path: Path, name: str) -> BinaryIO:
    if path.is_dir():
        return (path / name).open("rb")
    tar = tarfile.open(path, "r:")  # noqa: SIM115  # closed with its member below
    found = tar.extractfile(name)
    if found is None:
        raise KeyError(name)
    return _MemberStream(found, tar)


class _MemberStream(io.BufferedReader):
    def __init__(self, member: Any, tar: tarfile.TarFile) -> None:
        super().__init__(member)
        self._tar = tar

    def close(self) -> None:
        super().close()
        self._tar.close()


def _names(path: Path) -> set[str]:
    if path.is_dir():
        return {found.relative_to(path).as_posix() for found in path.rglob("*") if not found.is_dir() or found.is_symlink()}
    with tarfile.open(path, "r:") as tar:
        entries = tar.getmembers()
    if any(not entry.isreg() for entry in entries) or len({entry.name for entry in entries}) != len(entries):
        raise BackupDamaged("the tar holds something else than files, or one twice")
    return {entry.name for entry in entries}


def open_backup(path: Path) -> Opened:
    """Read all of a backup and compare it with its manifest; nothing is written. Raises BackupDamaged."""
    try:
        names = _names(path)
        if MANIFEST not in names:
            raise BackupDamaged("it has no manifest, so it was cut off, or is no backup")
        with closing(_stream(path, MANIFEST)) as stream:
            manifest = Manifest.model_validate_json(stream.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BackupDamaged(f"it cannot be read ({error})") from error
    except (ValidationError, json.JSONDecodeError) as error:
        raise BackupDamaged("its manifest is malformed") from error
    if manifest.format != FORMAT:
        raise BackupDamaged(f"its format is '{manifest.format[:40]}', and '{FORMAT}' is read here")
    listed = {one.name for one in manifest.files}
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in listed):
        raise BackupDamaged("it names a file outside of itself")
    if names - {MANIFEST} != listed or len(listed) != len(manifest.files):
        differ = sorted((names - {MANIFEST}) ^ listed)
        raise BackupDamaged(f"its files are not those of its manifest: {', '.join(differ[:3])}")
    opened = Opened(manifest, path)
    for one in manifest.files:
        _check(opened, one)
    return opened


def _check(opened: Opened, one: Held) -> None:
    running, size = hashlib.sha256(), 0
    try:
        for piece in opened.pieces(one.name):
            running.update(piece)
            size += len(piece)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BackupDamaged(f"'{one.name}' cannot be read ({error})") from error
    if (size, "sha256:" + running.hexdigest()) != (one.size, one.digest):
        raise BackupDamaged(f"'{one.name}' is not what its manifest says")
