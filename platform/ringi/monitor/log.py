"""Read the log over HTTP as any tool for C2SP tlog-tiles does, and believe none of it: every entry is hashed, every tile compared, and the
root must be the signed one and extend the one that was kept.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx

from ringi.audit.ringi_verify import HASH_BYTES, Checkpoint, Frontier, NoteInvalid, Policy, claim_of, leaf_hash
from ringi.audit.signing import CheckpointFile
from ringi.audit.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, tiles_of

PREFIX = "/api/v1/audit/log"
_TIMEOUT_S = 60.0
_LENGTH_BYTES = 2


class LogFault(Exception):
    """The log is not what it was, or not what was signed: an incident. `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class LogAway(Exception):
    """The log cannot be read now: no incident, and no assurance either."""


class Entry(NamedTuple):
    """An event and its leaf."""

    leaf: int
    event: dict[str, Any]


class Log:
    """The log as read so far. `grow` reads what was added; a new object reads everything anew."""

    def __init__(self, client: httpx.Client, policy: Policy, kept: CheckpointFile) -> None:
        self._client, self._policy, self._kept = client, policy, kept
        self._frontier = Frontier()
        # The hashes of each height that tiles show above the leaves.
        self._above: dict[int, list[bytes]] = defaultdict(list)
        self.checkpoint: Checkpoint | None = None

    @property
    def size(self) -> int:
        """How many entries were read and checked."""
        return self._frontier.size

    def grow(self, take: Callable[[Entry], None]) -> None:
        """Read on to the newest signed checkpoint; `take` gets each entry once, in order, when its hash and its spelling are right.

        Raises LogFault: then nothing that was taken counts. Raises LogAway: then the next call goes on behind what was taken.
        """
        note = self._get("checkpoint")
        try:
            # A cosignature may come seconds after the signature; the quorum is for those who are shown a checkpoint to trust.
            signed = self._policy.open(note, cosigned=False).checkpoint
            before = self._kept.read()
            older = self._policy.open(before, cosigned=False).checkpoint if before is not None else None
        except NoteInvalid as error:
            raise LogFault(error.code, error.message) from error
        self._must_not_shrink(signed, older)
        for entry in self._read(signed, older):
            take(entry)
        if self._frontier.root() != signed.root:
            raise LogFault("root_not_signed", f"The {signed.size} entries lead to another root than the signed one.")
        self._compare_upper_tiles(signed)
        self.checkpoint = signed
        if older is None or older.size < signed.size:
            self._kept.store(note)

    def _must_not_shrink(self, signed: Checkpoint, older: Checkpoint | None) -> None:
        if older is not None and older.origin != signed.origin:
            raise LogFault("log_replaced", f"The log calls itself '{signed.origin}'; the one that was kept is '{older.origin}'.")
        known = max(self.size, older.size if older else 0)
        if signed.size < known:
            raise LogFault("log_shortened", f"The log shows {signed.size} entries; it had {known}.")

    def _read(self, signed: Checkpoint, older: Checkpoint | None) -> Iterator[Entry]:
        for number in range(self.size // TILE_WIDTH, -(-signed.size // TILE_WIDTH)):
            start = number * TILE_WIDTH
            width = min(TILE_WIDTH, signed.size - start)
            entries = _framed(self._get(f"tile/{Tile(None, number, width).path}"))
            hashes = self._get(f"tile/{Tile(0, number, width).path}")
            if len(entries) != width or len(hashes) != width * HASH_BYTES:
                raise LogFault(
                    "tile_wrong", f"The tile {number} has {len(entries)} entries and {len(hashes) // HASH_BYTES} hashes, not {width}."
                )
            for place in range(self.size - start, width):
                index, entry = start + place, entries[place]
                stored = hashes[place * HASH_BYTES : (place + 1) * HASH_BYTES]
                yield self._append(index, entry, stored)
                if older is not None and index + 1 == older.size and self._frontier.root() != older.root:
                    raise LogFault("split_view", f"The first {older.size} entries are not those that were signed before.")

    def _append(self, index: int, entry: bytes, stored: bytes) -> Entry:
        digest = leaf_hash(entry)
        if digest != stored:
            raise LogFault("entry_changed", f"Entry {index} does not have the hash that is stored for it.")
        for node in self._frontier.append(digest):
            if node.level % TILE_HEIGHT == 0:
                self._above[node.level // TILE_HEIGHT].append(node.hash)
        claim = claim_of(index, entry)
        if claim.event_id is None:
            raise LogFault("entry_malformed", f"Entry {index} is not an event in its canonical spelling.")
        return Entry(index, json.loads(entry))

    def _compare_upper_tiles(self, signed: Checkpoint) -> None:
        for tile in tiles_of(signed.size):
            if not tile.level:
                continue
            own = self._above[tile.level][tile.start : tile.start + tile.width]
            if self._get(f"tile/{tile.path}") != b"".join(own):
                raise LogFault("tile_wrong", f"The tile {tile.path} is not what its entries lead to.")

    def _get(self, path: str) -> bytes:
        try:
            answer = self._client.get(f"{PREFIX}/{path}", timeout=_TIMEOUT_S)
        except httpx.TransportError as error:
            raise LogAway(f"the log does not answer: {error}") from error
        if answer.status_code != httpx.codes.OK:
            raise LogAway(f"'{path}' answers {answer.status_code}: {answer.text[:200]}")
        return answer.content


def _framed(data: bytes) -> list[bytes]:
    """The entries of a bundle: u16be length || entry."""
    entries, at = [], 0
    while at < len(data):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(data[at:begin], "big")
        if at > len(data):
            raise LogFault("tile_wrong", "A bundle of entries is cut.")
        entries.append(data[begin:at])
    return entries
