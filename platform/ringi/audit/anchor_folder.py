"""Checkpoints in a folder in which nothing can be replaced: object lock, a mounted WORM, or a share whose owner is not the database's.

One file for each anchored checkpoint, `<size>-<hash>.checkpoint`, mode 0444: the signed note with the cosignatures that it had then. Nothing
here ever replaces or removes one.
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ringi.audit.checking import Known
from ringi.audit.durable import write_once
from ringi.audit.ringi_verify import Checkpoint, NoteInvalid, VerifierKey, parse_note
from ringi.audit.signing import open_signed

_MODE = 0o444
_NAME = re.compile(r"([0-9]{19})-[0-9a-f]{16}\.checkpoint")
# Of the newest files: one that was cut off while it was written must not hide the one before it.
_LOOKED_AT = 8


class AnchorFolder:
    """The folder of one log; another origin has another folder below the same place."""

    def __init__(self, place: Path, origin: str) -> None:
        self.folder = place / re.sub(r"[^A-Za-z0-9.-]", "_", origin)

    def keep(self, note: bytes) -> bool:
        """Add a checkpoint; False when this very note is there already."""
        size = Checkpoint.parse(parse_note(note)[0]).size
        with suppress(FileExistsError):
            write_once(self.folder / f"{size:019}-{hashlib.sha256(note).hexdigest()[:16]}.checkpoint", note, mode=_MODE)
            return True
        return False

    def notes(self) -> list[bytes]:
        """The newest notes, largest first, whoever signed them."""
        return [(self.folder / name).read_bytes() for name in self._newest_names()]

    def _newest_names(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted((path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)[:_LOOKED_AT]

    def newest(self, keys: Sequence[VerifierKey]) -> list[Known]:
        """The newest checkpoints that a key of the log signed, largest first; two of one size can contradict each other."""
        found = []
        for name in self._newest_names():
            with suppress(NoteInvalid):
                found.append(Known(open_signed((self.folder / name).read_bytes(), keys), f"the anchor folder's {name}"))
        return found

    def covers(self, size: int) -> bool:
        """Whether a file of this size is there."""
        return self.folder.is_dir() and any(self.folder.glob(f"{size:019}-*.checkpoint"))
