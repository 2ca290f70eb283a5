"""What the API keeps of a request before anybody looks at it: strangers on real sockets."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from ringi.api.bounded import MOST_HEADER_BYTES, BoundedHttp
from support.running_platform import Platform
from support.waiting import until

GET = b"GET /%d HTTP/1.1\r\nHost: ringi.example.test\r\n"


async def measure(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the size of the body that came."""
    if scope["type"] == "lifespan":
        return
    size, more = 0, True
    while more:
        event = await receive()
        size, more = size + len(event.get("body", b"")), event.get("more_body", False)
    body = f"{scope['path']} {size};".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


class Impatient(BoundedHttp):
    """The same, in the time of a test."""

    header_s = 1.0


@pytest.fixture(params=[BoundedHttp])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(measure, port=0, http=request.param, ws="none", lifespan="off", log_config=None, timeout_keep_alive=60)
    )
    # thread: the server, in this process so that its class can be another one.
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield int(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    thread.join(30)


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def heard(talk: socket.socket, enough: bytes | None = None) -> bytes:
    """Everything up to the end of the connection, or up to `enough`."""
    said = b""
    try:
        while piece := talk.recv(65536):
            said += piece
            if enough is not None and enough in said:
                break
    except ConnectionResetError:
        pass
    return said


def pushed(talk: socket.socket, piece: bytes, times: int) -> int:
    """How many pieces the other side took before it hung up."""
    for number in range(times):
        try:
            talk.sendall(piece)
        except OSError:
            return number
    return times


@pytest.mark.parametrize(
    "begun",
    [
        GET % 1 + b"Cookie: ", b"GET /", GET % 1 + b"x", b"\r\n",
        b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: ",
        b"POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;",
    ],
    ids=["a value", "an address", "a name", "before the line", "a trailer", "an extension of a chunk"],
)  # fmt: skip
def test_a_header_without_an_end_is_cut_off(port: int, begun: bytes) -> None:
    with connected(port) as talk:
        talk.sendall(begun)
        piece = b"\r\n" * 8192 if begun == b"\r\n" else b"a" * 16384
        # What lies in the buffers between the two has been sent, and is thrown away.
        assert pushed(talk, piece, 9600) < 2000
        heard(talk)
    assert httpx.get(f"http://127.0.0.1:{port}/1").text == "/1 0;"


def test_a_header_that_grows_too_large_is_told_so(port: int) -> None:
    with connected(port) as talk:
        talk.sendall(GET % 1 + b"Cookie: ")
        talk.sendall(b"a" * MOST_HEADER_BYTES)
        answer = heard(talk)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"connection: close" in answer


@pytest.mark.parametrize("value", [b"a" * MOST_HEADER_BYTES, b"a" * 30_000_000], ids=["64 KiB", "30 MB"])
def test_a_whole_header_that_is_too_large_is_refused(port: int, value: bytes) -> None:
    with connected(port) as talk:
        pushed(talk, GET % 1 + b"Cookie: " + value + b"\r\n\r\n", 1)
        answer = heard(talk)
    assert b"200" not in answer
    assert answer.startswith(b"HTTP/1.1 431 ") or len(value) > MOST_HEADER_BYTES


def test_many_lines_count_together(port: int) -> None:
    with connected(port) as talk:
        pushed(talk, GET % 1 + b"".join(b"X-%d: %s\r\n" % (number, b"a" * 1000) for number in range(70)) + b"\r\n", 1)
        assert heard(talk).startswith(b"HTTP/1.1 431 ")


def test_each_request_of_a_connection_is_counted_for_itself(port: int) -> None:
    """Kept alive, one after the other, and pipelined; each has nearly as much as it may have."""
    cookie = b"Cookie: " + b"a" * (MOST_HEADER_BYTES - 200) + b"\r\n\r\n"
    with connected(port) as talk:
        for number in range(4):
            talk.sendall(GET % number + cookie)
            assert f"/{number} 0;".encode() in heard(talk, enough=b";")
        # thread: it sends while the answers come.
        several = threading.Thread(target=talk.sendall, args=[b"".join(GET % number + cookie for number in range(5, 9))])
        several.start()
        assert b"/8 0;" in heard(talk, enough=b"/8 0;")
        several.join(30)
    with connected(port) as talk:
        talk.sendall(GET % 1 + b"\r\n" + GET % 2 + b"Cookie: ")
        heard(talk, enough=b"/1 0;")
        assert pushed(talk, b"a" * 16384, 9600) < 2000


def test_a_body_is_no_header(port: int) -> None:
    size = 3_000_000
    with connected(port) as talk:
        talk.sendall(b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(300):
            talk.sendall(b"a" * (size // 300))
        assert f"/1 {size};".encode() in heard(talk, enough=b";")
        talk.sendall(b"POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2710\r\n" + b"a" * 10000 + b"\r\n")
        for _ in range(30):
            talk.sendall(b"2710\r\n" + b"a" * 10000 + b"\r\n")
        talk.sendall(b"0\r\n\r\n")
        assert b"/2 310000;" in heard(talk, enough=b";")


@pytest.mark.parametrize("port", [Impatient], indirect=True)
def test_a_header_that_does_not_come_ends_the_connection_and_a_body_that_does_not_come_does_not(port: int) -> None:
    with connected(port) as silent, connected(port) as slow, connected(port) as second, connected(port) as body:
        second.sendall(GET % 1 + b"\r\n")
        heard(second, enough=b";")
        second.sendall(GET % 2)
        body.sendall(b"POST /3 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        slow.sendall(GET % 1)
        slow.settimeout(0.2)
        parts = 0
        # A byte now and then does not begin the time anew.
        while parts < 100:
            parts += 1
            try:
                slow.sendall(b"a")
                if slow.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert parts < 100
        assert heard(silent) == b""
        assert heard(second) == b""
        body.sendall(b"b")
        assert b"/3 2;" in heard(body, enough=b";")


def test_the_api_cuts_such_a_header_off(platform: Platform) -> None:
    with connected(int(platform.server.rpartition(":")[2])) as talk:
        talk.sendall(GET % 1 + b"Cookie: ")
        talk.sendall(b"a" * MOST_HEADER_BYTES)
        assert heard(talk).startswith(b"HTTP/1.1 431 ")
