"""Wait for what another process does: a condition with a deadline, never a guess of how long it takes."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


# Looking costs the processor that the awaited process needs: who has waited long looks less often.
LONGEST_PAUSE_S = 0.25


def until(look: Callable[[], T], *, timeout_s: float = 30.0, pause_s: float = 0.02) -> T:
    """Look until the answer is true, and return it; fails with the last answer after `timeout_s` seconds.

    The first pause is `pause_s`, every next one half as long again, up to a quarter of a second.
    """
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not (answer := look()):
        assert time.monotonic() < deadline, f"still {answer!r} after {timeout_s} s"
        pause.wait(pause_s)
        pause_s = min(pause_s * 1.5, max(pause_s, LONGEST_PAUSE_S))
    return answer
