"""Checkpoints in a folder in which nothing can be replaced: object lock, a mounted WORM, or a share whose owner is not the database's.

One file for each anchored checkpoint, `<size>-<hash>.checkpoint`, mode 0444: the signed note with the cosignatures that it had then. Nothing
here ever replaces or removes one, so a note whose file was cut off is written once more, under another name.

The place itself is never made: where a mount is absent, a folder of this machine must not pass for it.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ringi.audit.checking import Known
from ringi.audit.durable import write_once
from ringi.audit.ringi_verify import Checkpoint, NoteInvalid, VerifierKey, parse_note
from ringi.audit.signing import open_signed
from ringi.kit.errors import RingiError

_MODE = 0o444
_NAME = re.compile(r"([0-9]{19})-[0-9a-f]{16}\.checkpoint")
# Of the newest files: one that was cut off while it was written must not hide the one before it.
_LOOKED_AT = 8


class AnchorFolderAway(RingiError):
    """The folder of RINGI_ANCHOR_DIR is not there, or cannot be read or written; it is tried again."""

    code, status, retryable = "audit_anchor_folder_away", 503, True

    def __init__(self, place: Path, what: str) -> None:
        super().__init__(
            f"The anchor folder '{place}' cannot be used: {what}.", next_step="Mount it, or make it: the platform never makes it by itself."
        )


class AnchorFolder:
    """The folder of one log; another origin has another folder below the same place. All of it raises AnchorFolderAway."""

    def __init__(self, place: Path, origin: str) -> None:
        self._place = place
        self.folder = place / re.sub(r"[^A-Za-z0-9.-]", "_", origin)

    def keep(self, note: bytes) -> bool:
        """Add a checkpoint; False when this very note is there already."""
        size = Checkpoint.parse(parse_note(note)[0]).size
        with self._there():
            self.folder.mkdir(exist_ok=True)
            for again in range(_LOOKED_AT):
                # Behind the note so many zero bytes: the name of a file that was cut off is taken for ever.
                path = self.folder / f"{size:019}-{hashlib.sha256(note + bytes(again)).hexdigest()[:16]}.checkpoint"
                try:
                    write_once(path, note, mode=_MODE)
                except FileExistsError:
                    if path.read_bytes() == note:
                        return False
                else:
                    return True
        raise AnchorFolderAway(self._place, f"{_LOOKED_AT} files of {size} entries were cut off")

    def notes(self) -> list[bytes]:
        """The newest notes, largest first, whoever signed them."""
        with self._there():
            return [(self.folder / name).read_bytes() for name in sorted(self._names(), reverse=True)[:_LOOKED_AT]]

    def newest(self, keys: Sequence[VerifierKey]) -> list[Known]:
        """The newest checkpoints that a key of the log signed, largest first; two of one size can contradict each other."""
        with self._there():
            return self._signed(keys, sorted(self._names(), reverse=True)[:_LOOKED_AT])

    def covers(self, size: int, keys: Sequence[VerifierKey]) -> bool:
        """Whether a file of this size is there, whole and signed by a key of the log."""
        with self._there():
            names = [name for name in self._names() if name.startswith(f"{size:019}-")]
            return any(one.checkpoint.size == size for one in self._signed(keys, names))

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name)] if self.folder.is_dir() else []

    def _signed(self, keys: Sequence[VerifierKey], names: Sequence[str]) -> list[Known]:
        found = []
        for name in names:
            with suppress(NoteInvalid):
                found.append(Known(open_signed((self.folder / name).read_bytes(), keys), f"the anchor folder's {name}"))
        return found

    @contextmanager
    def _there(self) -> Iterator[None]:
        try:
            if not self._place.is_dir():
                raise AnchorFolderAway(self._place, "it is not there")
            yield
        except OSError as error:
            raise AnchorFolderAway(self._place, f"{type(error).__name__} {error}") from error
