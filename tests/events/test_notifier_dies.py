"""Notifiers that are killed or stopped, two of them, and one with a slow receiver: nothing is lost, and nobody waits for another."""

import json
import signal
from datetime import timedelta
from uuid import uuid4

import pytest

from events.conftest import HOST, TIMEOUT_S, World
from ringi.events.schemas import AttemptOutcome, DeliveryState
from ringi_workers.notifier import SLOTS_PER_HOST
from support.receiver import receiving
from support.waiting import until


def test_a_notifier_killed_in_the_middle_of_a_delivery_loses_nothing(world: World) -> None:
    with receiving() as receiver:
        made = world.subscribed(receiver.url)
        receiver.open.clear()
        world.happens()
        receiver.got(1)
        with world.rig.without_notifier():
            receiver.open.set()
            assert [one.state for one in world.deliveries(made)] == ["pending"]
        (delivery,) = world.ended(made)
        assert [one.outcome for one in delivery.history] == ["delivered"]
        first, second = receiver.received
        assert first.headers["webhook-id"] == second.headers["webhook-id"], "the receiver can tell that it has seen it"
        assert first.body == second.body


def test_a_notifier_that_is_asked_to_stop_finishes_what_it_has_begun(world: World) -> None:
    with receiving() as receiver:
        made = world.subscribed(receiver.url)
        receiver.open.clear()
        world.happens()
        receiver.got(1)
        with world.rig.without_notifier(signal.SIGTERM) as stopped:
            receiver.open.set()
            assert stopped.wait(20) == 0
            (delivery,) = world.ended(made)
            assert (len(receiver.received), delivery.attempts) == (1, 1)


def test_a_burst_is_not_lost_while_the_notifier_is_away(world: World) -> None:
    with receiving() as receiver:
        made = world.subscribed(receiver.url)
        with world.rig.without_notifier():
            names = [world.happens(f"burst-{uuid4().hex[:8]}") for _ in range(10)]
            assert {one.state for one in world.deliveries(made)} == {DeliveryState.PENDING}
        world.ended(made, 10)
        assert [json.loads(one.body)["data"]["channel"] for one in receiver.received] == names


def test_two_notifiers_deliver_each_event_once_and_in_order(world: World) -> None:
    with world.rig.second_notifier(), receiving() as receiver:
        made = world.subscribed(receiver.url)
        names = [world.happens() for _ in range(30)]
        receiver.got(30)
        world.ended(made, 30)
        assert [json.loads(one.body)["data"]["channel"] for one in receiver.received] == names
        assert receiver.most_busy == 1


def test_two_notifiers_share_the_work(world: World) -> None:
    with world.rig.second_notifier(), receiving() as receiver, world.rig.superuser() as connection:
        receiver.open.clear()
        # One more than a single notifier sends to a host at the same moment.
        made = [world.subscribed(receiver.url) for _ in range(SLOTS_PER_HOST + 1)]
        ids = [one.subscription.id for one in made]
        world.happens()

        def carriers() -> set[str]:
            rows = connection.execute("SELECT lease_owner FROM subscriptions WHERE id = ANY(%s) AND lease_owner IS NOT NULL", (ids,))
            return {str(owner).partition("/")[0] for (owner,) in rows}

        until(lambda: carriers() == {"notifier", "second-notifier"})
        receiver.open.set()
        for one in made:
            world.ended(one)


@pytest.mark.parametrize("slowness", ["silent", "dripping"])
def test_a_slow_receiver_stops_nobody_else_and_is_given_up_in_time(world: World, slowness: str) -> None:
    with receiving(drip=slowness == "dripping") as slow, receiving() as quick:
        if slowness == "silent":
            slow.open.clear()
        held = [world.subscribed(slow.url) for _ in range(6)]
        # Another name, so another host: a host gets a few of the slots, and the rest are for others.
        made = world.subscribed(f"http://{HOST}:{quick.port}/hook")
        world.happens()
        (delivered,) = world.ended(made)
        firsts = [world.attempted(one).history[0] for one in held]
        for first in firsts:
            assert first.outcome is AttemptOutcome.UNREACHABLE
            assert "Timeout" in str(first.error)
            assert first.duration_ms >= TIMEOUT_S * 900
        ends = sorted(one.started_at + timedelta(milliseconds=one.duration_ms) for one in firsts)
        assert delivered.ended_at is not None
        assert delivered.ended_at < ends[-1], "it did not wait until the slow ones were over"
        overlapping = [
            sum(other.started_at <= one.started_at < other.started_at + timedelta(milliseconds=other.duration_ms) for other in firsts)
            for one in firsts
        ]
        assert 1 < max(overlapping) <= SLOTS_PER_HOST
