"""Sign the log's head, and refuse a tree that does not extend the last one signed (governance B3.4).

The last signed checkpoint lives in a file outside the database: whoever rewrites the tables, or restores an old backup, cannot also
make the signer forget what it has vouched for.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ringi.audit.durable import write_durably
from ringi.audit.generations import GROWING, must_be
from ringi.audit.keys import KeyUnusable, read_signers
from ringi.audit.merkle import consistency_proof
from ringi.audit.models import AuditCheckpoint
from ringi.audit.note import Signer, sign_checkpoint
from ringi.audit.ringi_verify import Checkpoint, LogKey, NoteInvalid, Policy, VerifierKey, verify_consistency
from ringi.audit.sequence import SIGN_LOCK, AuditHeadInvalid, node_reader, read_head
from ringi.kit.errors import RingiError

SECRET_MODE = 0o600


class AuditKeyUnusable(RingiError):
    """The key file is missing, readable by others, malformed, or for another log."""

    code, status = "audit_key_unusable", 500


class AuditLogInconsistent(RingiError):
    """The tables do not extend the last signed tree: changed, shortened, or restored from an older backup."""

    code, status = "audit_log_inconsistent", 500


class LastCheckpointUnusable(RingiError):
    """The file with the last signed checkpoint is missing or damaged although checkpoints were signed."""

    code, status = "audit_last_checkpoint_unusable", 500


def load_signers(path: Path, origin: str) -> tuple[Signer, ...]:
    """The signing keys of `path`, newest first: one a line, several while a key is being replaced and all of them sign.

    They must be for `origin` and readable by their owner alone; raises AuditKeyUnusable.
    """
    try:
        signers = read_signers(path, "The audit key")
    except KeyUnusable as error:
        raise AuditKeyUnusable(error.message, next_step=f"{error.next_step} RINGI_AUDIT_KEY_FILE names it.") from error
    for signer in signers:
        if signer.name != origin:
            raise AuditKeyUnusable(f"The audit key is for '{signer.name}', the log is '{origin}'.", next_step="Correct RINGI_AUDIT_ORIGIN.")
    return signers


def store_signers(path: Path, signers: Sequence[Signer]) -> None:
    """Replace the key file as a whole; a sequencer that runs takes the new keys at its next signature."""
    write_durably(path, "".join(f"{signer.export()}\n" for signer in signers).encode(), mode=SECRET_MODE, replace=True)


def load_or_create_signers(path: Path, origin: str) -> tuple[Signer, ...]:
    """For embedded use: make a key on first start (mode 0600), never overwrite one. Two starts at once agree on one key."""
    if not path.exists():
        key = Signer.generate(origin)
        with suppress(FileExistsError):
            write_durably(path, f"{key.export()}\n".encode(), mode=SECRET_MODE, replace=False)
    return load_signers(path, origin)


def open_signed(note: bytes, keys: Iterable[VerifierKey]) -> Checkpoint:
    """The checkpoint of a note that one of `keys` signed; raises NoteInvalid."""
    return Policy(tuple(LogKey(key) for key in keys)).open(note).checkpoint


class LastCheckpointNotWritten(RingiError):
    """The file with the last signed checkpoint cannot be written, so nothing is signed: a full disk, a folder without rights."""

    code, status, retryable = "audit_last_checkpoint_not_written", 500, True


class KeyFile:
    """The log's keys, read again when the file was replaced."""

    def __init__(self, path: Path, origin: str) -> None:
        self.path, self._origin = path, origin
        self._read()

    def _read(self) -> None:
        # Looked at before it is read: a file that is replaced in between is read once more.
        self._seen = self._look()
        self.signers = load_signers(self.path, self._origin)

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def current(self) -> tuple[Signer, ...]:
        """The keys that sign now, newest first; raises AuditKeyUnusable."""
        if self._look() != self._seen:
            self._read()
        return self.signers


