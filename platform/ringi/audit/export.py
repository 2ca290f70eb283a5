"""Write the log, its signed checkpoint and the state rows into one file that `verify.py` checks with the database switched off.

Members (see `container.py`): `checkpoint` the newest signed note; `entries.bin` the exact bytes, u16be length || entry, in leaf order (C2SP
tlog-tiles); `leaves.bin` and `nodes.bin` the stored hashes, 32 bytes each, nodes in the order in which appending completes them, so that
a difference can be localised; `records.jsonl` the state rows; `bundle.json` what the file says of itself (never trusted).
A row that is missing in the database is written as a hole (length 0, zero hash): the verification names it, the export does not fail.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ringi.audit.container import BundleWriter, MemberStream
from ringi.audit.merkle import HASH_BYTES
from ringi.audit.models import AuditCheckpoint, AuditEvent, AuditLeaf, AuditNode, AuditPending
from ringi.audit.note import Checkpoint, parse_note
from ringi.kit.digests import canonical_json
from ringi.kit.errors import RingiError

FORMAT = "ringi-audit-bundle/1"
_ROWS = 2000
_HOLE = bytes(HASH_BYTES)


class AuditNotSigned(RingiError):
    """There is no signed checkpoint to export under yet."""

    code, status, retryable = "audit_not_signed", 409, True

    def __init__(self) -> None:
        super().__init__("The audit log has no signed checkpoint yet.", next_step="Check that the sequencer runs, then try again.")


class RecordRow(NamedTuple):
    """A state row as an auditor sees it. `type` and `id` are the event's object; the canonical JSON of `record` has the digest `after`."""

    type: str
    id: str
    record: Any


class ExportSummary(NamedTuple):
    """What was written. `unsealed` rows changed after the checkpoint and are left to the next export."""

    size: int
    records: int
    unsealed: int


def is_sealed(session: Session) -> bool:
    """Whether the newest checkpoint covers every committed event, so that an export leaves nothing out."""
    newest = session.scalar(select(func.max(AuditCheckpoint.size))) or 0
    waiting = session.scalar(select(AuditPending.event_id).limit(1))
    return waiting is None and newest == session.scalar(select(func.count()).select_from(AuditLeaf))


def completed_nodes(size: int) -> Iterator[tuple[int, int]]:
    """(level, index) of every complete node above the leaves, in the order in which appending `size` leaves completes them."""
    for leaf in range(size):
        level, index = 0, leaf
        while index & 1:
            index >>= 1
            level += 1
            yield level, index


def write_bundle(
    session: Session,
    out: BinaryIO | Path,
    records: Callable[[Session], Iterable[RecordRow]],
    *,
    record_types: Collection[str],
    vkey: str | None = None,
) -> ExportSummary:
    """Stream the bundle to `out`; memory does not grow with the log.

    `session` must be fresh: everything is read in one REPEATABLE READ snapshot, `records` too. `record_types` are the object types of which
    `records` yields every row; for them each event's `after` must be the digest of a RecordRow. Raises AuditNotSigned.
    """
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    note = session.scalar(select(AuditCheckpoint.note).order_by(AuditCheckpoint.size.desc()).limit(1))
    if note is None:
        raise AuditNotSigned
    checkpoint = Checkpoint.parse(parse_note(note)[0])
    with out.open("wb") if isinstance(out, Path) else nullcontext(out) as stream:
        writer = BundleWriter(stream)
        with writer.member("checkpoint") as member:
            member.write(note)
        with writer.member("entries.bin") as member:
            seen = _write_entries(session, member, checkpoint.size)
        with writer.member("leaves.bin") as member:
            _write_leaves(session, member, checkpoint.size)
        with writer.member("nodes.bin") as member:
            _write_nodes(session, member, checkpoint.size)
        with writer.member("records.jsonl") as member:
            written, unsealed = _write_records(session, member, records(session), checkpoint.size)
        description = {
            "format": FORMAT,
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "vkey": vkey,
            "record_types": sorted(seen.intersection(record_types)),
            "unsealed": unsealed,
        }
        with writer.member("bundle.json") as member:
            member.write(canonical_json(description))
        writer.finish()
    return ExportSummary(checkpoint.size, written, len(unsealed))


def _write_entries(session: Session, member: MemberStream, size: int) -> set[str]:
    """Entries 0..size-1; returns the object types that have an `after`."""
    query = (
        select(AuditLeaf.leaf_index, AuditEvent.body)
        .outerjoin(AuditEvent, AuditEvent.id == AuditLeaf.event_id)
        .where(AuditLeaf.leaf_index < size)
        .order_by(AuditLeaf.leaf_index)
    )
    seen: set[str] = set()
    at = 0
    for index, body in session.execute(query, execution_options={"yield_per": _ROWS}):
        member.write(b"\x00\x00" * (index - at))
        entry = body or b""
        member.write(len(entry).to_bytes(2, "big") + entry)
        at = index + 1
        if b'"after":"' in entry:
            seen.update(_object_type(entry))
    member.write(b"\x00\x00" * (size - at))
    return seen


def _object_type(entry: bytes) -> Iterator[str]:
    try:
        event = json.loads(entry)
        if event["after"] is not None:
            yield str(event["object"]["type"])
    except (ValueError, KeyError, TypeError):
        # A tampered entry names nothing here; the verification names it.
        return


def _write_leaves(session: Session, member: MemberStream, size: int) -> None:
    query = select(AuditLeaf.leaf_index, AuditLeaf.leaf_hash).where(AuditLeaf.leaf_index < size).order_by(AuditLeaf.leaf_index)
    at = 0
    for index, digest in session.execute(query, execution_options={"yield_per": _ROWS}):
        member.write(_HOLE * (index - at) + digest)
        at = index + 1
    member.write(_HOLE * (size - at))


def _write_nodes(session: Session, member: MemberStream, size: int) -> None:
    completed_at = (AuditNode.idx + 1).op("<<")(AuditNode.level)
    query = select(AuditNode.level, AuditNode.idx, AuditNode.hash).where(completed_at <= size).order_by(completed_at, AuditNode.level)
    rows = iter(session.execute(query, execution_options={"yield_per": _ROWS}))
    row = next(rows, None)
    for level, index in completed_nodes(size):
        if row is not None and (row.level, row.idx) == (level, index):
            member.write(row.hash)
            row = next(rows, None)
        else:
            member.write(_HOLE)


def _write_records(session: Session, member: MemberStream, records: Iterable[RecordRow], size: int) -> tuple[int, list[dict[str, str]]]:
    """One canonical line a row, tied to its object's newest event under the checkpoint."""
    written, unsealed = 0, []
    for row in records:
        events = (
            select(AuditEvent.event_id, AuditLeaf.leaf_index)
            .outerjoin(AuditLeaf, AuditLeaf.event_id == AuditEvent.id)
            .where(AuditEvent.object_type == row.type, AuditEvent.object_id == row.id, AuditEvent.after_digest.is_not(None))
        )
        sealed = session.execute(events.where(AuditLeaf.leaf_index < size).order_by(AuditLeaf.leaf_index.desc()).limit(1)).one_or_none()
        newer = session.execute(events.where(func.coalesce(AuditLeaf.leaf_index, size) >= size).limit(1)).one_or_none()
        if newer is None:
            event_id = str(sealed.event_id) if sealed else None
            member.write(canonical_json({"event_id": event_id, "type": row.type, "id": row.id, "record": row.record}) + b"\n")
            written += 1
        elif sealed is not None:
            unsealed.append({"type": row.type, "id": row.id})
    return written, unsealed
