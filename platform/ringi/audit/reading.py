"""Read the log as it was signed: tiles, entries, and the proofs that they make. Nothing beyond the newest signed checkpoint is shown."""

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import case, select, tuple_, union_all, values
from sqlalchemy import column as sql_column
from sqlalchemy import types as sql_types
from sqlalchemy.orm import Session

from ringi.audit.generations import of
from ringi.audit.merkle import NodeReader, consistency_proof, inclusion_proof, range_root
from ringi.audit.models import AuditEvent, AuditLeaf, AuditNode
from ringi.audit.published import newest_signed, published, signed_at
from ringi.audit.ringi_verify import EMPTY_ROOT, HASH_BYTES
from ringi.audit.sequence import AuditHeadInvalid
from ringi.audit.tiles import TILE_HEIGHT, Tile, entry_bundle, write_proof
from ringi.kit.errors import InvalidInput, NotFound, RingiError


class AuditNotSealed(RingiError):
    """The entry is written, and no signed checkpoint covers it yet."""

    code, status, retryable = "audit_not_sealed", 409, True

    def __init__(self, event_id: UUID) -> None:
        super().__init__(f"No signed checkpoint covers the entry {event_id} yet.", next_step="Try again in a second.")


class SizesOutOfOrder(InvalidInput):
    """A proof of consistency leads from a smaller log to a larger one that was signed."""

    code = "audit_sizes_out_of_order"

    def __init__(self, old: int, new: int, signed: int) -> None:
        super().__init__(
            f"There is no proof from {old} to {new} entries; {signed} are signed.",
            next_step="Ask for 0 <= old <= new <= the size of the newest checkpoint.",
        )


class Consistency(NamedTuple):
    """That a log of `old` entries is the beginning of that of `new`: the proof, and the note of `new` where one was signed at that size."""

    old: int
    new: int
    hashes: list[bytes]
    note: bytes | None


def _stored_nodes(session: Session, wanted: list[tuple[int, int]], generation: int | None) -> dict[tuple[int, int], bytes]:
    """Several stored nodes in one statement, which is one moment too."""
    asked = (
        values(sql_column("level", sql_types.Integer), sql_column("place", sql_types.BigInteger), name="asked").data(wanted).cte("asked")
    )
    leaves = select(asked.c.level, asked.c.place, AuditLeaf.leaf_hash).join(
        AuditLeaf, (AuditLeaf.generation == of(generation)) & (asked.c.level == 0) & (AuditLeaf.leaf_index == asked.c.place)
    )
    nodes = select(asked.c.level, asked.c.place, AuditNode.hash).join(
        AuditNode,
        (AuditNode.generation == of(generation)) & (tuple_(AuditNode.level, AuditNode.idx) == tuple_(asked.c.level, asked.c.place)),
    )
    return {(level, place): found for level, place, found in session.execute(union_all(leaves, nodes))}


def _proof_of(session: Session, prove: Callable[[NodeReader], list[bytes]], generation: int | None = None) -> list[bytes]:
    """Ask for all nodes of a proof at once: the first pass only notes which ones it needs."""
    wanted: list[tuple[int, int]] = []

    def note(level: int, place: int) -> bytes:
        wanted.append((level, place))
        return bytes(HASH_BYTES)

    prove(note)
    found = _stored_nodes(session, wanted, generation) if wanted else {}

    def read(level: int, place: int) -> bytes:
        if (level, place) not in found:
            raise AuditHeadInvalid(f"Node ({level}, {place}) of the audit log is missing.", next_step="Verify the last export.")
        return found[level, place]

    return prove(read)


def inclusion(session: Session, index: int, size: int, generation: int | None = None) -> list[bytes]:
    """The proof that leaf `index` is in the tree of `size` leaves."""
    return _proof_of(session, lambda read: inclusion_proof(index, size, read), generation)


def consistency(session: Session, old: int, new: int | None = None) -> Consistency:
    """From the log of `old` entries to that of `new`, by default the newest that was signed. Raises AuditNotSigned, SizesOutOfOrder."""
    signed = newest_signed(session)
    size = signed.checkpoint.size if new is None else new
    if not 0 <= old <= size <= signed.checkpoint.size:
        raise SizesOutOfOrder(old, size, signed.checkpoint.size)
    return Consistency(old, size, consistency_hashes(session, old, size), signed_at(session, size))


