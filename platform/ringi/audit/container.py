"""The file of an audit export: a ZIP that has exactly one way to be written, so that every byte of it can be checked. Pure.

All members are stored (not compressed), in a fixed order, with ZIP64 fields, data descriptors and constant metadata (APPNOTE 6.3.10,
sections 4.3 and 4.5.3). Any unzip reads it; this reader accepts nothing but the bytes that this writer would have produced.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from ringi.kit.errors import RingiError

MEMBERS = ("checkpoint", "entries.bin", "leaves.bin", "nodes.bin", "records.jsonl", "bundle.json")
_VERSION, _FLAGS, _DATE, _MARK32, _MADE_BY_UNIX = 45, 8, 0x21, 0xFFFFFFFF, 3 << 8
_FILE_MODE = 0o100644 << 16
_DESCRIPTOR = struct.Struct("<IIQQ")
_CHUNK = 1024 * 1024


class BundleInvalid(RingiError):
    """The file is not an audit export as this platform writes it: other bytes, truncated, or with something added."""

    code, status = "audit_bundle_invalid", 400

    def __init__(self, message: str, *, next_step: str = "Get the export again from whoever made it; do not trust this file.") -> None:
        super().__init__(message, next_step=next_step)


class Member(NamedTuple):
    """A member's content: bytes, CRC-32, and where its data starts in the file."""

    name: str
    size: int
    crc: int
    data_at: int


def _local_header(name: str) -> bytes:
    encoded = name.encode("ascii")
    head = struct.pack("<IHHHHHIIIHH", 0x04034B50, _VERSION, _FLAGS, 0, 0, _DATE, 0, _MARK32, _MARK32, len(encoded), 20)
    return head + encoded + struct.pack("<HHQQ", 1, 16, 0, 0)


def _descriptor(member: Member) -> bytes:
    return _DESCRIPTOR.pack(0x08074B50, member.crc, member.size, member.size)


def _central_header(member: Member) -> bytes:
    encoded = member.name.encode("ascii")
    fixed = (0x02014B50, _MADE_BY_UNIX | _VERSION, _VERSION, _FLAGS, 0, 0, _DATE, member.crc, _MARK32, _MARK32)
    head = struct.pack("<IHHHHHHIIIHHHHHII", *fixed, len(encoded), 28, 0, 0, 0, _FILE_MODE, _MARK32)
    offset = member.data_at - len(_local_header(member.name))
    return head + encoded + struct.pack("<HHQQQ", 1, 24, member.size, member.size, offset)


def _tail(members: Sequence[Member]) -> bytes:
    """Central directory and the end records."""
    directory = b"".join(_central_header(member) for member in members)
    start = members[-1].data_at + members[-1].size + _DESCRIPTOR.size
    count = len(members)
    end64 = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, _VERSION, _VERSION, 0, 0, count, count, len(directory), start)
    locator = struct.pack("<IIQI", 0x07064B50, 0, start + len(directory), 1)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, _MARK32, _MARK32, 0)
    return directory + end64 + locator + end


class MemberStream:
    """Where a member's bytes are written."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self.size, self.crc = out, 0, 0

    def write(self, data: bytes) -> None:
        """Add `data`."""
        self._out.write(data)
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)


class BundleWriter:
    """Writes the members in order to a stream that need not be seekable; `finish` ends the file."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._at = out, 0
        self._members: list[Member] = []

    @contextmanager
    def member(self, name: str) -> Iterator[MemberStream]:
        """The next member of MEMBERS; anything else is a ValueError."""
        if name != MEMBERS[len(self._members)]:
            raise ValueError(f"the next member of a bundle is '{MEMBERS[len(self._members)]}', not '{name}'")
        header = _local_header(name)
        self._out.write(header)
        stream = MemberStream(self._out)
        yield stream
        member = Member(name, stream.size, stream.crc, self._at + len(header))
        self._out.write(_descriptor(member))
        self._members.append(member)
        self._at = member.data_at + member.size + _DESCRIPTOR.size

    def finish(self) -> None:
        """Write the directory; every member must have been written."""
        if len(self._members) != len(MEMBERS):
            raise ValueError(f"the bundle lacks {', '.join(MEMBERS[len(self._members) :])}")
        self._out.write(_tail(self._members))


