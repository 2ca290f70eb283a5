"""HTTP/1.1 as uvicorn speaks it, with an end to what it keeps of a request before anybody looks at it (RFC 9110, 5.4; RFC 6585, 5).

The parser holds a header line until its end has come, and every line until the last one has. Without a limit a stranger fills the memory with one
endless `Cookie:`, and without a time they keep connections for nothing.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MOST_HEADER_BYTES = 64 * 1024
_TOO_LARGE = "Request header fields too large."


class _HeaderTooLarge(Exception):
    """Ends the parsing; the parser wraps it."""


class BoundedHttp(HttpToolsProtocol):
    """Refuses a request line and header of more than 64 KiB with 431, trailers included, and hangs up on a header that takes longer than 30 s.

    Bodies are counted by `web.body_limit` and the stores. A chunk of the network (256 KiB at most) is parsed before it is counted, so that a
    connection holds that much more at most.
    """

    # Seconds from the beginning of a connection, or from the first byte of the next request on it, to the end of the header.
    header_s = 30.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Name, value and address of the request's header as far as it is parsed.
        self._parsed = 0
        # Bytes that came since the parser last gave anything but header: of a line that has not ended, of a trailer, of a chunk's extension.
        self._silent = 0
        self._heard = False
        self._in_header = True
        self._too_large = False
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the parent's
        """A silent connection is one whose header does not come."""
        super().connection_made(transport)
        self._begin_header_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        self._end_header_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, then count what has led to nothing yet."""
        self._heard = False
        if self._in_header:
            self._begin_header_time()
        super().data_received(data)
        if self.transport.is_closing():
            self._end_header_time()
            return
        self._silent = 0 if self._heard else self._silent + len(data)
        if self._silent > MOST_HEADER_BYTES:
            self._too_large = True
            self.send_400_response(_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """431 where the header was too large; without a word where an answer is on its way, which the words would stand in."""
        self._end_header_time()
        if not self._too_large:
            super().send_400_response(msg)
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_refusal())
        self.transport.close()

    def on_message_begin(self) -> None:
        """A request of its own, with a header of its own."""
        self._parsed = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole line of a header, or of the trailers behind a body."""
        # What stands between them, and an end.
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """What follows is a body."""
        self._heard, self._in_header = True, False
        self._end_header_time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._heard = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What follows is another request."""
        self._heard, self._in_header = True, True
        super().on_message_complete()

    def _count(self, size: int) -> None:
        self._parsed += size
        if self._parsed > MOST_HEADER_BYTES:
            self._too_large = True
            raise _HeaderTooLarge

    def _begin_header_time(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_s, self.timeout_keep_alive_handler)

    def _end_header_time(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def _refusal() -> bytes:
    lines = (
        STATUS_LINE[431], b"content-type: text/plain; charset=utf-8\r\n", b"content-length: %d\r\n" % len(_TOO_LARGE),
        b"connection: close\r\n\r\n", _TOO_LARGE.encode(),
    )  # fmt: skip
    return b"".join(lines)
