"""The two proofs of the Merkle tree (RFC 6962 sections 2.1.1 and 2.1.2) from stored complete nodes. Pure.

A node is `(level, place)`: level 0 holds the leaf hashes, and node (L, i) covers the leaves [i * 2^L, (i + 1) * 2^L). Hashes, the frontier
and what verifies a proof are in `ringi_verify.py`, the file that an auditor runs alone.
"""

from collections.abc import Callable

from ringi.audit.ringi_verify import node_hash

NodeReader = Callable[[int, int], bytes]


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
