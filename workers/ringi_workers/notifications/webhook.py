"""One POST to a receiver: to an address that was judged, within one deadline, following no redirect, reading little of the answer.

The connection is pinned in `_Pinned`: httpcore asks it for `host` and gets a judged address, while TLS still checks the certificate for
`host` and the `Host` header still names it. Proxies of the environment are not used: they would resolve the name again.
"""

import ssl
import time
from collections.abc import Iterable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpcore
import httpx

from ringi.events.targets import Checked

MAX_RESPONSE = 500  # characters kept
_READ = 4096  # bytes read
_GONE = 410
_SUCCESS = range(200, 300)


class Answer(NamedTuple):
    """What came back. `wait_s`: seconds of a Retry-After."""

    status_code: int
    response: str
    wait_s: float | None

    @property
    def accepted(self) -> bool:
        """Whether the receiver took it: 2xx and nothing else."""
        return self.status_code in _SUCCESS

    @property
    def gone(self) -> bool:
        """Whether it wants nothing any more."""
        return self.status_code == _GONE


class Unreachable(Exception):  # what happened, not an error of ours
    """No answer within the time, or no connection."""


def tls() -> ssl.SSLContext:
    """Certificates of certifi, or of the file that SSL_CERT_FILE names (an intranet's own authority)."""
    return httpx.create_ssl_context()


def post(checked: Checked, *, body: bytes, headers: dict[str, str], timeout_s: float, context: ssl.SSLContext) -> Answer:
    """Send; raises Unreachable. `timeout_s` bounds the whole exchange, however slowly its bytes come."""
    deadline = time.monotonic() + timeout_s
    url = checked.target.url
    with httpcore.ConnectionPool(ssl_context=context, network_backend=_Pinned(checked, deadline), max_connections=1) as pool:
        request = httpcore.Request(
            "POST",
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=[
                (b"Host", url.netloc),
                (b"Content-Length", str(len(body)).encode()),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ],
            content=body,
            extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)},
        )
        try:
            answer = pool.handle_request(request)
            try:
                text = _beginning(answer)
            finally:
                answer.close()
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}"[:MAX_RESPONSE]) from error
    return Answer(answer.status, text, _wait_s(dict(answer.headers)))


def _beginning(answer: httpcore.Response) -> str:
    found = b""
    # The status has said it all: a body that never ends, or breaks off, changes nothing.
    with suppress(httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError):
        for piece in answer.iter_stream():
            found += piece
            if len(found) >= _READ:
                break
    text = found[:_READ].decode("utf-8", "replace")
    return "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in text)[:MAX_RESPONSE]


def _wait_s(headers: dict[bytes, bytes]) -> float | None:
    """Retry-After (RFC 9110, 10.2.3) as seconds from now; None without one that can be read."""
    found = {name.lower(): value for name, value in headers.items()}.get(b"retry-after")
    if found is None:
        return None
    text = found.decode("ascii", "replace").strip()
    if text.isdigit() and len(text) < 10:  # noqa: PLR2004  # more is no time
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


class _Pinned(httpcore.NetworkBackend):
    """Connects to the judged addresses in their order, whatever name it is asked for."""

    def __init__(self, checked: Checked, deadline: float) -> None:
        self._addresses, self._port, self._deadline = checked.addresses, checked.target.port, deadline

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:  # fmt: skip
        """Try one address after another; the last one's failure is the failure."""
        del host, port, timeout
        for address in self._addresses[:-1]:
            try:
                return self._connect(str(address), local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return self._connect(str(self._addresses[-1]), local_address, socket_options)

    def _connect(self, address: str, local_address: str | None, socket_options: Iterable[Any] | None) -> httpcore.NetworkStream:
        left = _left(self._deadline)
        stream = httpcore.SyncBackend().connect_tcp(address, self._port, left, local_address, socket_options)
        return _Timed(stream, self._deadline)


class _Timed(httpcore.NetworkStream):
    """A stream whose every operation ends by one deadline: a receiver that sends a byte now and then cannot hold us."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        del timeout
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time for one attempt is over")
    return left
