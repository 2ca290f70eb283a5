"""What a witness remembers: of every log the last checkpoint that it cosigned, each a file that is replaced as a whole.

A checkpoint is on disk before its cosignature leaves, so a witness that is killed at any moment has never said more than it remembers.
One process works on a folder at a time. Never restore the folder from a backup: it would forget what it has said.
"""

import fcntl
import hashlib
import os
from pathlib import Path

from ringi.audit.durable import write_durably
from ringi.audit.ringi_verify import Checkpoint, NoteInvalid, Refused, VerifierKey, parse_note, signed_by

_MODE = 0o644
# Contradictions that are kept as evidence; one is enough to accuse, and a log in a loop must not fill the disk.
MAX_EVIDENCE = 100


class StateUnusable(Refused):
    """The folder is another process's, or holds what cannot be believed: nothing is cosigned over it."""

    code = "witness_state_unusable"


class State:
    """A folder, held by this process until it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise StateUnusable(
                f"Another witness works with '{folder}'.", next_step="Stop it, or give this one a folder of its own."
            ) from error

    def close(self) -> None:
        """Let another process have the folder."""
        os.close(self._lock)

    def path(self, origin: str) -> Path:
        """Where the checkpoint of a log lies; an origin may hold slashes and any script."""
        return self.folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.checkpoint"

    def load(self, origin: str, keys: list[VerifierKey]) -> Checkpoint | None:
        """The last checkpoint cosigned for `origin`, None when there was none. Raises StateUnusable unless one of `keys` signed it."""
        path = self.path(origin)
        try:
            text, lines = parse_note(path.read_bytes())
            checkpoint = Checkpoint.parse(text)
            if checkpoint.origin == origin and any([signed_by(text, lines, key) for key in keys]):  # noqa: C419  # every key is asked: a wrong signature refuses
                return checkpoint
        except FileNotFoundError:
            return None
        except (NoteInvalid, OSError) as error:
            raise StateUnusable(f"'{path}' cannot be read: {getattr(error, 'message', error)}") from error
        raise StateUnusable(
            f"'{path}' is not what this witness kept of '{origin}'.", next_step="Never start it anew: find out who changed it."
        )

    def store(self, origin: str, note: bytes) -> None:
        """Replace what is remembered of a log; returns once it is on disk."""
        write_durably(self.path(origin), note, mode=_MODE, replace=True)

    def keep_evidence(self, note: bytes) -> Path | None:
        """Keep a checkpoint that the log signed and that contradicts what this witness knows; None when it is kept already, or enough are."""
        folder = self.folder / "evidence"
        path = folder / f"{hashlib.sha256(note).hexdigest()}.checkpoint"
        if path.exists() or (folder.is_dir() and sum(1 for _ in folder.iterdir()) >= MAX_EVIDENCE):
            return None
        write_durably(path, note, mode=_MODE, replace=True)
        return path
