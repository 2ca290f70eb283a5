"""Times as people and programs write them: RFC 3339, with as much left out as is clear.

    2026-11-01   2026-11-01T09:30   2026-11-01T09:30Z   2026-11-01T09:30:15.25+09:00

Without a zone a time is UTC; a day alone begins at 00:00 UTC.
"""

import re
from datetime import UTC, datetime
from typing import NamedTuple

FORMS = "a day (2026-11-01) or a time (2026-11-01T09:30Z)"
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?P<clock>T\d\d:\d\d(:\d\d(\.\d{1,6})?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?", re.ASCII)


class Moment(NamedTuple):
    """A time in UTC; `whole_day` when only the day was written."""

    at: datetime
    whole_day: bool


def read_time(text: str) -> Moment:
    """Raises ValueError for anything else, such as the 30th of February or a time before the year 1."""
    parts = _TIME.fullmatch(text)
    if parts is None:
        raise ValueError(f"a time is {FORMS}")
    found = datetime.fromisoformat(text)
    try:
        return Moment(found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC), parts["clock"] is None)
    except OverflowError:
        raise ValueError("the time lies outside of the calendar") from None
