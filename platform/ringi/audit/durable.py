"""Files that are whole or not there, whenever the machine stops. Standard library only."""

import os
import secrets
from pathlib import Path


def write_durably(path: Path, data: bytes, *, mode: int, replace: bool) -> None:
    """Write aside, fsync, then put in place and fsync the folder. Without `replace` an existing file raises FileExistsError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            aside.replace(path)
        else:
            path.hardlink_to(aside)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_once(path: Path, data: bytes, *, mode: int) -> None:
    """Create a file where nothing may be renamed or removed (a mounted WORM): straight into place, then fsync. Raises FileExistsError.

    Cut off half-way it stays half-written, which whoever reads it notices: the notes that are kept so carry signatures.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(path.parent)


def remove_durably(path: Path) -> None:
    """Gone once this returns, also after the machine stops; nothing where it is not there."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the folder's own entries on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
