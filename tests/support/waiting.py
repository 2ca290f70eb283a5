"""Wait for what another process does: a condition with a deadline, never a guess of how long it takes."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], *, timeout_s: float = 30.0, pause_s: float = 0.02) -> T:
    """Look until the answer is true, and return it; fails with the last answer after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (answer := look()):
        assert time.monotonic() < deadline, f"still {answer!r} after {timeout_s} s"
        pause.wait(pause_s)
    return answer
