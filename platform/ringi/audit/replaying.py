"""A log of the database, hashed again from its entries' exact bytes: whatever looks at it whole looks in this way."""

from collections.abc import Iterator

from sqlalchemy import func, select, true
from sqlalchemy.orm import Session

from ringi.audit.generations import of
from ringi.audit.models import AuditEvent, AuditLeaf
from ringi.audit.ringi_verify import Frontier, Node

_ROWS = 5000


class EntryDiffers(Exception):
    """Entry `place` has no leaf (`has_leaf` false), no event (`found` None), or bytes that hash to `found` and not to what was logged."""

    def __init__(self, place: int, found: bytes | None, *, has_leaf: bool) -> None:
        self.place, self.found, self.has_leaf = place, found, has_leaf
        super().__init__(f"entry {place} {'was changed' if found is not None else 'is missing'}")


def replayed(session: Session, generation: int | None, *, below: int | None = None) -> Iterator[tuple[Frontier, list[Node]]]:
    """The tree of a log after each of its entries in turn (those `below` an index, or all) with the nodes that this entry completed.

    `generation` None is the log that grows. The frontier is the same object each time. Memory does not grow with the log. Raises
    EntryDiffers at the first entry that is missing or changed; that there are enough of them is for the caller to see.
    """
    # Hashed by the database: the bytes stay there. `leaf_hash` of the event is not asked: whoever changes a body changes it too.
    computed = func.sha256(func.decode("00", "hex").op("||")(AuditEvent.body))
    leaves = (
        select(AuditLeaf.leaf_index, AuditLeaf.leaf_hash, computed)
        .outerjoin(AuditEvent, AuditEvent.id == AuditLeaf.event_id)
        .where(AuditLeaf.generation == of(generation), AuditLeaf.leaf_index < below if below is not None else true())
        .order_by(AuditLeaf.leaf_index)
    )
    frontier = Frontier()
    with session.execute(leaves, execution_options={"yield_per": _ROWS}) as rows:
        for index, stored, found in rows:
            if index != frontier.size:
                raise EntryDiffers(frontier.size, None, has_leaf=False)
            if found != stored:
                raise EntryDiffers(index, found, has_leaf=True)
            completed = frontier.append(stored)
            yield frontier, completed
