"""The time in `production@2026-11-01T00:00Z` and in `?as_of=`: when in the past a moving name is asked for."""

from datetime import UTC, datetime, timedelta

from ringi.kit.errors import InvalidInput
from ringi.kit.times import FORMS, read_time

# Clocks of clients and server differ a little; an answer about the future would be a guess.
_AHEAD = timedelta(minutes=1)


class BadAsOf(InvalidInput):
    """What follows `@` is no time, lies in the future, or stands behind something that never moves."""

    code, status = "bad_as_of", 422

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(
            f"{text[:80]!a} cannot be looked up: {reason}.",
            next_step=f"Write {FORMS} behind a channel's name or 'latest', e.g. production@2026-11-01T00:00Z.",
        )


def past(text: str, *, of: str) -> datetime:
    """The time behind `of@`; raises BadAsOf."""
    try:
        at = read_time(text).at
    except ValueError:
        raise BadAsOf(f"{of}@{text}", "what follows '@' is no time") from None
    if at > datetime.now(UTC) + _AHEAD:
        raise BadAsOf(f"{of}@{text}", "the time has not come yet")
    return at
