"""A place where checkpoints are anchored: when it is due, and what is told of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ringi.audit.checking import Finding
from ringi.audit.published import Signed
from ringi.observe import metrics
from ringi_workers.problems import Problems

_FIRST_RETRY_S = 5.0


@dataclass
class Place:
    """Somewhere to anchor, and when the next time is due; times are of the monotonic clock."""

    name: str
    every_s: float
    anchor: Callable[[Signed], Finding | None]
    due_at: float = 0.0
    failures: int = 0
    problems: Problems = field(default_factory=Problems)

    def __post_init__(self) -> None:
        anchored_at = time.monotonic()
        self._age = metrics.ANCHOR_AGE.labels(self.name)
        self._age.set_function(lambda: time.monotonic() - anchored_at)

    def now(self) -> None:
        """Do not wait for the next time, unless it is away."""
        if not self.failures:
            self.due_at = 0.0

    def done(self) -> None:
        """It was anchored."""
        anchored_at = time.monotonic()
        self._age.set_function(lambda: time.monotonic() - anchored_at)
        self.failures, self.due_at = 0, anchored_at + self.every_s
        self.problems.over()

    def failed(self, code: str, message: str) -> None:
        """It was not, and is tried again after growing pauses."""
        self.failures += 1
        self.due_at = time.monotonic() + min(self.every_s, _FIRST_RETRY_S * 2 ** min(self.failures - 1, 16))
        metrics.ANCHOR_FAILURES.labels(self.name).inc()
        self.problems.report(code, message)
