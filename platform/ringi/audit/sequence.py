"""Give committed events their place in the log: one batch, one transaction, one sequencer at a time (governance B3.2).

If T1 committed before T2 began, T1's event has the smaller id and any snapshot that sees T2's sees T1's, so id order keeps every
real order. Overlapping transactions may land either way; a late commit simply gets a later index.
"""

from collections.abc import Sequence

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from ringi.audit.generations import GROWING
from ringi.audit.models import AuditHead, AuditLeaf, AuditNode, AuditPending
from ringi.audit.ringi_verify import HASH_BYTES, Frontier
from ringi.kit.errors import RingiError

# Two advisory locks of the audit log; the numbers are arbitrary and fixed for ever.
SEQUENCE_LOCK = 0x72696E67_00000001
SIGN_LOCK = 0x72696E67_00000002

# One array a column: a batch is one statement, twice as fast as one row after another. The driver looks at each element of an array that it writes, which took
# as long as all the rest: numbers go as the text of an array, hashes as one long text of bytes.
_HASH_OF = f"substring(CAST(:hashes AS bytea) FROM CAST(place - 1 AS integer) * {HASH_BYTES} + 1 FOR {HASH_BYTES})"
_LEAVES = text(
    f"INSERT INTO audit_leaf (generation, leaf_index, event_id, leaf_hash) SELECT :generation, :first + place - 1, event_id, {_HASH_OF}"  # noqa: S608  # of constants
    " FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS leaf (event_id, place)"
)
_NODES = text(
    f"INSERT INTO audit_node (generation, level, idx, hash) SELECT :generation, level, idx, {_HASH_OF}"  # noqa: S608  # of constants
    " FROM unnest(CAST(:levels AS smallint[]), CAST(:places AS bigint[])) WITH ORDINALITY AS node (level, idx, place)"
)

_QUEUED = text("SELECT id, leaf_hash FROM audit_event WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id")
_PLACED = text("DELETE FROM audit_pending WHERE event_id = ANY(CAST(:ids AS bigint[]))")


class AuditHeadInvalid(RingiError):
    """The head row is missing, or its frontier does not fit its size: the log cannot grow from it."""

    code, status = "audit_head_invalid", 500


def read_head(session: Session, *, for_update: bool = False) -> Frontier:
    """The frontier of the tree as sequenced so far; raises AuditHeadInvalid."""
    query = select(AuditHead.size, AuditHead.frontier).where(AuditHead.id == 1)
    head = session.execute(query.with_for_update() if for_update else query).one_or_none()
    if head is None:
        raise AuditHeadInvalid("The audit log has no head row.", next_step="Run the migrations; if they ran, this is an incident.")
    try:
        return Frontier.from_bytes(head.size, head.frontier)
    except ValueError as error:
        raise AuditHeadInvalid(f"The audit log's head is damaged: {error}.", next_step="Verify the last export.") from error


def node_reader(session: Session, level: int, index: int) -> bytes:
    """One stored complete node of the log that grows; raises AuditHeadInvalid when it is not there."""
    if level == 0:
        found = session.scalar(select(AuditLeaf.leaf_hash).where(AuditLeaf.generation == GROWING, AuditLeaf.leaf_index == index))
    else:
        found = session.scalar(
            select(AuditNode.hash).where(AuditNode.generation == GROWING, AuditNode.level == level, AuditNode.idx == index)
        )
    if found is None:
        raise AuditHeadInvalid(f"Node ({level}, {index}) of the audit log is missing.", next_step="Verify the last export.")
    return found


def sequence_once(session: Session, batch: int = 5000) -> int:
    """Sequence up to `batch` events in `session`'s transaction; returns how many, 0 also when another sequencer holds the lock.

    Nothing is kept outside the transaction: a crash at any point means that the same events are taken again with the same result.
    """
    if not session.scalar(select(func.pg_try_advisory_xact_lock(SEQUENCE_LOCK))):
        return 0
    # The queue first, the events by their ids then: joined, a long queue is merged with the whole log, from its first event on.
    queued = session.scalars(select(AuditPending.event_id).order_by(AuditPending.event_id).limit(batch)).all()
    if not queued:
        return 0
    pending = session.execute(_QUEUED, {"ids": _array(queued)}).all()
    if not pending:
        return 0
    place(session, [(event.id, event.leaf_hash) for event in pending])
    return len(pending)


def _array(numbers: Sequence[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"


def place(session: Session, events: Sequence[tuple[int, bytes]]) -> None:
    """Append events, each an id and its leaf hash, to the log that grows, and take them from the queue. Under the lock of the sequencer."""
    frontier = read_head(session, for_update=True)
    generation = session.scalars(select(AuditHead.generation).where(AuditHead.id == 1)).one()
    first, nodes = frontier.size, []
    for event_id, leaf_hash in events:
        # The table of events has a check of its own; whoever took it away must not move the hashes behind this one.
        if len(leaf_hash) != HASH_BYTES:
            raise AuditHeadInvalid(
                f"Event {event_id} has a leaf hash of {len(leaf_hash)} bytes.", next_step="This is an incident: look at the row."
            )
        nodes += frontier.append(leaf_hash)
    ids, hashes = _array([event_id for event_id, _ in events]), b"".join(leaf_hash for _, leaf_hash in events)
    session.execute(_LEAVES, {"generation": generation, "first": first, "ids": ids, "hashes": hashes})
    if nodes:
        columns = {
            "levels": _array([node.level for node in nodes]),
            "places": _array([node.place for node in nodes]),
            "hashes": b"".join(node.hash for node in nodes),
        }
        session.execute(_NODES, {"generation": generation, **columns})
    session.execute(_PLACED, {"ids": ids})
    session.execute(update(AuditHead).where(AuditHead.id == 1).values(size=frontier.size, frontier=frontier.to_bytes()))
