"""Compare the tables of the log with what stands outside the database, and with themselves: who changed a row leaves a difference.

`compare` costs some look-ups and finds a log that is shorter than, or other than, what was signed. `replay` reads every entry, and names
the one. Codes are those of `ringi-verify`, which finds the same in an export.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from ringi.audit.export import RecordRow
from ringi.audit.generations import GROWING
from ringi.audit.models import AuditEvent, AuditLeaf, AuditNode
from ringi.audit.reading import root_at
from ringi.audit.replaying import EntryDiffers, replayed
from ringi.audit.ringi_verify import Checkpoint
from ringi.audit.sequence import AuditHeadInvalid, read_head
from ringi.kit.digests import sha256_json

_ROWS = 2000


class Finding(NamedTuple):
    """What does not agree: a stable code and a sentence."""

    code: str
    message: str


class Known(NamedTuple):
    """A checkpoint that the log has signed, and where it was kept; outside the database."""

    checkpoint: Checkpoint
    where: str


def compare(session: Session, known: Iterable[Known]) -> Finding | None:
    """Whether the tables still hold every tree that is known, by the stored hashes."""
    try:
        head = read_head(session)
        for checkpoint, where in known:
            if head.size < checkpoint.size:
                return Finding("log_shortened", f"The log has {head.size} entries; {where} shows a signed checkpoint of {checkpoint.size}.")
            if root_at(session, checkpoint.size) != checkpoint.root:
                return Finding(
                    "root_not_signed", f"The first {checkpoint.size} entries lead to another root than the one signed, which {where} shows."
                )
        if root_at(session, head.size) != head.root():
            return Finding("subtree_changed", f"The stored hashes of {head.size} entries lead to another root than the log's head.")
    except AuditHeadInvalid as error:
        return Finding("entry_missing", error.message)
    return None


def replay(session: Session, known: Iterable[Known]) -> Finding | None:
    """Recompute every leaf from its entry's bytes, every node, and every known root. `session` must be fresh: it reads one snapshot."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    roots = {one.checkpoint.size: one for one in known if one.checkpoint.size}
    with session.execute(_NODES, execution_options={"yield_per": _ROWS}) as nodes:
        try:
            return _replayed(session, iter(nodes), roots)
        except EntryDiffers as entry:
            return _differs(session, entry)


# In the order in which appending completes them.
_COMPLETED_AT = (AuditNode.idx + 1).op("<<")(AuditNode.level)
_NODES = (
    select(AuditNode.level, AuditNode.idx, AuditNode.hash).where(AuditNode.generation == GROWING).order_by(_COMPLETED_AT, AuditNode.level)
)


def _replayed(session: Session, nodes: Iterator[Any], roots: dict[int, Known]) -> Finding | None:
    size, left = 0, max(roots, default=0)
    for frontier, completed in replayed(session, None):
        size = frontier.size
        for node in completed:
            stored = next(nodes, None)
            if stored is None or tuple(stored) != (node.level, node.place, node.hash):
                first, last = node.place << node.level, ((node.place + 1) << node.level) - 1
                return Finding("subtree_changed", f"The entries {first} to {last} are not those over which their hash was stored.")
        one = roots.get(size)
        if one is not None and frontier.root() != one.checkpoint.root:
            return Finding("root_not_signed", f"The first {size} entries are not those that were signed; {one.where} shows it.")
    if size < left:
        return Finding("log_shortened", f"The log has {size} entries; {roots[left].where} shows a signed checkpoint of {left}.")
    if read_head(session).size != size:
        return Finding("entry_missing", f"The log's head counts {read_head(session).size} entries; there are {size}.")
    return None


def _differs(session: Session, entry: EntryDiffers) -> Finding:
    if not entry.has_leaf:
        return Finding("entry_missing", f"Entry {entry.place} is missing.")
    if entry.found is None:
        return Finding("entry_missing", f"Entry {entry.place} has a place in the log and no event: it was deleted.")
    elsewhere = session.scalar(select(AuditLeaf.leaf_index).where(AuditLeaf.leaf_hash == entry.found).limit(1))
    if elsewhere is not None:
        return Finding("entry_out_of_place", f"In the place of entry {entry.place} stands entry {elsewhere}.")
    return Finding("entry_changed", f"The bytes of entry {entry.place} are not those that were logged.")


def compare_records(session: Session, rows: Iterable[RecordRow], types: Collection[str]) -> Iterator[Finding]:
    """Differences between state rows and the newest entry about each: an approval that somebody edited, added or removed.

    `rows` must be all rows of `types`, read in the same snapshot. The entries themselves are what `replay` checks.
    """
    seen: set[tuple[str, str]] = set()
    left = iter(rows)
    while some := list(islice(left, _ROWS)):
        seen.update((row.type, row.id) for row in some)
        logged = _newest_entries(session, [(row.type, row.id) for row in some])
        for row in some:
            said = logged.get((row.type, row.id))
            if said is None:
                yield Finding("record_without_entry", f"The row of {row.type} {row.id} has no entry in the log: somebody added it.")
            elif said != sha256_json(row.record):
                yield Finding("record_changed", f"The row of {row.type} {row.id} is not what its last entry recorded: somebody changed it.")
    spoken = select(AuditEvent.object_type, AuditEvent.object_id).where(AuditEvent.after_digest.is_not(None))
    for kind, name in session.execute(spoken.where(AuditEvent.object_type.in_(types)).distinct()):
        if (kind, name) not in seen:
            yield Finding("record_missing", f"The row of {kind} {name}, of which the log speaks, is missing.")


def _newest_entries(session: Session, named: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str | None]:
    """What the newest entry about each object says of its row: read from the entry's bytes, which only the search columns lead to."""
    about = tuple_(AuditEvent.object_type, AuditEvent.object_id)
    entries = select(AuditEvent.object_type, AuditEvent.object_id, AuditEvent.body).where(
        about.in_(named), AuditEvent.after_digest.is_not(None)
    )
    ordered = entries.order_by(AuditEvent.object_type, AuditEvent.object_id, AuditEvent.id.desc())
    rows = session.execute(ordered.ext(distinct_on(AuditEvent.object_type, AuditEvent.object_id)))
    return {(kind, name): _after(body, kind, name) for kind, name, body in rows}


def _after(body: bytes, kind: str, name: str) -> str | None:
    try:
        event = json.loads(body)
        same = (event["object"]["type"], event["object"]["id"]) == (kind, name)
        return str(event["after"]) if same else None
    except (ValueError, KeyError, TypeError):
        return None
