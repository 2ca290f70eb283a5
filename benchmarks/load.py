"""Closed-loop clients: each sends its next request when the answer to the last one is whole. No library sits between the clock and the socket.

The clients run as processes of four threads each and share the machine with what they measure; both sides of a benchmark pay for that
alike. A latency is from the first byte sent to the last byte received, on a connection that is kept.
"""

import json
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

THREADS = 4


class Call(NamedTuple):
    """One request; `body` is sent as JSON."""

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})


class Measured(NamedTuple):
    """What the clients saw: answers per second, latencies in seconds, refusals (status of 400 and above) with one example."""

    per_s: float
    p50_s: float
    p95_s: float
    answers: int
    refused: int
    example: str | None


class Load(NamedTuple):
    """`next_call(client, number)` gives the request number `number` (from 0) of a client (from 0)."""

    server: str
    clients: int
    seconds: float
    next_call: Callable[[int, int], Call]
    first: int = 0


def measure(load: Load) -> Measured:
    """Run the clients for `load.seconds`; raises RuntimeError when a client process ends without a result."""
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    groups = [range(at, min(at + THREADS, load.clients)) for at in range(0, load.clients, THREADS)]
    begin = time.monotonic() + 0.3
    processes = [context.Process(target=_clients, args=(load, group, begin, results)) for group in groups]
    for process in processes:
        process.start()
    gathered = [results.get(timeout=load.seconds + 120) for _ in processes]
    for process in processes:
        process.join()
    latencies = sorted(one for each, _, _ in gathered for one in each)
    refused = sum(count for _, count, _ in gathered)
    if not latencies:
        raise RuntimeError("no client got an answer")
    cuts = statistics.quantiles(latencies, n=20, method="inclusive") if len(latencies) > 1 else latencies * 19
    return Measured(
        per_s=len(latencies) / load.seconds, p50_s=cuts[9], p95_s=cuts[18], answers=len(latencies), refused=refused,
        example=next((text for _, _, text in gathered if text), None),
    )  # fmt: skip


def _clients(load: Load, group: range, begin: float, results: Any) -> None:
    latencies: list[float] = []
    refusals: list[str] = []
    threads = [threading.Thread(target=_client, args=(load, client, begin, latencies, refusals)) for client in group]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((latencies, len(refusals), refusals[0] if refusals else None))


def _client(load: Load, client: int, begin: float, latencies: list[float], refusals: list[str]) -> None:
    address = urlsplit(load.server)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=60)
    connection.connect()
    time.sleep(max(0.0, begin - time.monotonic()))
    end, number = begin + load.seconds, load.first
    # The first answer of a client is not counted: it opens the connection, and may move a thing to where the last round left it.
    first = True
    while time.monotonic() < end:
        call = load.next_call(client, number)
        content = None if call.body is None else json.dumps(call.body).encode()
        headers = dict(call.headers) | ({"Content-Type": "application/json"} if content is not None else {})
        started = time.monotonic()
        connection.request(call.method, call.path, body=content, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        ended = time.monotonic()
        if ended <= end and not first:
            latencies.append(ended - started)
        if answer.status >= 400 and not first:  # noqa: PLR2004  # HTTP
            refusals.append(f"{call.method} {call.path}: {answer.status} {text[:300]!r}")
        number, first = number + 1, False
