"""Write the log, its signed checkpoint and the state rows into one file that `ringi_verify.py` checks with the database switched off.

Members: `checkpoint` the newest signed note that enough witnesses have cosigned (`published.py`); `entries.bin` the exact bytes, u16be length || entry, in leaf order (C2SP
tlog-tiles); `leaves.bin` and `nodes.bin` the stored hashes, 32 bytes each, nodes in the order in which appending completes them, so that
a difference can be localised; `records.jsonl` the state rows; `bundle.json` what the file says of itself (never trusted).
A row that is missing in the database is written as a hole (length 0, zero hash): the verification names it, the export does not fail.

An export for an organisation shows the entries that carry its id. Every other entry is withheld: length 0, its index in `bundle.json`'s ranges,
and its stored leaf hash in `leaves.bin`, which reveals nothing since an entry holds random ids. That goes for entries of no organisation
too, whatever they are about: nobody's entry is shown to everybody, and exporting the log is recorded for the organisation that did it.
What a tenant does learn is how many entries the others wrote, and between which of its own.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID

from sqlalchemy import and_, case, func, not_, select, true
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from ringi.audit.container import BundleWriter, MemberStream
from ringi.audit.models import AuditCheckpoint, AuditEvent, AuditLeaf, AuditNode, AuditPending
from ringi.audit.published import published
from ringi.audit.ringi_verify import FORMAT, HASH_BYTES
from ringi.kit.digests import canonical_json

_ROWS = 2000
_HOLE = bytes(HASH_BYTES)


class RecordRow(NamedTuple):
    """A state row as an auditor sees it. `type` and `id` are the event's object; the canonical JSON of `record` has the digest `after`."""

    type: str
    id: str
    record: Any


class ExportSummary(NamedTuple):
    """What was written. `size` counts withheld entries too. `unsealed` rows changed after the checkpoint and are left to the next export."""

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
    organization_id: UUID | None,
    record_types: Collection[str],
    vkey: str | None = None,
) -> ExportSummary:
    """Stream the bundle to `out`; memory does not grow with the log, but for the ranges of what is withheld.

    `organization_id` None exports the whole log, for the operator; otherwise `records` must yield rows of that organisation only.
    `session` must be fresh: everything is read in one REPEATABLE READ snapshot, `records` too. `record_types` are the object types of which
    `records` yields every row; for them each event's `after` must be the digest of a RecordRow. Raises AuditNotSigned.
    """
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    checkpoint, note = published(session)
    with out.open("wb") if isinstance(out, Path) else nullcontext(out) as stream:
        writer = BundleWriter(stream)
        with writer.member("checkpoint") as member:
            member.write(note)
        with writer.member("entries.bin") as member:
            seen, withheld = _write_entries(session, member, checkpoint.size, organization_id)
        with writer.member("leaves.bin") as member:
            _write_leaves(session, member, checkpoint.size)
        with writer.member("nodes.bin") as member:
            _write_nodes(session, member, checkpoint.size)
        with writer.member("records.jsonl") as member:
            written, unsealed = _write_records(session, member, records(session), checkpoint.size, organization_id)
        description = {
            "format": FORMAT,
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "vkey": vkey,
            "organization": str(organization_id) if organization_id else None,
            "withheld": withheld,
            "record_types": sorted(seen.intersection(record_types)),
            "unsealed": unsealed,
        }
        with writer.member("bundle.json") as member:
            member.write(canonical_json(description))
        writer.finish()
    return ExportSummary(checkpoint.size, written, len(unsealed))


def _shown(organization_id: UUID | None) -> ColumnElement[bool]:
    return true() if organization_id is None else AuditEvent.organization_id.is_not_distinct_from(organization_id)


def _write_entries(session: Session, member: MemberStream, size: int, organization_id: UUID | None) -> tuple[set[str], list[list[int]]]:
    """Entries 0..size-1; returns the object types that have an `after` in a shown entry, and the ranges of the withheld ones."""
    shown = _shown(organization_id)
    # An event that is gone is nobody's: it stays an undeclared hole.
    foreign = and_(AuditEvent.id.is_not(None), not_(shown))
    query = (
        select(AuditLeaf.leaf_index, case((shown, AuditEvent.body)), foreign)
        .outerjoin(AuditEvent, AuditEvent.id == AuditLeaf.event_id)
        .where(AuditLeaf.leaf_index < size)
        .order_by(AuditLeaf.leaf_index)
    )
    seen: set[str] = set()
    withheld: list[list[int]] = []
    at = 0
    for index, body, hidden in session.execute(query, execution_options={"yield_per": _ROWS}):
        member.write(b"\x00\x00" * (index - at))
        entry = body or b""
        member.write(len(entry).to_bytes(2, "big") + entry)
        at = index + 1
        if b'"after":"' in entry:
            seen.update(_object_type(entry))
        if hidden:
            _extend(withheld, index)
    member.write(b"\x00\x00" * (size - at))
    return seen, withheld


def _extend(ranges: list[list[int]], index: int) -> None:
    """Add a leaf index above all that `ranges` holds; they stay sorted and none touches the next."""
    if ranges and ranges[-1][1] == index - 1:
        ranges[-1][1] = index
    else:
        ranges.append([index, index])


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


def _write_records(
    session: Session, member: MemberStream, records: Iterable[RecordRow], size: int, organization_id: UUID | None
) -> tuple[int, list[dict[str, str]]]:
    """One canonical line a row, tied to its object's newest shown event under the checkpoint."""
    written, unsealed = 0, []
    for row in records:
        events = (
            select(AuditEvent.event_id, AuditLeaf.leaf_index)
            .outerjoin(AuditLeaf, AuditLeaf.event_id == AuditEvent.id)
            .where(AuditEvent.object_type == row.type, AuditEvent.object_id == row.id, AuditEvent.after_digest.is_not(None))
            .where(_shown(organization_id))
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
