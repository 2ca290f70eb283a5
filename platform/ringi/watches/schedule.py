"""When a watch looks next. Pure: the time now is the caller's, who asks the database.

`every 6h` counts from the time that was due before, so that looks do not wander. Five fields of crontab are read as Debian's cron reads them, also
where a clock is put forward or back (cron(8), "DAYLIGHT SAVING TIME").
"""

import re
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from ringi.kit.errors import InvalidInput

_EVERY = re.compile(r"every ([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = timedelta(days=366)


class ScheduleUnreadable(InvalidInput):
    """Neither an interval nor a crontab, or one that never comes."""

    code: ClassVar[str] = "watch_schedule_unreadable"

    def __init__(self, schedule: str, why: str) -> None:
        super().__init__(
            f"'{schedule}' is no schedule: {why}.", next_step="Write 'every 6h', or five fields of crontab: '0 3 * * mon-fri'."
        )


class ZoneUnknown(InvalidInput):
    """No time zone of that name."""

    code: ClassVar[str] = "watch_timezone_unknown"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no time zone '{name}'.", next_step="Use a name of the IANA database, such as Asia/Tokyo or UTC.")


def interval(schedule: str) -> timedelta | None:
    """How far apart, of `every 6h`; None of a crontab."""
    found = _EVERY.fullmatch(schedule)
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]]) if found else None


def check(schedule: str, timezone: str, *, now: datetime, shortest_s: float) -> None:
    """Raises ScheduleUnreadable, ZoneUnknown."""
    zone(timezone)
    apart = interval(schedule)
    if apart is not None and not timedelta(seconds=shortest_s) <= apart <= LONGEST:
        raise ScheduleUnreadable(schedule, f"looks are at least {shortest_s:g} s and at most {LONGEST.days} days apart")
    after(schedule, timezone, due=now, now=now)


def zone(name: str) -> ZoneInfo:
    """Raises ZoneUnknown."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ZoneUnknown(name) from None


def first(schedule: str, timezone: str, *, now: datetime) -> datetime:
    """The first time that is due: at once of an interval, as it is written of a crontab."""
    return now if interval(schedule) is not None else after(schedule, timezone, due=now, now=now)


def after(schedule: str, timezone: str, *, due: datetime, now: datetime) -> datetime:
    """The first time after `now` that is due, in UTC, when `due` was the one before: what was missed meanwhile is passed over.

    Raises ScheduleUnreadable.
    """
    apart = interval(schedule)
    if apart is not None:
        return due + apart * max(1, (now - due) // apart + 1)
    try:
        return next(CronSim(schedule, now.astimezone(zone(timezone)))).astimezone(UTC)
    except CronSimError as error:
        raise ScheduleUnreadable(schedule, str(error).lower() or "it is no crontab") from None
    except StopIteration:
        raise ScheduleUnreadable(schedule, "that day never comes") from None
