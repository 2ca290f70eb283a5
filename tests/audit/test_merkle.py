"""The tree against RFC 6962's definition, written out a second time, and against the vectors of Certificate Transparency."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringi.audit.merkle import consistency_proof, inclusion_proof
from ringi.audit.ringi_verify import EMPTY_ROOT, Frontier, leaf_hash, node_hash, root_of, verify_consistency, verify_inclusion

CT_LEAVES = [
    bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
sizes = st.integers(1, 70)


def defined_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, recursively."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + defined_root(leaves[:split]) + defined_root(leaves[split:])).digest()


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(size)]


class Stored:
    """Nodes as the database keeps them: leaves and complete subtrees."""

    def __init__(self, size: int) -> None:
        self.frontier, self.nodes = Frontier(), {}
        for index, leaf in enumerate(leaves_of(size)):
            self.nodes[0, index] = leaf
            for node in self.frontier.append(leaf):
                self.nodes[node.level, node.place] = node.hash

    def read(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]


def test_the_certificate_transparency_vectors_are_reproduced() -> None:
    hashes = [leaf_hash(leaf) for leaf in CT_LEAVES]
    assert [root_of(hashes[:size]).hex() for size in range(1, 9)] == CT_ROOTS


def test_the_empty_tree_has_the_hash_of_nothing_and_the_empty_leaf_its_own() -> None:
    assert root_of([]) == EMPTY_ROOT == hashlib.sha256(b"").digest()
    assert leaf_hash(b"").hex().startswith("6e340b9c")
    assert leaf_hash(b"") != node_hash(b"", b"")


@given(sizes)
def test_the_frontier_has_the_defined_root_and_survives_serialisation(size: int) -> None:
    stored = Stored(size)
    assert stored.frontier.root() == defined_root(leaves_of(size))
    again = Frontier.from_bytes(size, stored.frontier.to_bytes())
    assert (again.root(), len(again.to_bytes())) == (stored.frontier.root(), 32 * size.bit_count())
    assert len(stored.nodes) == 2 * size - size.bit_count()


@given(sizes, st.integers(0, 100), st.integers(0, 6), st.integers(0, 255))
def test_inclusion_proofs_verify_for_their_own_leaf_only(size: int, at: int, where: int, flip: int) -> None:
    stored, index = Stored(size), at % size
    leaf, root = stored.nodes[0, index], stored.frontier.root()
    proof = inclusion_proof(index, size, stored.read)
    assert verify_inclusion(index, size, leaf, root, proof)
    assert not verify_inclusion(index, size, leaf_hash(b"another"), root, proof)
    assert not verify_inclusion(index, size, leaf, root, [*proof, root])
    for other in range(size):
        assert other == index or not verify_inclusion(other, size, leaf, root, proof)
    if proof:
        assert not verify_inclusion(index, size, leaf, root, proof[:-1])
        changed = bytearray(proof[where % len(proof)])
        changed[flip % 32] ^= 1 + flip % 255
        broken = list(proof)
        broken[where % len(proof)] = bytes(changed)
        assert not verify_inclusion(index, size, leaf, root, broken)


@given(sizes, st.integers(0, 100))
def test_consistency_proofs_verify_for_a_true_prefix_only(new: int, older: int) -> None:
    old = older % (new + 1)
    stored, before = Stored(new), root_of(leaves_of(old))
    root = stored.frontier.root()
    proof = consistency_proof(old, new, stored.read)
    assert verify_consistency(old, new, before, root, proof)
    assert not verify_consistency(old, new, leaf_hash(b"another"), root, proof)
    # A size-0 tree says nothing about what follows, so it is consistent with any later root.
    assert old == 0 or not verify_consistency(old, new, before, leaf_hash(b"another"), proof)
    assert not verify_consistency(old, new, before, root, [*proof, root])
    assert not proof or not verify_consistency(old, new, before, root, proof[:-1])
    assert not proof or not verify_consistency(old, new, before, root, proof[1:])


def test_proofs_for_what_is_not_there_are_refused() -> None:
    stored = Stored(5)
    with pytest.raises(ValueError, match="not in a tree"):
        inclusion_proof(5, 5, stored.read)
    with pytest.raises(ValueError, match="does not extend"):
        consistency_proof(6, 5, stored.read)
    with pytest.raises(ValueError, match="peaks"):
        Frontier.from_bytes(3, bytes(32))
