"""Compare the tables of the log with what stands outside the database, and with themselves: who changed a row leaves a difference.

`compare` costs some look-ups and finds a log that is shorter than, or other than, what was signed. `replay` reads every entry, and names
the one. Codes are those of `ringi-verify`, which finds the same in an export.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import func, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from ringi.audit.export import RecordRow
from ringi.audit.generations import GROWING
from ringi.audit.models import AuditEvent, AuditLeaf, AuditNode
from ringi.audit.reading import root_at
from ringi.audit.ringi_verify import Checkpoint, Frontier
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
    streamed = {"yield_per": _ROWS}
    with session.execute(_LEAVES, execution_options=streamed) as leaves, session.execute(_NODES, execution_options=streamed) as nodes:
        return _replayed(session, iter(leaves), iter(nodes), roots)


# Hashed by the database: the bytes stay there. `leaf_hash` of the event is not asked: whoever changes a body changes it too.
_LEAVES = (
    select(AuditLeaf.leaf_index, AuditLeaf.leaf_hash, func.sha256(func.decode("00", "hex").op("||")(AuditEvent.body)).label("found"))
    .outerjoin(AuditEvent, AuditEvent.id == AuditLeaf.event_id)
    .where(AuditLeaf.generation == GROWING)
    .order_by(AuditLeaf.leaf_index)
)
# In the order in which appending completes them.
_COMPLETED_AT = (AuditNode.idx + 1).op("<<")(AuditNode.level)
_NODES = (
    select(AuditNode.level, AuditNode.idx, AuditNode.hash).where(AuditNode.generation == GROWING).order_by(_COMPLETED_AT, AuditNode.level)
)


def _replayed(session: Session, leaves: Iterator[Any], nodes: Iterator[Any], roots: dict[int, Known]) -> Finding | None:
    frontier, left = Frontier(), max(roots, default=0)
    for place, leaf in enumerate(leaves):
        if leaf.leaf_index != place:
            return Finding("entry_missing", f"Entry {place} is missing.")
        if leaf.found != leaf.leaf_hash:
            return _changed(session, place, leaf.found)
        for node in frontier.append(leaf.leaf_hash):
            stored = next(nodes, None)
            if stored is None or tuple(stored) != (node.level, node.place, node.hash):
                first, last = node.place << node.level, ((node.place + 1) << node.level) - 1
                return Finding("subtree_changed", f"The entries {first} to {last} are not those over which their hash was stored.")
        one = roots.get(frontier.size)
        if one is not None and frontier.root() != one.checkpoint.root:
            return Finding("root_not_signed", f"The first {frontier.size} entries are not those that were signed; {one.where} shows it.")
    if frontier.size < left:
        return Finding("log_shortened", f"The log has {frontier.size} entries; {roots[left].where} shows a signed checkpoint of {left}.")
    if read_head(session).size != frontier.size:
        return Finding("entry_missing", f"The log's head counts {read_head(session).size} entries; there are {frontier.size}.")
    return None


def _changed(session: Session, place: int, found: bytes | None) -> Finding:
    if found is None:
        return Finding("entry_missing", f"Entry {place} has a place in the log and no event: it was deleted.")
    elsewhere = session.scalar(select(AuditLeaf.leaf_index).where(AuditLeaf.leaf_hash == found).limit(1))
    if elsewhere is not None:
        return Finding("entry_out_of_place", f"In the place of entry {place} stands entry {elsewhere}.")
    return Finding("entry_changed", f"The bytes of entry {place} are not those that were logged.")


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