def consistency_hashes(session: Session, old: int, new: int) -> list[bytes]:
    """The proof alone."""
    return _proof_of(session, lambda read: consistency_proof(old, new, read))


def root_at(session: Session, size: int) -> bytes:
    """The root of the first `size` leaves, by the stored hashes. Raises AuditHeadInvalid."""
    if size == 0:
        return EMPTY_ROOT
    (root,) = _proof_of(session, lambda read: [range_root(0, size, read)])
    return root


def proof_file(session: Session, event_id: UUID, organization_id: UUID | None) -> bytes:
    """The `tlog-proof` of an event of the organisation, with its bytes as extra data. Raises NotFound, AuditNotSealed, AuditNotSigned.

    It stands under a checkpoint that enough witnesses have cosigned, or, as long as none of those covers the event, under the newest.
    """
    row = session.execute(
        select(AuditEvent.body, AuditLeaf.leaf_index, AuditLeaf.generation)
        .outerjoin(AuditLeaf, AuditLeaf.event_id == AuditEvent.id)
        .where(AuditEvent.event_id == event_id, AuditEvent.organization_id == organization_id)
    ).one_or_none()
    if row is None:
        raise NotFound("audit entry", event_id)
    signed = published(session, row.generation)
    if row.leaf_index is not None and row.leaf_index >= signed.checkpoint.size:
        signed = newest_signed(session, row.generation)
    if row.leaf_index is None or row.leaf_index >= signed.checkpoint.size:
        raise AuditNotSealed(event_id)
    hashes = inclusion(session, row.leaf_index, signed.checkpoint.size, row.generation)
    return write_proof(row.leaf_index, hashes, signed.note, extra=row.body)


def hash_tile(session: Session, tile: Tile, generation: int | None = None) -> bytes:
    """`tile.width` hashes of 32 bytes. Raises AuditHeadInvalid where one is missing."""
    last = tile.start + tile.width
    if tile.level == 0:
        query = (
            select(AuditLeaf.leaf_hash)
            .where(AuditLeaf.generation == of(generation), AuditLeaf.leaf_index >= tile.start, AuditLeaf.leaf_index < last)
            .order_by(AuditLeaf.leaf_index)
        )
    else:
        height = TILE_HEIGHT * (tile.level or 0)
        within = (AuditNode.generation == of(generation), AuditNode.level == height, AuditNode.idx >= tile.start, AuditNode.idx < last)
        query = select(AuditNode.hash).where(*within).order_by(AuditNode.idx)
    hashes = session.scalars(query).all()
    if len(hashes) != tile.width:
        raise AuditHeadInvalid(f"Tile {tile.path} of the audit log has {len(hashes)} hashes.", next_step="Verify the last export.")
    return b"".join(hashes)


def entry_tile(session: Session, tile: Tile, *, everyones: bool, organization_id: UUID | None, generation: int | None = None) -> bytes:
    """The tile's entries: all with `everyones`, else the organisation's, and every other one with the length 0.

    Raises AuditHeadInvalid where an entry is gone, rather than show the hole as another's entry.
    """
    shown = AuditEvent.organization_id.is_not_distinct_from(organization_id) if not everyones else AuditEvent.id.is_not(None)
    rows = session.execute(
        select(AuditEvent.id, case((shown, AuditEvent.body)).label("body"))
        .select_from(AuditLeaf)
        .outerjoin(AuditEvent, AuditEvent.id == AuditLeaf.event_id)
        .where(AuditLeaf.generation == of(generation))
        .where(AuditLeaf.leaf_index >= tile.start, AuditLeaf.leaf_index < tile.start + tile.width)
        .order_by(AuditLeaf.leaf_index)
    ).all()
    if len(rows) != tile.width or any(row.id is None for row in rows):
        raise AuditHeadInvalid(f"The entries {tile.path} of the audit log are incomplete.", next_step="Verify the last export.")
    return entry_bundle(row.body or b"" for row in rows)
