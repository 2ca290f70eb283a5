"""Identifiers whose order is the order of time: UUID version 7 (RFC 9562, section 5.7)."""

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """48 bits of Unix milliseconds, then random bits; the standard library has it only from Python 3.14 on."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFFFFFFFFFF) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def uuid_in(text: str) -> UUID | None:
    """The id that a text is; None where it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None