class CheckpointFile:
    """The last checkpoint that this signer signed."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "last-signed"

    def read(self) -> bytes | None:
        """The note's bytes, None before the first one."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def load(self, *keys: VerifierKey) -> Checkpoint | None:
        """The checkpoint, verified with one of the signer's own keys; raises LastCheckpointUnusable."""
        try:
            note = self.read()
            return None if note is None else open_signed(note, keys)
        except (NoteInvalid, OSError) as error:
            raise LastCheckpointUnusable(
                f"The last signed checkpoint is damaged: {getattr(error, 'message', error)}",
                next_step="Put the newest checkpoint note that you trust into its place.",
            ) from error

    def store(self, note: bytes) -> None:
        """Replace it atomically; returns once it is on disk. Raises LastCheckpointNotWritten."""
        try:
            write_durably(self.path, note, mode=0o644, replace=True)
        except OSError as error:
            raise LastCheckpointNotWritten(
                f"The last signed checkpoint cannot be written: {error}.",
                next_step="Make room, or give the signer rights on RINGI_AUDIT_CHECKPOINT_DIR. Signing goes on by itself then.",
            ) from error


def _check_extends(session: Session, last: Checkpoint, size: int, root: bytes) -> None:
    if size < last.size:
        raise AuditLogInconsistent(
            f"The audit log has {size} leaves; {last.size} were already signed for.",
            next_step="Nothing is signed until the lost entries are back. After a restore, open a new origin (docs/audit.md).",
            details={"size": size, "signed_size": last.size},
        )
    try:
        proof = consistency_proof(last.size, size, partial(node_reader, session))
    except AuditHeadInvalid as error:
        raise AuditLogInconsistent(
            f"The audit log cannot show that it extends what was signed: {error.message}",
            next_step="Nothing is signed until the lost entries are back. After a restore, open a new origin (docs/audit.md).",
        ) from error
    if not verify_consistency(last.size, size, last.root, root, proof):
        raise AuditLogInconsistent(
            f"The audit log of {size} leaves does not extend the {last.size} that were signed: entries were changed.",
            next_step="Nothing is signed any more. Export the log and run `ringi audit verify` to name the entry.",
            details={"size": size, "signed_size": last.size},
        )


def sign_head(session: Session, signer: Signer, last_signed: CheckpointFile, *, also: Sequence[Signer] = ()) -> Checkpoint | None:
    """Sign the committed head if it grew; returns the new checkpoint, None when there was nothing to sign or another signer is at it.

    `also` are the older keys that sign beside it while a key is being replaced.

    The file is on disk before the row is committed, so after a crash in between the row is written from the file. Raises
    AuditLogInconsistent, LastCheckpointUnusable, LastCheckpointNotWritten or AuditOriginDiffers, at every call until a person has acted.
    """
    if not session.scalar(select(func.pg_try_advisory_xact_lock(SIGN_LOCK))):
        return None
    must_be(session, signer.name)
    last = last_signed.load(*(one.verifier for one in (signer, *also)))
    newest = session.scalar(select(func.max(AuditCheckpoint.size)).where(AuditCheckpoint.generation == GROWING))
    if newest is not None and (last is None or last.size < newest):
        raise LastCheckpointUnusable(
            f"The database holds a checkpoint of size {newest}, the signer's own file {'none' if last is None else f'one of {last.size}'}.",
            next_step=f"Put the newest checkpoint note that you trust into '{last_signed.path.name}' of the checkpoint folder.",
        )
    frontier = read_head(session)
    checkpoint = Checkpoint(signer.name, frontier.size, frontier.root())
    if last is not None:
        _check_extends(session, last, checkpoint.size, checkpoint.root)
    if checkpoint.size == 0 or (last == checkpoint and newest == checkpoint.size):
        return None
    note = sign_checkpoint(checkpoint, signer, *also)
    if last != checkpoint:
        last_signed.store(note)
    session.execute(insert(AuditCheckpoint).values(generation=GROWING, size=checkpoint.size, note=note).on_conflict_do_nothing())
    return checkpoint
