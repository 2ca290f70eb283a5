"""What an attempt writes with Python's logging, kept until a heartbeat brings it to the job's log.

Bounded in memory: a flood between two heartbeats loses its oldest lines and says how many. No torch.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Self

from ringi.jobs.log import Line
from ringi.observe.redaction import secrets_of
from ringi.settings import get_settings

HELD_LINES = 2000
# Lines of one heartbeat: a transaction that stays short.
_HANDED_OVER = 500
# Talk of the process itself, not of the job.
_NOT_OURS = ("celery", "kombu", "amqp", "sqlalchemy")


@cache
def own_secrets() -> tuple[str, ...]:
    """The secrets that this process was started with."""
    return secrets_of(get_settings())


class JobLog(logging.Handler):
    """Listens at the root logger while an attempt runs: to its own thread, and to `ringi` in every other."""

    def __init__(self) -> None:
        super().__init__()
        self._working = threading.get_ident()
        self._held: deque[tuple[int, int, str, float]] = deque()
        self._number = 0
        self._dropped = 0
        self._handing_over = threading.Lock()

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)

    @property
    def written(self) -> int:
        """How many lines the attempt has written so far."""
        return self._number

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line. Called by logging, which holds this handler's lock."""
        if not self._ours(record):
            return
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001  # a line that cannot be made must not end the work
            text = f"a line of {record.name} that cannot be shown"
        if len(self._held) >= HELD_LINES:
            self._held.popleft()
            self._dropped += 1
        self._keep(record.levelno, text)

    def _ours(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] in _NOT_OURS:
            return False
        return record.thread == self._working or record.name.partition(".")[0] == "ringi"

    def _keep(self, level: int, text: str) -> None:
        self._number += 1
        self._held.append((self._number, level, text, time.monotonic()))

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    @contextmanager
    def handing_over(self, limit: int = _HANDED_OVER) -> Iterator[list[Line]]:
        """The oldest `limit` lines, for one transaction; they are let go when it has committed. One thread at a time."""
        with self._handing_over:
            with self._at_rest():
                if self._dropped:
                    self._keep(logging.WARNING, f"{self._dropped} lines were left out: they came faster than they could be stored")
                    self._dropped = 0
                now = time.monotonic()
                lines = [Line(number, level, text, now - at) for number, level, text, at in islice(self._held, limit)]
            yield lines
            with self._at_rest():
                while lines and self._held and self._held[0][0] <= lines[-1].number:
                    self._held.popleft()
