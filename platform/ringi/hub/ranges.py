"""One byte range of a request (RFC 9110, section 14): how a client resumes a download, and how it reads only a safetensors header."""

import re
from typing import NamedTuple

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_MAX_DIGITS = 20


class Span(NamedTuple):
    """Bytes [start, end) of a file; `partial` when the answer is a 206."""

    start: int
    end: int
    partial: bool


def parse(header: str | None, size: int) -> Span | None:
    """The span that `header` asks for of a file of `size` bytes; None when no byte of it exists (416).

    No header, several ranges, another unit and a malformed one all mean the whole file, as the RFC allows (14.2).
    """
    whole = Span(0, size, partial=False)
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.groups() == ("", "") or max(map(len, match.groups())) > _MAX_DIGITS:
        return whole
    first, last = match.groups()
    if not first:
        suffix = min(int(last), size)
        return Span(size - suffix, size, partial=True) if suffix else None
    if last and int(last) < int(first):
        return whole
    if int(first) >= size:
        return None
    return Span(int(first), min(int(last) + 1, size) if last else size, partial=True)
