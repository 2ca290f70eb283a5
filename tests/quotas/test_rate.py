"""Requests a minute: the rule itself, its state in a real Valkey, and what is left of it when Valkey is away or a clock jumps."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from ringi.embedded import valkey
from ringi.web.rate import LocalCounter, SharedCounter, take
from support.at_once import every
from support.hub_client import free_port


def spend(times: list[float], *, limit: int) -> list[bool]:
    """Which requests at these times are let through."""
    full: float | None = None
    verdicts = []
    for now in times:
        allowed, full = take(full, now, cost=60 / limit)
        verdicts.append(allowed)
    return verdicts


def test_a_minutes_requests_may_come_at_once_and_then_one_at_a_time() -> None:
    assert spend([100.0] * 6, limit=5) == [True] * 5 + [False]
    assert spend([100.0] * 5 + [111.9, 112.0, 112.0], limit=5) == [True] * 5 + [False, True, False]


@given(gaps=st.lists(st.floats(min_value=0, max_value=30), min_size=1, max_size=200), limit=st.integers(min_value=1, max_value=50))
def test_no_two_minutes_in_a_row_let_through_more_than_two_limits(gaps: list[float], limit: int) -> None:
    times = [1000.0 + sum(gaps[: number + 1]) for number in range(len(gaps))]
    through = [now for now, allowed in zip(times, spend(times, limit=limit), strict=True) if allowed]
    for begin in through:
        assert sum(begin <= now < begin + 60 for now in through) <= 2 * limit
    assert through[0] == times[0]


@pytest.mark.parametrize("jump_s", [-3600.0, -61.0, 61.0, 3600.0])
def test_a_clock_that_jumps_locks_nobody_out(jump_s: float) -> None:
    verdicts = spend([10_000.0] * 5 + [10_000.0 + jump_s], limit=5)
    assert verdicts == [True] * 6


@pytest.mark.parametrize("jump_s", [-30.0, -1.0])
def test_a_small_jump_back_costs_no_more_than_the_jump(jump_s: float) -> None:
    times = [10_000.0] * 2 + [10_000.0 + jump_s, 10_012.0]
    assert spend(times, limit=5)[-1]


def test_every_token_is_counted_for_itself() -> None:
    counter = LocalCounter()
    assert [counter.take("one", 2).allowed for _ in range(3)] == [True, True, False]
    assert counter.take("two", 2).allowed


@pytest.fixture
def own_valkey() -> Iterator[tuple[Path, str]]:
    with tempfile.TemporaryDirectory(prefix="ringi-rate-") as folder:
        handle = valkey.start(Path(folder))
        yield Path(folder), handle.url
        valkey.stop(Path(folder))


def test_two_processes_share_one_count_in_valkey(broker: str) -> None:
    token, counters = str(uuid4()), [SharedCounter(broker), SharedCounter(broker)]
    rates = [counters[number % 2].take(token, 6) for number in range(8)]
    assert [rate.allowed for rate in rates] == [True] * 6 + [False] * 2
    assert all(rate.shared for rate in rates)
    assert [rate.remaining for rate in rates] == [5, 4, 3, 2, 1, 0, 0, 0]
    assert rates[5].headers("token") == {"RateLimit-Policy": '"token";q=6;w=60', "RateLimit": '"token";r=0;t=60'}
    assert 9 <= rates[-1].retry_after_s <= 10


def test_many_at_the_same_moment_take_no_more_than_there_is(broker: str) -> None:
    token, counter = str(uuid4()), SharedCounter(broker)
    assert [rate.allowed for rate in every(16, lambda: counter.take(token, 5))].count(True) == 5


def test_a_time_in_valkey_that_only_a_jumped_clock_could_have_written_is_forgotten(broker: str) -> None:
    token, counter = str(uuid4()), SharedCounter(broker)
    with redis.Redis.from_url(broker) as client:
        # Written an hour ahead of what the server's clock says now.
        client.set(f"ringi:rate:{token}", int((time.time() + 3600) * 1e6))
        assert counter.take(token, 5).remaining == 4
        assert 0 < client.pttl(f"ringi:rate:{token}") <= 60_000


def test_without_valkey_requests_are_counted_here_and_cost_no_time(own_valkey: tuple[Path, str]) -> None:
    folder, url = own_valkey
    counter, token = SharedCounter(url), str(uuid4())
    assert counter.take(token, 3).shared
    valkey.stop(folder)
    started = time.monotonic()
    rates = [counter.take(token, 3) for _ in range(4)]
    assert time.monotonic() - started < 1.0
    assert [(rate.allowed, rate.shared) for rate in rates] == [(True, False)] * 3 + [(False, False)]
    valkey.start(folder)


def test_an_address_where_nobody_ever_was_or_that_is_no_valkey_counts_here() -> None:
    for url in (f"redis://127.0.0.1:{free_port()}/0", "amqp://127.0.0.1/"):
        assert [SharedCounter(url).take("one", 1).shared] == [False]
