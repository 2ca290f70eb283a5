"""The checkpoint that is shown: the newest that enough witnesses have cosigned, with their lines, or simply the newest without witnesses.

Notes are kept as they were signed; cosignatures come later, into a table of their own, and are added whenever a note is shown.

Where the newest checkpoint has no quorum yet, a request costs a bounded time: each process remembers the newest size that had one, and above that it
looks at `_SIZES` checkpoints at most that enough witnesses have cosigned, among the newest `_ROWS` cosignatures. If none of them is good, what is
remembered is shown, and a process that remembers nothing shows the newest checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ringi.audit.generations import of
from ringi.audit.models import AuditCheckpoint, AuditCosignature
from ringi.audit.ringi_verify import Checkpoint, NoteInvalid, Policy, parse_note
from ringi.audit.witnesses import load_witnesses
from ringi.kit.errors import RingiError
from ringi.settings import get_settings

_SIZES, _ROWS = 20, 20_000


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
    quorum = _quorum(path, _written_at(path)) if path is not None else None
    if quorum is None or quorum.policy.quorum is None:
        return newest
    origin, size = newest.checkpoint.origin, newest.checkpoint.size
    if _accepted(quorum.policy, newest.note):
        quorum.reached[origin] = size
        return newest
    # The remembered one comes last, and is not there any more after a restore.
    remembered = quorum.reached.pop(origin, 0)
    for one in [*_cosigned_sizes(session, quorum.policy, origin, above=remembered, below=size), remembered]:
        note = signed_at(session, one, generation)
        if note is not None and _accepted(quorum.policy, note):
            quorum.reached[origin] = one
            return Signed(Checkpoint.parse(parse_note(note)[0]), note)
    return newest


def _cosigned_sizes(session: Session, policy: Policy, origin: str, *, above: int, below: int) -> Sequence[int]:
    """Some sizes that have cosignatures of as many witnesses as the quorum takes at least, largest first."""
    row, asked = AuditCosignature, [f"{key.name}+{key.id.hex()}" for key in policy.witnesses.values()]
    rows = select(row.size).where(row.origin == origin, row.size > above, row.size < below, row.witness.in_(asked))
    size = rows.order_by(row.size.desc()).limit(_ROWS).subquery().c.size
    enough = func.count() >= _fewest(policy, policy.quorum or "")
    return session.scalars(select(size).group_by(size).having(enough).order_by(size.desc()).limit(_SIZES)).all()


def _fewest(policy: Policy, name: str) -> int:
    """Of how many witnesses' signatures a witness or a group takes at least; none is in two groups."""
    group = policy.groups.get(name)
    return 1 if group is None else sum(sorted(_fewest(policy, member) for member in group.members)[: group.threshold])


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


@dataclass
class _Quorum:
    """A policy, and of each log the newest size that was seen to fulfil it."""

    policy: Policy
    reached: dict[str, int] = field(default_factory=dict)


@lru_cache(maxsize=1)
def _quorum(path: Path, _at: int) -> _Quorum:
    return _Quorum(load_witnesses(path).policy)
