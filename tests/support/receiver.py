"""What webhooks are sent to: a real HTTP or HTTPS server that keeps every request and answers as a test tells it to."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from standardwebhooks import Webhook

from support.waiting import until


class Received(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str) -> dict[str, Any]:
        """The payload, if the library of Standard Webhooks accepts the signature; raises its WebhookVerificationError."""
        payload: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return payload


class Reply(NamedTuple):
    """What a receiver answers."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b"ok"


@dataclass
class Receiver:
    """A server on `address`; `reply` may be exchanged at any time, `held` makes every request wait until it is set again."""

    address: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None
    reply: Callable[[Received], Reply] = lambda _: Reply()
    received: list[Received] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0
    open: threading.Event = field(default_factory=threading.Event)
    # Sends a byte now and then instead of an answer.
    drip: bool = False

    @property
    def url(self) -> str:
        """Where to send."""
        return f"{'https' if self.tls else 'http'}://{self.address}:{self.port}/hook"

    def got(self, count: int, *, timeout_s: float = 30.0) -> list[Received]:
        """The requests, once there are so many."""
        until(lambda: len(self.received) >= count, timeout_s=timeout_s)
        return list(self.received)

    def types(self, secret: str) -> list[str]:
        """Types of what came, every signature checked."""
        return [str(one.verified(secret)["type"]) for one in list(self.received)]


@contextmanager
def receiving(**settings: Any) -> Iterator[Receiver]:
    """A running receiver."""
    receiver = Receiver(**settings)
    receiver.open.set()
    server = ThreadingHTTPServer((receiver.address, receiver.port), _handler_of(receiver))
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    if receiver.tls is not None:
        server.socket = receiver.tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)  # thread: a server of other people
    thread.start()
    try:
        yield receiver
    finally:
        receiver.open.set()
        server.shutdown()
        server.server_close()


def _handler_of(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    counting = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            one = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            with counting:
                receiver.received.append(one)
                receiver.busy += 1
                receiver.most_busy = max(receiver.most_busy, receiver.busy)
            try:
                receiver.open.wait(60)
                self._drip() if receiver.drip else self._answer(receiver.reply(one))
            except OSError:
                pass  # the caller had no more time
            finally:
                with counting:
                    receiver.busy -= 1

        def _drip(self) -> None:
            pause = threading.Event()
            for character in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
                self.wfile.write(bytes([character]))
                pause.wait(0.1)

        def _answer(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in (*reply.headers, ("Content-Length", str(len(reply.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
