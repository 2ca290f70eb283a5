"""When a watch looks next: intervals that do not wander, crontabs in their own time zone, and what no clock ever shows."""

from datetime import UTC, datetime, timedelta

import pytest

from ringi.watches import schedule
from support.refusals import refused

NOW = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)


def test_an_interval_counts_from_the_time_that_was_due_and_not_from_when_somebody_came() -> None:
    due = NOW - timedelta(minutes=7)
    assert schedule.after("every 1h", "UTC", due=due, now=NOW) == due + timedelta(hours=1)
    assert schedule.first("every 1h", "UTC", now=NOW) == NOW


def test_a_week_that_was_missed_is_one_time_that_is_due() -> None:
    due = NOW - timedelta(days=7, minutes=1)
    found = schedule.after("every 6h", "Asia/Tokyo", due=due, now=NOW)
    assert NOW < found <= NOW + timedelta(hours=6)
    assert (found - due) % timedelta(hours=6) == timedelta(0)
    assert schedule.after("0 3 * * *", "UTC", due=due, now=NOW) == datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


def test_the_very_moment_that_is_due_is_over() -> None:
    assert schedule.after("every 30s", "UTC", due=NOW, now=NOW) == NOW + timedelta(seconds=30)
    at_three = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
    assert schedule.after("0 3 * * *", "UTC", due=at_three, now=at_three) == at_three + timedelta(days=1)


def test_a_crontab_is_of_its_time_zone() -> None:
    # Three at night in Tokyo is six in the evening before in UTC.
    assert schedule.first("0 3 * * *", "Asia/Tokyo", now=NOW) == datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
    # A Monday in Tokyo begins on a Sunday in UTC.
    assert schedule.first("0 0 * * mon", "Asia/Tokyo", now=NOW) == datetime(2026, 11, 29, 15, 0, tzinfo=UTC)


def test_an_hour_that_a_clock_skips_or_repeats_is_one_look() -> None:
    before = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)
    # 02:30 does not exist in Berlin on 2026-03-29; cron(8) of Debian runs it right after the change.
    skipped = schedule.after("30 2 * * *", "Europe/Berlin", due=before, now=before)
    assert skipped == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    october = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)
    first = schedule.after("30 2 * * *", "Europe/Berlin", due=october, now=october)
    second = schedule.after("30 2 * * *", "Europe/Berlin", due=first, now=first)
    assert (first.date(), second.date()) == (datetime(2026, 10, 25).date(), datetime(2026, 10, 26).date())  # noqa: DTZ001  # days alone


@pytest.mark.parametrize(
    "text", ["every 0s", "every", "every 6 hours", "60 3 * * *", "0 3 * *", "0 3 * * * *x", "0 0 30 2 *", "毎日", "every 1000d"]
)
def test_what_is_no_schedule_is_refused_when_it_is_written(text: str) -> None:
    with refused("watch_schedule_unreadable", 400):
        schedule.check(text, "UTC", now=NOW, shortest_s=60)


def test_looks_that_are_too_near_and_zones_that_do_not_exist_are_refused() -> None:
    with refused("watch_schedule_unreadable", 400):
        schedule.check("every 59s", "UTC", now=NOW, shortest_s=60)
    schedule.check("every 60s", "UTC", now=NOW, shortest_s=60)
    for zone in ("Asia/Edo", "../etc/passwd", "/etc/localtime"):
        with refused("watch_timezone_unknown", 400):
            schedule.check("every 6h", zone, now=NOW, shortest_s=60)
