"""The checkpoint that is shown: the newest that enough witnesses have cosigned, with their lines, or simply the newest without witnesses.

Notes are kept as they were signed; cosignatures come later, into a table of their own, and are added whenever a note is shown.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from ringi.audit.generations import of
from ringi.audit.models import AuditCheckpoint, AuditCosignature
from ringi.audit.ringi_verify import Checkpoint, NoteInvalid, Policy, parse_note
from ringi.audit.witnesses import load_witnesses
from ringi.kit.errors import RingiError
from ringi.settings import get_settings

_SIZES = 20


class AuditNotSigned(RingiError):
    """There is no signed checkpoint to export under yet."""

    code, status, retryable = "audit_not_signed", 409, True

    def __init__(self) -> None:
        super().__init__("The audit log has no signed checkpoint yet.", next_step="Check that the sequencer runs, then try again.")


class Signed(NamedTuple):
    """A signed checkpoint and its note, with the cosignatures that it has."""

    checkpoint: Checkpoint
    note: bytes


def _signed(session: Session, note: bytes) -> Signed:
    checkpoint = Checkpoint.parse(parse_note(note)[0])
    lines = select(AuditCosignature.line).where(AuditCosignature.origin == checkpoint.origin, AuditCosignature.size == checkpoint.size)
    return Signed(checkpoint, note + b"".join(session.scalars(lines.order_by(AuditCosignature.witness))))


def newest_signed(session: Session, generation: int | None = None) -> Signed:
    """Of the log that grows, or of another. Raises AuditNotSigned before the first signature."""
    of_log = select(AuditCheckpoint.note).where(AuditCheckpoint.generation == of(generation))
    note = session.scalar(of_log.order_by(AuditCheckpoint.size.desc()).limit(1))
    if note is None:
        raise AuditNotSigned
    return _signed(session, note)


def signed_at(session: Session, size: int, generation: int | None = None) -> bytes | None:
    """The note of exactly `size` entries, None where none was signed."""
    note = session.scalar(select(AuditCheckpoint.note).where(AuditCheckpoint.generation == of(generation), AuditCheckpoint.size == size))
    return None if note is None else _signed(session, note).note


def published(session: Session, generation: int | None = None) -> Signed:
    """What is shown to others: the newest checkpoint that fulfils the quorum of RINGI_WITNESSES; the newest one where there is none.

    Raises AuditNotSigned, WitnessesUnusable.
    """
    path = get_settings().witnesses
    newest = newest_signed(session, generation)
    policy = _policy(path, _written_at(path)) if path is not None else None
    if policy is None or policy.quorum is None or _accepted(policy, newest.note):
        return newest
    below = newest.checkpoint.size
    while sizes := _cosigned_sizes(session, newest.checkpoint.origin, below):
        for size in sizes:
            note = signed_at(session, size, generation)
            if note is not None and _accepted(policy, note):
                return Signed(Checkpoint.parse(parse_note(note)[0]), note)
        below = sizes[-1]
    return newest


def _cosigned_sizes(session: Session, origin: str, below: int) -> Sequence[int]:
    """Some sizes that have cosignatures, largest first."""
    size = AuditCosignature.size
    query = select(size).where(AuditCosignature.origin == origin, size < below).group_by(size).order_by(size.desc())
    return session.scalars(query.limit(_SIZES)).all()


def _accepted(policy: Policy, note: bytes) -> bool:
    try:
        policy.open(note)
    except NoteInvalid:
        return False
    return True


def _written_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # reading it says what is wrong


@lru_cache(maxsize=1)
def _policy(path: Path, _at: int) -> Policy:
    return load_witnesses(path).policy
