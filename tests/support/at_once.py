"""Clients that act at the same moment."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ringi.kit.errors import RingiError

T = TypeVar("T")


def at_once(*calls: Callable[[], T]) -> list[T | RingiError]:
    """Run all calls together, released by one barrier; the result or the refusal of each, in their order."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | RingiError:
        barrier.wait()
        try:
            return call()
        except RingiError as refusal:
            return refusal

    # thread: these are clients; the platform they race on is in processes of its own.
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def codes(results: list[T | RingiError]) -> list[str]:
    """`done` or the code of the refusal, sorted."""
    return sorted(result.code if isinstance(result, RingiError) else "done" for result in results)
