"""What the database still holds of its log, and what was signed beyond it: the facts that a statement is made of and compared with."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from ringi.audit.anchor_folder import AnchorFolder
from ringi.audit.generations import GROWING, must_be
from ringi.audit.models import AuditCheckpoint
from ringi.audit.read_only import open_stop
from ringi.audit.replaying import EntryDiffers, replayed
from ringi.audit.ringi_verify import EMPTY_ROOT, Checkpoint, Frontier, NoteInvalid, VerifierKey, parse_note
from ringi.audit.signing import CheckpointFile, load_signers, open_signed
from ringi.audit.stops import NotStopped
from ringi.audit.witnesses import load_witnesses
from ringi.kit.errors import Conflict
from ringi.settings import Settings


class NothingLost(Conflict):
    """The database holds all that is known to have been signed: its log goes on."""

    code = "audit_nothing_lost"

    def __init__(self, held: int, last: int) -> None:
        super().__init__(
            f"The database holds {held} signed entries, and no signed checkpoint of more is known here ({last}).",
            next_step="Pass the newest checkpoint of a witness or an auditor with --checkpoint, or end the mode: ringi audit resume.",
        )


class KeptPartChanged(Conflict):
    """What is left of the log is not what was signed, so that it cannot be the end of it."""

    code = "audit_kept_part_changed"


class State(NamedTuple):
    """`last`: the largest checkpoint known outside the database, with the key that signed it and its line; `held`: the largest within."""

    last: Checkpoint
    key: VerifierKey
    line: str
    held: Checkpoint


def checkpoint_file(settings: Settings) -> CheckpointFile:
    """Where the signer keeps its last word."""
    return CheckpointFile(settings.audit_checkpoint_path)


def gather(session: Session, settings: Settings, notes: Sequence[bytes]) -> State:
    """Look. `notes` are checkpoints that somebody kept elsewhere; those that no key of the log signed are refused.

    Raises AuditOriginDiffers, NotStopped, AuditKeyUnusable, NothingLost, KeptPartChanged.
    """
    must_be(session, settings.audit_origin)
    if open_stop(session) is None:
        raise NotStopped
    keys = [signer.verifier for signer in load_signers(settings.audit_key_path, settings.audit_origin)]
    if settings.witnesses is not None:
        listed = [log.key for log in load_witnesses(settings.witnesses).policy.logs]
        keys += [key for key in listed if key.name == settings.audit_origin and key not in keys]
    found = [_signed(note, keys) for note in notes]
    for note in _kept_here(settings):
        with suppress(NoteInvalid):
            found.append(_signed(note, keys))
    held = _held(session, settings.audit_origin)
    last = max(found, key=lambda one: one[0].size, default=None)
    if last is None or last[0].size <= held.size:
        raise NothingLost(held.size, last[0].size if last is not None else 0)
    return State(*last, held)


def _kept_here(settings: Settings) -> Iterator[bytes]:
    own = checkpoint_file(settings).read()
    if own is not None:
        yield own
    if settings.anchor_dir is not None:
        yield from AnchorFolder(settings.anchor_dir, settings.audit_origin).notes()


def _signed(note: bytes, keys: Iterable[VerifierKey]) -> tuple[Checkpoint, VerifierKey, str]:
    for key in keys:
        with suppress(NoteInvalid):
            checkpoint = open_signed(note, [key])
            # Below the last empty line alone: nothing in the text is a signature.
            lines = [line for line in note.decode().rpartition("\n\n")[2].split("\n") if line.startswith(f"\u2014 {key.name} ")]
            named = [one for one in parse_note(note)[1] if one.name == key.name]
            if len(lines) != len(named):
                raise NoteInvalid("The signatures of a checkpoint that was given cannot be told apart.")
            own = {line.key_id: text for line, text in zip(named, lines, strict=True)}
            return checkpoint, key, own[key.id]
    raise NoteInvalid("A checkpoint that was given is not signed by a key of this log.")


def _held(session: Session, origin: str) -> Checkpoint:
    """The newest checkpoint in the database, after every entry under it was hashed again. Raises KeptPartChanged."""
    newest = select(AuditCheckpoint.note).where(AuditCheckpoint.generation == GROWING).order_by(AuditCheckpoint.size.desc())
    note = session.scalar(newest.limit(1))
    held = Checkpoint(origin, 0, EMPTY_ROOT) if note is None else Checkpoint.parse(parse_note(note)[0])
    kept = Frontier()
    with suppress(EntryDiffers):
        for frontier, _ in replayed(session, None, below=held.size):
            kept = frontier
    if (kept.size, kept.root()) != (held.size, held.root):
        raise KeptPartChanged(
            f"Entry {kept.size} of the {held.size} that the database has signed is not what was signed.",
            next_step="Put its exact bytes back, or restore another backup: a log that ends must be whole up to its end.",
        )
    return held
