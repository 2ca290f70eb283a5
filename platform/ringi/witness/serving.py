"""The witness's door: `POST <prefix>/add-checkpoint` and `GET /healthz`, over HTTP/1.1, with or without TLS.

Every request is bounded: bytes, seconds from the first to the last of them, and connections at once. Nobody logs in; a checkpoint's signature is what counts.
"""

import io
import logging
import ssl
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import socket
from typing import Any

from ringi.audit.ringi_verify import Refused
from ringi.witness.protocol import PLAIN, Answer, Witness

MAX_BODY_BYTES = 64 * 1024
TIMEOUT_S = 10
MAX_CONNECTIONS = 64
log = logging.getLogger("ringi.witness")


class Door(ThreadingHTTPServer):
    """Listens at `address`; `serve_forever` answers until the process ends."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], witness: Witness, *, certificate: tuple[Path, Path] | None = None, request_s: float = TIMEOUT_S
    ) -> None:  # fmt: skip
        self.witness, self.request_s = witness, request_s
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handshake belongs to the connection's own thread: here it would let one slow client keep everybody out.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """One thread a connection, as long as there is room."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        """Answer a connection and make room again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, _request: object, client_address: Any) -> None:
        """A client that went away, or spoke no TLS, is no failure of ours."""
        log.debug("the connection of %s broke: %r", client_address, sys.exc_info()[1])


class Timely(io.RawIOBase):
    """A socket that is read until `deadline`, of the monotonic clock; then TimeoutError. A socket's own timeout begins anew with each byte."""

    def __init__(self, connection: socket) -> None:
        self._connection, self.deadline = connection, 0.0

    def readable(self) -> bool:
        """It is for reading only."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Some bytes; 0 at the end."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Door
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Read under a deadline, the handshake of TLS included."""
        super().setup()
        self._timely = Timely(self.connection)
        self.rfile = io.BufferedReader(self._timely)

    def handle_one_request(self) -> None:
        """One request, and waiting for it, in `request_s`; whoever needs longer loses the connection."""
        self._timely.deadline = time.monotonic() + self.server.request_s
        super().handle_one_request()

    def do_GET(self) -> None:
        """`/healthz` says that the process answers."""
        found = self.path == "/healthz"
        self._answer(
            Answer(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND, "ok\n" if found else "POST add-checkpoint, or GET /healthz.\n")
        )

    def do_POST(self) -> None:
        """`add-checkpoint` under any prefix, so that a proxy may keep its own."""
        if self.path.rpartition("/")[2] != "add-checkpoint":
            self.close_connection = True
            self._answer(Answer(HTTPStatus.NOT_FOUND, "POST add-checkpoint, or GET /healthz.\n"))
            return
        body = self._body()
        if body is None:
            return
        try:
            answer = self.server.witness.add_checkpoint(body)
        except (OSError, Refused) as error:
            log.error("nothing was cosigned: %s", error)  # noqa: TRY400  # the whole story
            answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "This witness cannot use its memory; its operator is told.\n")
        self._answer(answer)

    def _body(self) -> bytes | None:
        """The request's bytes, or None when it was refused already."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            refusal = Answer(HTTPStatus.LENGTH_REQUIRED, "Say the body's length.\n")
        elif len(length) > len(str(MAX_BODY_BYTES)) or int(length) > MAX_BODY_BYTES:
            refusal = Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request has at most {MAX_BODY_BYTES} bytes.\n")
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                return body
            refusal = Answer(HTTPStatus.BAD_REQUEST, "The body is shorter than its length.\n")
        # What was not read would be taken for the next request.
        self.close_connection = True
        self._answer(refusal)
        return None

    def _answer(self, answer: Answer) -> None:
        body = answer.body.encode()
        self.connection.settimeout(self.server.request_s)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type or PLAIN)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """No version of ours or of Python's."""
        return "ringi-witness"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        """Requests are no news; what was cosigned and refused is told elsewhere."""
        log.debug(format, *args)