class BundleFile:
    """An export opened for reading, after its container has been checked byte for byte and every CRC has been recomputed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as stream:
                self._members = {member.name: member for member in _check(stream)}
        except OSError as error:
            raise BundleInvalid(f"The bundle cannot be read: {error}.", next_step="Check the path of the export.") from error

    def size(self, name: str) -> int:
        """A member's bytes."""
        return self._members[name].size

    def open(self, name: str) -> "MemberReader":
        """Read a member from its start."""
        return MemberReader(self._path, self._members[name])

    def read(self, name: str, limit: int) -> bytes:
        """A small member whole; more than `limit` bytes are refused."""
        if self.size(name) > limit:
            raise BundleInvalid(f"'{name}' has {self.size(name)} bytes; at most {limit} are accepted.")
        with self.open(name) as stream:
            return stream.take(self.size(name))


class MemberReader:
    """A member's bytes, never past its end."""

    def __init__(self, path: Path, member: Member) -> None:
        self._stream = path.open("rb", buffering=_CHUNK)
        self._stream.seek(member.data_at)
        self.left = member.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()

    def take(self, count: int) -> bytes:
        """The next `count` bytes; fewer at the member's end."""
        data = self._stream.read(min(count, self.left))
        self.left -= len(data)
        return data

    def lines(self, limit: int) -> Iterator[bytes]:
        """Lines without their newline; a longer one than `limit` bytes or a last one without newline is refused."""
        while self.left:
            line = self._stream.readline(min(limit, self.left))
            self.left -= len(line)
            if not line.endswith(b"\n"):
                raise BundleInvalid(f"A line has no end within {limit} bytes.")
            yield line[:-1]


def _check(stream: BinaryIO) -> list[Member]:
    """The members of a well-formed container; raises BundleInvalid."""
    length = stream.seek(0, 2)
    entry_bytes = [46 + len(name) + 28 for name in MEMBERS]
    tail_bytes = sum(entry_bytes) + 56 + 20 + 22
    if length < tail_bytes:
        raise BundleInvalid(f"The file has {length} bytes, too few for an audit export.", next_step="Download the export again.")
    stream.seek(length - tail_bytes)
    tail = stream.read(tail_bytes)
    members, at, data_at = [], 0, 0
    for name, size in zip(MEMBERS, entry_bytes, strict=True):
        crc = int.from_bytes(tail[at + 16 : at + 20], "little")
        content = int.from_bytes(tail[at + size - 24 : at + size - 16], "little")
        data_at += len(_local_header(name))
        members.append(Member(name, content, crc, data_at))
        data_at += content + _DESCRIPTOR.size
        at += size
    if data_at + tail_bytes != length or _tail(members) != tail:
        raise BundleInvalid("The file's directory is not that of an audit export: it was truncated, changed or added to.")
    for member in members:
        _check_member(stream, member)
    return members


def _check_member(stream: BinaryIO, member: Member) -> None:
    header = _local_header(member.name)
    stream.seek(member.data_at - len(header))
    if stream.read(len(header)) != header:
        raise BundleInvalid(f"The header of '{member.name}' was changed.")
    crc, left = 0, member.size
    while left:
        piece = stream.read(min(_CHUNK, left))
        if not piece:
            raise BundleInvalid(f"'{member.name}' is truncated.")
        crc, left = zlib.crc32(piece, crc), left - len(piece)
    if crc != member.crc or stream.read(_DESCRIPTOR.size) != _descriptor(member):
        raise BundleInvalid(f"The bytes of '{member.name}' do not fit their checksum.")
