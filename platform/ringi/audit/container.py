"""Write the file of an audit export: a ZIP that has exactly one way to be written, so that every byte of it can be checked. Pure.

All members are stored (not compressed), in a fixed order, with ZIP64 fields, data descriptors and constant metadata (APPNOTE 6.3.10,
sections 4.3 and 4.5.3). Any unzip reads it; the reader in `ringi_verify.py` accepts nothing but the bytes that this writer produces.
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from ringi.audit.ringi_verify import DESCRIPTOR_BYTES, MEMBERS, Member, data_descriptor, directory, local_header


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
        header = local_header(name)
        self._out.write(header)
        stream = MemberStream(self._out)
        yield stream
        member = Member(name, stream.size, stream.crc, self._at + len(header))
        self._out.write(data_descriptor(member))
        self._members.append(member)
        self._at = member.data_at + member.size + DESCRIPTOR_BYTES

    def finish(self) -> None:
        """Write the directory; every member must have been written."""
        if len(self._members) != len(MEMBERS):
            raise ValueError(f"the bundle lacks {', '.join(MEMBERS[len(self._members) :])}")
        self._out.write(directory(self._members))
