"""The names and bytes under which standard tools read the log: C2SP tlog-tiles and tlog-proof. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ringi.audit.ringi_verify import PROOF_HEADER, encode_base64

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
_PATH = re.compile(r"(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_LAST_LEVEL = 63


class Tile(NamedTuple):
    """`width` hashes of tree level 8 * `level`, or (`level` None) as many entries, beginning at `number` * 256."""

    level: int | None
    number: int
    width: int

    @property
    def start(self) -> int:
        """The place of its first hash, or the index of its first entry."""
        return self.number * TILE_WIDTH

    @property
    def leaves(self) -> int:
        """How many leaves the log must have for this tile to be there."""
        return (self.start + self.width) << (TILE_HEIGHT * (self.level or 0))

    @property
    def path(self) -> str:
        """What stands behind `<prefix>/tile/`."""
        groups = [f"{self.number % 1000:03}"]
        rest = self.number // 1000
        while rest:
            groups.append(f"x{rest % 1000:03}")
            rest //= 1000
        partial = f".p/{self.width}" if self.width < TILE_WIDTH else ""
        return f"{'entries' if self.level is None else self.level}/{'/'.join(reversed(groups))}{partial}"


def parse_tile(path: str) -> Tile | None:
    """The tile of a path behind `<prefix>/tile/`; None for every other spelling."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    level, groups, width = found.groups()
    number = int(groups.replace("x", "").replace("/", ""))
    tile = Tile(None if level == "entries" else int(level), number, int(width) if width else TILE_WIDTH)
    # One spelling each: no level beyond 63, no partial tile as wide as a full one, no leading groups of zeros.
    return tile if (tile.level or 0) <= _LAST_LEVEL and tile.path == path else None


def tiles_of(size: int) -> Iterable[Tile]:
    """Every hash tile and entry bundle of a tree of `size` leaves, each at its full width so far."""
    levels: list[int | None] = [None]
    levels += [level for level in range(_LAST_LEVEL + 1) if size >> (TILE_HEIGHT * level)]
    for level in levels:
        hashes = size >> (TILE_HEIGHT * (level or 0))
        for index in range(0, hashes, TILE_WIDTH):
            yield Tile(level, index // TILE_WIDTH, min(TILE_WIDTH, hashes - index))


def entry_bundle(entries: Iterable[bytes]) -> bytes:
    """u16be length || entry, one after another; an entry that is withheld has the length 0."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def write_proof(index: int, hashes: Sequence[bytes], note: bytes, *, extra: bytes | None = None) -> bytes:
    """A `tlog-proof` file; `extra` brings the entry's bytes, which the proof then vouches for."""
    lines = [PROOF_HEADER]
    if extra is not None:
        lines.append(f"extra {encode_base64(extra)}")
    lines += [f"index {index}", *map(encode_base64, hashes)]
    return "\n".join(lines).encode() + b"\n\n" + note
