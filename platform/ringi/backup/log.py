"""What the audit log in a database comes to: every entry hashed again, from its exact bytes to the root."""

from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from ringi.audit.models import AuditCheckpoint, AuditHead
from ringi.audit.replaying import EntryDiffers, replayed
from ringi.audit.ringi_verify import Checkpoint, Frontier, parse_note
from ringi.kit.errors import RingiError


class LogBroken(RingiError):
    """The log in this database is not the one that its own hashes and its checkpoint say."""

    code, status = "audit_log_broken", 500

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The audit log does not hold: {what}.", next_step="Do not use this database; take another backup, and tell the auditors."
        )


class LogState(NamedTuple):
    """`size` entries with this root (hex), placed; `note` is the newest signed checkpoint, None before the first."""

    size: int
    root: str
    note: bytes | None


def check_log(session: Session) -> LogState:
    """Replay the logs whole, those that have ended too; returns the state of the one that grows.

    Raises LogBroken at the first entry that is missing or changed, or when a checkpoint is of another log.
    """
    growing = session.scalar(select(AuditHead.generation)) or 1
    for generation in range(1, growing):
        _check_one(session, generation, ended=True)
    return _check_one(session, growing, ended=False)


def _check_one(session: Session, generation: int, *, ended: bool) -> LogState:
    notes = select(AuditCheckpoint.size, AuditCheckpoint.note).where(AuditCheckpoint.generation == generation)
    row = session.execute(notes.order_by(AuditCheckpoint.size.desc()).limit(1)).one_or_none()
    size, note = (row.size, row.note) if row is not None else (0, None)
    signed = Checkpoint.parse(parse_note(note)[0]) if note is not None else None
    which = f" of log {generation}, which has ended," if ended else ""
    frontier = Frontier()
    try:
        for frontier, _ in replayed(session, generation):
            if signed is not None and frontier.size == size and frontier.root() != signed.root:
                raise LogBroken(f"the first {size} entries{which or ' of it'} are not those that were signed")
    except EntryDiffers as entry:
        raise LogBroken(f"entry {entry.place}{which} {'is missing' if entry.found is None else 'was changed'}") from entry
    if frontier.size < size or (ended and frontier.size > size):
        raise LogBroken(f"there are {frontier.size} entries{which or ' of it'} and {size} were signed")
    return LogState(frontier.size, frontier.root().hex(), note)
