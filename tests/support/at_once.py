"""Clients that act at the same moment."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from ringi.cli.client import RingiClient
from ringi.kit.errors import RingiError
from support.running_platform import Platform

T = TypeVar("T")
Turn = tuple[str, Callable[[RingiClient], T]]


def at_once(platform: Platform, *turns: Turn[T]) -> list[T | RingiError]:
    """Each user's call from a client of its own, all released by one barrier; the result or the refusal of each, in their order."""
    barrier = threading.Barrier(len(turns))

    def run(turn: Turn[T]) -> T | RingiError:
        user, call = turn
        with RingiClient(platform.server, platform.tokens[user]) as client:
            barrier.wait()
            try:
                return call(client)
            except RingiError as refusal:
                return refusal

    # thread: these are clients; the platform they race on is in processes of its own.
    with ThreadPoolExecutor(len(turns)) as pool:
        return list(pool.map(run, turns))


@contextmanager
def in_background(call: Callable[[], T]) -> Iterator["Future[T]"]:
    """A call that is on its way while the test looks; waited for at the end."""
    # thread: a client whose request is held up while another one asks.
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


def every(count: int, call: Callable[[], T]) -> list[T]:
    """`count` clients that make the same call at the same moment."""
    barrier = threading.Barrier(count)

    def turn(_: int) -> T:
        barrier.wait()
        return call()

    # thread: these are clients; the platform they race on is in processes of its own.
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(turn, range(count)))


def codes(results: list[T | RingiError]) -> list[str]:
    """`done` or the code of the refusal, sorted."""
    return sorted(result.code if isinstance(result, RingiError) else "done" for result in results)
