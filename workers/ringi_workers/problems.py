"""What goes wrong again and again is told once."""

import logging

from ringi.observe import metrics

logger = logging.getLogger("ringi.sequencer")


class Problems:
    """One log line per problem, and one when it is over; not one a second."""

    def __init__(self) -> None:
        self._current: str | None = None

    def report(self, code: str, message: str) -> None:
        """Log `message` unless the same problem was the last thing said."""
        if code != self._current:
            logger.error("%s: %s", code, message)
            metrics.SEQUENCER_PROBLEMS.labels(code).inc()
        self._current = code

    def over(self) -> None:
        """Work went through again."""
        if self._current is not None:
            logger.info("recovered from %s", self._current)
        self._current = None
