"""Read one log over HTTP as any tool for C2SP tlog-tiles does, and believe none of it: every entry is hashed, every tile compared, and the
root must be the signed one and extend the one that was kept.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx

from ringi.audit.ringi_verify import (
    HASH_BYTES,
    OPENING,
    Checkpoint,
    Claim,
    Frontier,
    NoteInvalid,
    Opening,
    OpeningInvalid,
    Policy,
    claim_of,
    leaf_hash,
    read_opening,
)
from ringi.audit.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, tiles_of

API = "/api/v1"
_TIMEOUT_S = 60.0
_LENGTH_BYTES = 2
# What the platform answers where it has no signed checkpoint, and where what it signed is not whole any more.
_NOT_SIGNED, _NOT_WHOLE = "audit_not_signed", "audit_head_invalid"


class LogFault(Exception):
    """The log is not what it was, or not what was signed: an incident. `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class LogAway(Exception):
    """The log cannot be read now: no incident, and no assurance either."""


class Place(NamedTuple):
    """Where an entry stands; of two entries about one thing, the one whose place is the greater one is the newer.

    `generation`: 0 in the log that grows, -1 in the one that it follows, and so on. `origin` is that log's name, whatever the entry's bytes say.
    """

    generation: int
    leaf: int
    origin: str

    def __str__(self) -> str:
        return f"entry {self.leaf} of {self.origin}"


class Entry(NamedTuple):
    """An event and its place."""

    place: Place
    event: dict[str, Any]


class Served:
    """What the platform serves of its logs."""

    def __init__(self, client: httpx.Client, prefix: str = "audit/log") -> None:
        self._client, self._prefix = client, prefix

    def other(self, prefix: str) -> "Served":
        """The same platform, another of its logs."""
        return Served(self._client, prefix)

    def note(self) -> bytes | None:
        """The newest checkpoint that is shown, None where none was signed."""
        answer = self._answer(f"{self._prefix}/checkpoint")
        if answer.status_code == httpx.codes.CONFLICT and _code(answer) == _NOT_SIGNED:
            return None
        return self._content(answer)

    def tile(self, tile: Tile) -> bytes:
        """The bytes of a tile. Raises LogFault where the platform itself says that they are not there."""
        answer = self._answer(f"{self._prefix}/tile/{tile.path}")
        if _code(answer) == _NOT_WHOLE:
            raise LogFault("entry_missing", f"The platform cannot show what it signed: {answer.json().get('detail')}")
        return self._content(answer)

    def entries(self, number: int, width: int) -> list[bytes]:
        """The entries of a bundle: u16be length || entry."""
        data, found, at = self.tile(Tile(None, number, width)), [], 0
        while at < len(data):
            begin = at + _LENGTH_BYTES
            at = begin + int.from_bytes(data[at:begin], "big")
            if at > len(data):
                raise LogFault("tile_wrong", "A bundle of entries is cut.")
            found.append(data[begin:at])
        if len(found) != width:
            raise LogFault("tile_wrong", f"The bundle {number} has {len(found)} entries, not {width}.")
        return found

    def number_of(self, origin: str) -> int | None:
        """Under which number the platform lists the log of this name; None where it does not."""
        answer = self._answer("audit/logs")
        self._content(answer)
        try:
            return next((int(one["number"]) for one in answer.json() if one["origin"] == origin), None)
        except (ValueError, KeyError, TypeError) as error:
            raise LogAway("the list of the logs is none") from error

    def _answer(self, path: str) -> httpx.Response:
        try:
            return self._client.get(f"{API}/{path}", timeout=_TIMEOUT_S)
        except httpx.TransportError as error:
            raise LogAway(f"the log does not answer: {error}") from error

    @staticmethod
    def _content(answer: httpx.Response) -> bytes:
        if answer.status_code != httpx.codes.OK:
            raise LogAway(f"'{answer.url.path}' answers {answer.status_code}: {answer.text[:200]}")
        return answer.content


def _code(answer: httpx.Response) -> str | None:
    """The code of a refusal."""
    if answer.status_code == httpx.codes.OK:
        return None
    try:
        return str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        return None


class Log:
    """One log as read so far; `opened` is what its leaf 0 says of the log that it follows, None where it follows none."""

    def __init__(self, served: Served, policy: Policy, generation: int = 0) -> None:
        self.served, self._policy, self._generation = served, policy, generation
        self._frontier = Frontier()
        # The hashes of each height that tiles show above the leaves.
        self._above: dict[int, list[bytes]] = defaultdict(list)
        self.origin: str | None = None
        self.opened: Opening | None = None
        # Under which everything so far was read and checked.
        self.checkpoint: Checkpoint | None = None

    @property
    def size(self) -> int:
        """How many entries were read and checked."""
        return self._frontier.size

    def read(self, signed: Checkpoint, older: Checkpoint | None, take: Callable[[Entry], None]) -> None:
        """Read on to `signed`, which the log's key signed; `take` gets each entry once, in order, when its hash and its spelling are right.

        `older` is a checkpoint of the same log that was kept. Raises LogFault: then nothing that was taken counts. Raises LogAway: then the
        next call goes on behind what was taken.
        """
        known = max(self.size, older.size if older else 0)
        if signed.size < known:
            raise LogFault("log_shortened", f"The log '{signed.origin}' shows {signed.size} entries; it had {known}.")
        self.origin = signed.origin
        for entry in self._entries(signed, older):
            take(entry)
        if self._frontier.root() != signed.root:
            raise LogFault("root_not_signed", f"The {signed.size} entries of '{signed.origin}' lead to another root than the signed one.")
        self._compare_upper_tiles(signed)
        self.checkpoint = signed

    def _entries(self, signed: Checkpoint, older: Checkpoint | None) -> Iterator[Entry]:
        for number in range(self.size // TILE_WIDTH, -(-signed.size // TILE_WIDTH)):
            start = number * TILE_WIDTH
            width = min(TILE_WIDTH, signed.size - start)
            entries, hashes = self.served.entries(number, width), self.served.tile(Tile(0, number, width))
            if len(hashes) != width * HASH_BYTES:
                raise LogFault("tile_wrong", f"The tile {number} has {len(hashes) // HASH_BYTES} hashes, not {width}.")
            for offset in range(self.size - start, width):
                index, entry = start + offset, entries[offset]
                stored = hashes[offset * HASH_BYTES : (offset + 1) * HASH_BYTES]
                yield self._append(index, entry, stored, signed.origin)
                if older is not None and index + 1 == older.size and self._frontier.root() != older.root:
                    message = f"The first {older.size} entries of '{older.origin}' are not those that were signed before."
                    raise LogFault("split_view", message)

    def _append(self, index: int, entry: bytes, stored: bytes, origin: str) -> Entry:
        place, digest = Place(self._generation, index, origin), leaf_hash(entry)
        if digest != stored:
            raise LogFault("entry_changed", f"The {place} does not have the hash that is stored for it.")
        claim = claim_of(index, entry)
        if claim.event_id is None:
            raise LogFault("entry_malformed", f"The {place} is not an event in its canonical spelling.")
        if index == 0 and claim.action == OPENING:
            self.opened = opening_of(entry, self._policy)
        if claim.origin != origin and not self._was_carried(claim):
            raise LogFault("entry_foreign", f"The {place} was written for the log '{claim.origin}'.")
        for node in self._frontier.append(digest):
            if node.level % TILE_HEIGHT == 0:
                self._above[node.level // TILE_HEIGHT].append(node.hash)
        return Entry(place, json.loads(entry))

    def _was_carried(self, claim: Claim) -> bool:
        return self.opened is not None and claim.origin == self.opened.old_origin and 1 <= (claim.leaf or 0) <= self.opened.carried

    def _compare_upper_tiles(self, signed: Checkpoint) -> None:
        for tile in tiles_of(signed.size):
            if not tile.level:
                continue
            own = self._above[tile.level][tile.start : tile.start + tile.width]
            if self.served.tile(tile) != b"".join(own):
                raise LogFault("tile_wrong", f"The tile {tile.path} is not what its entries lead to.")


def opening_of(entry: bytes, policy: Policy) -> Opening:
    """What leaf 0 of a log that follows another says, approved by administrators whom the trust file lists. Raises LogFault."""
    try:
        return read_opening(entry, policy)
    except (OpeningInvalid, NoteInvalid) as error:
        raise LogFault("opening_invalid", f"The log's first entry does not open it properly: {error.message}") from error
