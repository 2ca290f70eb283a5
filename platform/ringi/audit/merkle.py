"""The Merkle tree of the audit log: RFC 6962 section 2.1 hashes, an append-only frontier, and its two proofs. Pure.

A node is `(level, place)`: level 0 holds the leaf hashes, and node (L, i) covers the leaves [i * 2^L, (i + 1) * 2^L).
Only complete nodes are ever stored; a hash is 32 bytes.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]


class Node(NamedTuple):
    """A complete subtree's root."""

    level: int
    place: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the complete subtrees that make up a tree, largest first: all that an append or the root needs."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)
        if size < 0 or len(self.peaks) != size.bit_count() or any(len(peak) != HASH_BYTES for peak in self.peaks):
            raise ValueError(f"a tree of {size} leaves has {max(size, 0).bit_count()} peaks of {HASH_BYTES} bytes")

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> "Frontier":
        """Read what `to_bytes` wrote; raises ValueError when it does not fit `size`."""
        if len(data) % HASH_BYTES:
            raise ValueError("a frontier is a whole number of hashes")
        return cls(size, (data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)))

    def to_bytes(self) -> bytes:
        """The peaks one after another, largest subtree first: at most 64 hashes below 2^64 leaves."""
        return b"".join(self.peaks)

    def append(self, leaf: bytes) -> list[Node]:
        """Add a leaf hash; returns the nodes of level 1 and above that it completed, lowest first."""
        completed = []
        level, current, index = 0, leaf, self.size
        while index & 1:
            index >>= 1
            level += 1
            current = node_hash(self.peaks.pop(), current)
            completed.append(Node(level, index, current))
        self.peaks.append(current)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """MTH of all leaves so far: SHA-256 of nothing for the empty tree."""
        if not self.peaks:
            return EMPTY_ROOT
        result = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            result = node_hash(peak, result)
        return result


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def _split(size: int) -> int:
    """The largest power of two below `size` (RFC 6962 section 2.1's k); needs size >= 2."""
    return 1 << (size - 1).bit_length() - 1


def range_root(begin: int, end: int, read: NodeReader) -> bytes:
    """MTH of the leaves [begin, end) from complete stored nodes; the range is one that RFC 6962's recursion produces."""
    size = end - begin
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return read(level, begin >> level)
    middle = begin + _split(size)
    return node_hash(range_root(begin, middle, read), range_root(middle, end, read))


def inclusion_proof(index: int, size: int, read: NodeReader) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1, leaf's sibling first. Raises ValueError when index is not below size."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size} leaves")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(range_root(middle, end, read))
            end = middle
        else:
            path.append(range_root(begin, middle, read))
            begin = middle
    return path[::-1]


def verify_inclusion(index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 section 2.1.3.2. `leaf` is the leaf hash."""
    if not 0 <= index < size:
        return False
    place, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            current = node_hash(sibling, current)
            while not place & 1 and place != 0:
                place >>= 1
                last >>= 1
        else:
            current = node_hash(current, sibling)
        place >>= 1
        last >>= 1
    return last == 0 and current == root


def consistency_proof(old: int, new: int, read: NodeReader) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 6962 section 2.1.2; empty for old = 0 and old = new. Raises ValueError when old > new."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves does not extend one of {old}")
    if old in {0, new}:
        return []
    proof: list[bytes] = []
    begin, end, whole = 0, new, True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            proof.append(range_root(middle, end, read))
            end = middle
        else:
            proof.append(range_root(begin, middle, read))
            begin, whole = middle, False
    if not whole:
        proof.append(range_root(begin, end, read))
    return proof[::-1]


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 section 2.1.4.2: whether the tree of `new` leaves extends the one of `old` leaves."""
    if not 0 <= old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place >>= 1
        last >>= 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first = node_hash(sibling, first)
            second = node_hash(sibling, second)
            while not place & 1 and place != 0:
                place >>= 1
                last >>= 1
        else:
            second = node_hash(second, sibling)
        place >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root
