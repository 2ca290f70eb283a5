"""Write the log, its signed checkpoint and the state rows into one file that `ringi_verify.py` checks with the database switched off.

Members: `checkpoint` the newest signed note that enough witnesses have cosigned (`published.py`); `entries.bin` the exact bytes, u16be length || entry, in leaf order (C2SP
tlog-tiles); `leaves.bin` and `nodes.bin` the stored hashes, 32 bytes each, nodes in the order in which appending completes them, so that
a difference can be localised; `records.jsonl` the state rows; `bundle.json` what the file says of itself (never trusted).
A row that is missing in the database is written as a hole (length 0, zero hash): the verification names it, the export does not fail.

An export for an organisation shows the entries that carry its id. Every other entry is withheld: length 0, its index in `bundle.json`'s ranges,
and its stored leaf hash in `leaves.bin`, which reveals nothing since an entry holds random ids. That goes for entries of no organisation
too, whatever they are about: nobody's entry is shown to everybody, and exporting the log is recorded for the organisation that did it.
What a tenant does learn is how many entries the others wrote, and between which of its own.

An export of a part (`period`, or what belongs to an adapter) leaves out the organisation's entries beyond it in the same way, under a list of
their own, and brings the records whose newest entry it shows. A period shows one own entry more on either side, so that its bounds are proven.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID

from sqlalchemy import and_, case, func, not_, or_, select, true
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from ringi.audit.container import BundleWriter, MemberStream
from ringi.audit.generations import GROWING, Log, of
from ringi.audit.models import AuditCheckpoint, AuditEvent, AuditHead, AuditLeaf, AuditNode, AuditPending
from ringi.audit.published import published
from ringi.audit.ringi_verify import FORMAT, HASH_BYTES, OPENING
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


class Part(NamedTuple):
    """A part of the log: `scope` is what bundle.json says of it (ringi_verify.Scope), `covers` the condition on AuditEvent and AuditLeaf."""

    scope: dict[str, Any]
    covers: ColumnElement[bool]


# Said in the export's own snapshot, for so many leaves.
Chosen = Callable[[Session, int], Part]


def period(since: str | None, until: str | None, organization_id: UUID | None, generation: int | None = None) -> Chosen:
    """What the organisation wrote at or after `since` and before `until` (as events write times), with one entry more on either side."""

    def chosen(session: Session, size: int) -> Part:
        leaf, own = AuditLeaf.leaf_index, (_own(organization_id), AuditLeaf.generation == of(generation), AuditLeaf.leaf_index < size)
        joined = AuditEvent.id == AuditLeaf.event_id

        def one(what: ColumnElement[int | None], *where: ColumnElement[bool]) -> int | None:
            return session.scalar(select(what).select_from(AuditLeaf).join(AuditEvent, joined).where(*own, *where))

        first = one(func.min(leaf), AuditEvent.ts >= datetime.fromisoformat(since)) if since else 0
        last = one(func.max(leaf), AuditEvent.ts < datetime.fromisoformat(until)) if until else size
        begin = one(func.max(leaf), leaf < (size if first is None else first))
        end = one(func.min(leaf), leaf > (-1 if last is None else last))
        covers = and_(leaf >= (begin or 0), leaf <= (size if end is None else end))
        return Part({"from": since, "to": until, "adapter": None, "objects": None}, covers)

    return chosen


def is_sealed(session: Session) -> bool:
    """Whether the newest checkpoint covers every committed event, so that an export leaves nothing out."""
    newest = session.scalar(select(func.max(AuditCheckpoint.size)).where(AuditCheckpoint.generation == GROWING)) or 0
    waiting = session.scalar(select(AuditPending.event_id).limit(1))
    return waiting is None and newest == session.scalar(select(func.count()).select_from(AuditLeaf).where(AuditLeaf.generation == GROWING))


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
    chosen: Chosen | None = None,
    log: Log | None = None,
) -> ExportSummary:
    """Stream the bundle to `out`; memory does not grow with the log, but for the ranges of what is withheld.

    `chosen` is the part of the log that is shown; without it all of it is. `log` is one that has ended, else it is the one that grows. `organization_id` None exports the whole log, for the operator; otherwise `records` must yield rows of that organisation only.
    `session` must be fresh: everything is read in one REPEATABLE READ snapshot, `records` too. `record_types` are the object types of which
    `records` yields every row; for them each event's `after` must be the digest of a RecordRow. Raises AuditNotSigned.
    """
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    generation = log.generation if log is not None else session.scalars(select(AuditHead.generation)).one()
    checkpoint, note = published(session, generation)
    part = chosen(session, checkpoint.size) if chosen is not None else None
    with out.open("wb") if isinstance(out, Path) else nullcontext(out) as stream:
        writer = BundleWriter(stream)
        with writer.member("checkpoint") as member:
            member.write(note)
        with writer.member("entries.bin") as member:
            seen, withheld, outside = _write_entries(session, member, checkpoint.size, organization_id, part, generation)
        with writer.member("leaves.bin") as member:
            _write_leaves(session, member, checkpoint.size, generation)
        with writer.member("nodes.bin") as member:
            _write_nodes(session, member, checkpoint.size, generation)
        with writer.member("records.jsonl") as member:
            found = _Records(session, checkpoint.size, generation, organization_id, part)
            written, unsealed = found.write(member, records(session))
        description = {
            "format": FORMAT,
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "vkey": vkey,
            "organization": str(organization_id) if organization_id else None,
            "withheld": withheld,
            "record_types": sorted(seen.intersection(record_types)),
            "unsealed": unsealed,
            "scope": part.scope if part is not None else None,
            "outside": outside,
        }
        with writer.member("bundle.json") as member:
            member.write(canonical_json(description))
        writer.finish()
    return ExportSummary(checkpoint.size, written, len(unsealed))


def _own(organization_id: UUID | None) -> ColumnElement[bool]:
    return true() if organization_id is None else AuditEvent.organization_id.is_not_distinct_from(organization_id)


def _write_entries(
    session: Session, member: MemberStream, size: int, organization_id: UUID | None, part: Part | None, generation: int
) -> tuple[set[str], list[list[int]], list[list[int]]]:
    """Entries 0..size-1; returns the object types that have an `after` in a shown entry, and the ranges of the withheld ones and of those
    outside of the part.
    """
    # Leaf 0 of a log that follows another is for everybody: it says what was lost, and who approved.
    first = and_(AuditLeaf.leaf_index == 0, AuditEvent.action == OPENING)
    own, covered = or_(first, _own(organization_id)), or_(first, part.covers) if part is not None else true()
    # An event that is gone is nobody's: it stays an undeclared hole.
    there = AuditEvent.id.is_not(None)
    foreign, beyond = and_(there, not_(own)), and_(there, own, not_(covered))
    query = (
        select(AuditLeaf.leaf_index, case((and_(own, covered), AuditEvent.body)), foreign.label("is_foreign"), beyond.label("is_beyond"))
        .outerjoin(AuditEvent, AuditEvent.id == AuditLeaf.event_id)
        .where(AuditLeaf.generation == generation, AuditLeaf.leaf_index < size)
        .order_by(AuditLeaf.leaf_index)
    )
    seen: set[str] = set()
    withheld: list[list[int]] = []
    outside: list[list[int]] = []
    at = 0
    for index, body, is_foreign, is_beyond in session.execute(query, execution_options={"yield_per": _ROWS}):
        member.write(b"\x00\x00" * (index - at))
        entry = body or b""
        member.write(len(entry).to_bytes(2, "big") + entry)
        at = index + 1
        if b'"after":"' in entry:
            seen.update(_object_type(entry))
        if is_foreign:
            _extend(withheld, index)
        elif is_beyond:
            _extend(outside, index)
    member.write(b"\x00\x00" * (size - at))
    return seen, withheld, outside


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


def _write_leaves(session: Session, member: MemberStream, size: int, generation: int) -> None:
    of_log = AuditLeaf.generation == generation
    query = select(AuditLeaf.leaf_index, AuditLeaf.leaf_hash).where(of_log, AuditLeaf.leaf_index < size).order_by(AuditLeaf.leaf_index)
    at = 0
    for index, digest in session.execute(query, execution_options={"yield_per": _ROWS}):
        member.write(_HOLE * (index - at) + digest)
        at = index + 1
    member.write(_HOLE * (size - at))


def _write_nodes(session: Session, member: MemberStream, size: int, generation: int) -> None:
    completed_at = (AuditNode.idx + 1).op("<<")(AuditNode.level)
    of_log = select(AuditNode.level, AuditNode.idx, AuditNode.hash).where(AuditNode.generation == generation, completed_at <= size)
    query = of_log.order_by(completed_at, AuditNode.level)
    rows = iter(session.execute(query, execution_options={"yield_per": _ROWS}))
    row = next(rows, None)
    for level, index in completed_nodes(size):
        if row is not None and (row.level, row.idx) == (level, index):
            member.write(row.hash)
            row = next(rows, None)
        else:
            member.write(_HOLE)


class _Records:
    """State rows, each tied to its object's newest event under the checkpoint; of a part, the rows of which it shows an entry.

    A row whose newest entry is in another log than this one is left to that log's export: excused here where that log came later and this one
    speaks of the row, and otherwise not missing, as this one says nothing of it.
    """

    def __init__(self, session: Session, size: int, generation: int, organization_id: UUID | None, part: Part | None) -> None:
        self._session, self._size, self._generation, self._organization_id, self._part = session, size, generation, organization_id, part
        self._unsealed: list[dict[str, str]] = []

    def write(self, member: MemberStream, rows: Iterable[RecordRow]) -> tuple[int, list[dict[str, str]]]:
        """One canonical line a row; returns how many, and those that changed after the checkpoint."""
        written = 0
        for row in rows:
            line = self._line(row)
            if line is not None:
                member.write(line + b"\n")
                written += 1
        return written, self._unsealed

    def _line(self, row: RecordRow) -> bytes | None:
        own, part, index = AuditLeaf.generation == self._generation, self._part, AuditLeaf.leaf_index
        events = (
            select(AuditEvent.event_id, index)
            .outerjoin(AuditLeaf, AuditLeaf.event_id == AuditEvent.id)
            .where(AuditEvent.object_type == row.type, AuditEvent.object_id == row.id, AuditEvent.after_digest.is_not(None))
            .where(_own(self._organization_id))
        )
        covered = events.where(own, index < self._size, part.covers if part is not None else true())
        sealed = self._session.execute(covered.order_by(index.desc()).limit(1)).one_or_none()
        if part is not None and sealed is None:
            return None
        known = sealed.leaf_index if part is not None and sealed is not None else self._size - 1
        later = or_(index.is_(None), AuditLeaf.generation > self._generation, and_(own, index > known))
        if self._session.execute(events.where(later).limit(1)).one_or_none() is not None:
            if sealed is not None:
                self._unsealed.append({"type": row.type, "id": row.id})
            return None
        earlier = events.where(AuditLeaf.generation < self._generation)
        if sealed is None and self._session.execute(earlier.limit(1)).one_or_none() is not None:
            return None
        event_id = str(sealed.event_id) if sealed else None
        return canonical_json({"event_id": event_id, "type": row.type, "id": row.id, "record": row.record})
