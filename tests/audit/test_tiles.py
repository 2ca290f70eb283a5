"""Tiles and proof files: their names have one spelling, and from the tiles alone the tree and every proof can be made again."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from audit.test_merkle import Stored, defined_root, leaves_of
from ringi.audit.merkle import inclusion_proof
from ringi.audit.ringi_verify import HASH_BYTES, Refused, parse_proof, verify_inclusion
from ringi.audit.tiles import TILE_WIDTH, Tile, entry_bundle, parse_tile, tiles_of, write_proof


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0, 256), "0/000"),
        (Tile(0, 273, 112), "0/273.p/112"),
        (Tile(2, 0, 1), "2/000.p/1"),
        (Tile(0, 1234067, 256), "0/x001/x234/067"),
        (Tile(63, 1000, 255), "63/x001/000.p/255"),
        (Tile(None, 1234067, 17), "entries/x001/x234/067.p/17"),
    ],
)
def test_a_tile_has_the_path_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_tile(path) == tile


@pytest.mark.parametrize(
    "path",
    ["", "0", "0/0", "0/00", "00/000", "64/000", "-1/000", "0/x000/000", "0/001/000", "0/x001/x000", "0/x01/000", "0/000.p/0", "0/000.p/256", "0/000.p/01",
     "0/000.p/", "0/000/", "/0/000", "0/000\n", "data/000", "entries/", "Entries/000", "0/００0", "0/../000", "0/000.p/1.p/1"],
)  # fmt: skip
def test_no_other_spelling_is_a_tile(path: str) -> None:
    assert parse_tile(path) is None


@given(st.sampled_from([None, 0, 1, 2, 63]), st.integers(0, 10**15), st.integers(1, 256))
def test_every_tile_is_read_back_from_its_path(level: int | None, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert parse_tile(tile.path) == tile


def test_a_tree_of_seventy_thousand_has_the_tiles_of_the_specification() -> None:
    tiles = [tile for tile in tiles_of(70_000) if tile.level is not None]
    assert sum(1 for tile in tiles if tile.level == 0 and tile.width == TILE_WIDTH) == 273
    assert [tile for tile in tiles if tile.width < TILE_WIDTH] == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert [tile for tile in tiles_of(256) if tile.level is not None] == [Tile(0, 0, 256), Tile(1, 0, 1)]
    assert all(tile.leaves <= 70_000 for tile in tiles)
    assert list(tiles_of(0)) == []


class FromTiles:
    """Reads nodes as a client of tiles does: a hash from its tile, everything between two tile levels computed from them."""

    def __init__(self, stored: Stored, size: int) -> None:
        self.tiles = {
            (tile.level, tile.number): [stored.read(8 * tile.level, tile.start + at) for at in range(tile.width)]
            for tile in tiles_of(size)
            if tile.level is not None
        }

    def read(self, level: int, place: int) -> bytes:
        height, above = divmod(level, 8)
        first = place << above
        hashes = self.tiles[height, first // TILE_WIDTH]
        return defined_root(hashes[first % TILE_WIDTH : first % TILE_WIDTH + (1 << above)])


@given(st.integers(1, 700), st.integers(0, 10_000))
@example(256, 255)
@example(257, 256)
@example(512, 0)
def test_proofs_made_from_tiles_lead_to_the_defined_root(size: int, at: int) -> None:
    stored, index = Stored(size), at % size
    tiles = FromTiles(stored, size)
    proof = inclusion_proof(index, size, tiles.read)
    assert proof == inclusion_proof(index, size, stored.read)
    assert verify_inclusion(index, size, stored.nodes[0, index], defined_root(leaves_of(size)), proof)


def test_a_bundle_of_entries_frames_each_of_them_and_a_withheld_one_has_no_length() -> None:
    assert entry_bundle([b"ab", b"", b"c" * 258]) == b"\x00\x02ab\x00\x00\x01\x02" + b"c" * 258


@given(st.integers(0, 2**62), st.lists(st.binary(min_size=32, max_size=32), max_size=5), st.none() | st.binary(max_size=40))
def test_a_proof_file_is_read_back_as_it_was_written(index: int, hashes: list[bytes], extra: bytes | None) -> None:
    note = "log\n1\nroot\n\n\u2014 log sig\n".encode()
    assert tuple(parse_proof(write_proof(index, hashes, note, extra=extra))) == (index, hashes, note, extra)


@pytest.mark.parametrize(
    ("old", "new"),
    [("@v1", "@v2"), ("\n", "\r\n"), ("index 5", "index 05"), ("index 5", "index -1"), ("index 5", "Index 5"), ("index 5\n", ""), ("\n\n", "\n"), ("=\n", "\n"),
     ("index 5", "index \uff15")],
)  # fmt: skip
def test_a_proof_file_has_one_spelling(old: str, new: str) -> None:
    whole = write_proof(5, [bytes(HASH_BYTES)], b"log\n").decode()
    assert old in whole
    with pytest.raises(Refused) as refused:
        parse_proof(whole.replace(old, new, 1).encode())
    assert refused.value.code in {"audit_proof_invalid", "audit_note_invalid"}
