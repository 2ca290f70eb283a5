"""How a process of its own ends: asked by SIGTERM or SIGINT, at its next turn, without sitting out a pause. Loads nothing."""

import os
import select
import signal
from types import FrameType


class Stop:
    """SIGTERM and SIGINT end every wait at once: the handler writes a byte that every wait looks for."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        os.write(self._writer, b"\x00")

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or at once when asked to stop."""
        select.select([self._reader], [], [], seconds)
