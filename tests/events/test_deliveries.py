"""From a change to a receiver: signed, once or again, in order, and nothing lost. Real receivers, a real notifier that is killed."""

import json
import signal
from datetime import timedelta
from uuid import uuid4

import pytest
from standardwebhooks import WebhookVerificationError

from events.conftest import HOST, TIMEOUT_S, World
from ringi.events.schemas import AttemptOutcome, ChangeSubscription, DeliveryKind, DeliveryState
from ringi_workers.notifier import SLOTS_PER_HOST
from support.receiver import Received, Reply, receiving
from support.refusals import refused
from support.running_platform import PROJECT
from support.waiting import until

pytestmark = pytest.mark.long


def test_a_change_arrives_signed_and_is_what_the_list_of_events_says(world: World) -> None:
    with receiving() as receiver:
        made = world.subscribed(receiver.url, "channel.*")
        name = world.happens()
        (one,) = receiver.got(1)
        assert made.secret is not None
        payload = one.verified(made.secret)
        assert payload["data"] == {"channel": name, "environment": "production"}
        assert (payload["type"], payload["project"]) == ("channel.created", PROJECT)
        (listed,) = world.platform.as_("viewer").events.all(PROJECT, type_="channel.created")
        assert (str(listed.id), listed.data) == (payload["id"], payload["data"])
        assert one.headers["webhook-id"] == f"evt_{listed.id.hex}"
        assert one.headers["host"] == f"127.0.0.1:{receiver.port}"
        (delivery,) = world.ended(made)
        assert [(each.number, each.outcome, each.status_code, each.response) for each in delivery.history] == [(1, "delivered", 200, "ok")]
        tampered = Received(one.path, one.headers, one.body.replace(b"production", b"elsewhere!"))
        with pytest.raises(WebhookVerificationError):
            tampered.verified(made.secret)


def test_only_what_was_asked_for_arrives_and_a_refused_change_tells_nothing(world: World) -> None:
    with receiving() as asked, receiving() as other:
        channels, releases = world.subscribed(asked.url, "channel.created"), world.subscribed(other.url, "release.*", "job.failed")
        first = world.happens()
        with refused("channel_exists", 409):
            world.happens(first)
        second = world.happens()
        asked.got(2)
        assert [one.state for one in world.ended(channels, 2)] == ["delivered", "delivered"]
        assert [json.loads(one.body)["data"]["channel"] for one in asked.received] == [first, second]
        assert world.deliveries(releases) == []
        assert other.received == []


def test_a_receiver_that_fails_is_asked_again_with_the_same_id_and_its_answers_are_kept(world: World) -> None:
    replies = [Reply(500, body="内部エラー\x1b[31m".encode()), Reply(503, (("Retry-After", "1"),), b"x" * 9000)]
    with receiving(reply=lambda _: replies.pop(0) if replies else Reply(204, body=b"")) as receiver:
        made = world.subscribed(receiver.url)
        world.happens()
        (delivery,) = world.ended(made)
        ids = {one.headers["webhook-id"] for one in receiver.received}
        assert (len(receiver.received), len(ids)) == (3, 1)
        assert len({one.body for one in receiver.received}) == 1
        assert [(one.outcome, one.status_code) for one in delivery.history] == [("refused", 500), ("refused", 503), ("delivered", 204)]
        assert delivery.history[0].response == "内部エラー\ufffd[31m"
        assert delivery.history[1].response == "x" * 500
        waited = delivery.history[2].started_at - delivery.history[1].started_at
        assert waited.total_seconds() >= 1, "it asked for a second's pause"


def test_what_waited_a_day_for_a_receiver_arrives_in_order_when_it_is_back(world: World) -> None:
    with receiving() as receiver:
        port = receiver.port
        made = world.subscribed(receiver.url)
    names = [world.happens() for _ in range(3)]

    def all_waiting() -> bool:
        found = world.deliveries(made, DeliveryState.PENDING)
        return len(found) == 3 and all(one.attempts >= 4 for one in found)

    # Four attempts within seconds; the next one is ten minutes away, and then a day passes without the receiver.
    until(all_waiting, timeout_s=40, pause_s=0.1)
    with world.rig.superuser() as connection:
        connection.execute(
            "UPDATE deliveries SET created_at = created_at - interval '1 day', next_attempt_at = now() + interval '20 hours' WHERE subscription_id = %s",
            (made.subscription.id,),
        )
        connection.execute(
            "UPDATE subscriptions SET failing_since = failing_since - interval '1 day' WHERE id = %s", (made.subscription.id,)
        )
    shown = world.platform.as_("deployer").subscriptions.get(PROJECT, made.subscription.name)
    assert (shown.waiting, shown.enabled) == (3, True)
    with receiving(port=port) as back:
        names.append(world.happens())
        world.ended(made, 4)
        arrived = [json.loads(one.body)["data"]["channel"] for one in back.received]
        assert sorted(arrived) == sorted(names)
        assert arrived == [names[-1], *names[:-1]], "the new one finds out that the receiver is back; the others follow in their order"
    shown = world.platform.as_("deployer").subscriptions.get(PROJECT, made.subscription.name)
    assert (shown.waiting, shown.failing_since) == (0, None)
    history = world.deliveries(made)[0]
    assert {one.outcome for one in world.delivery(history.id).history} == {AttemptOutcome.UNREACHABLE, AttemptOutcome.DELIVERED}


def test_a_notifier_killed_in_the_middle_of_a_delivery_loses_nothing(world: World) -> None:
    with receiving() as receiver:
        made = world.subscribed(receiver.url)
        receiver.open.clear()
        world.happens()
        receiver.got(1)
        world.rig.processes.kill("notifier", signal.SIGKILL)
        receiver.open.set()
        assert [one.state for one in world.deliveries(made)] == ["pending"]
        world.rig.processes.start("notifier", "ringi_workers.notifier")
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
        stopped = world.rig.processes.running.pop("notifier")
        stopped.send_signal(signal.SIGTERM)
        receiver.open.set()
        assert stopped.wait(20) == 0
        (delivery,) = world.ended(made)
        assert (len(receiver.received), delivery.attempts) == (1, 1)
        world.rig.processes.start("notifier", "ringi_workers.notifier")


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
            assert TIMEOUT_S * 900 <= first.duration_ms <= TIMEOUT_S * 3000
        ends = sorted(one.started_at + timedelta(milliseconds=one.duration_ms) for one in firsts)
        assert delivered.ended_at is not None
        assert delivered.ended_at < ends[0], "it did not wait for any of the slow ones"
        overlapping = [
            sum(other.started_at <= one.started_at < other.started_at + timedelta(milliseconds=other.duration_ms) for other in firsts)
            for one in firsts
        ]
        assert max(overlapping) <= SLOTS_PER_HOST


def test_two_notifiers_deliver_each_event_once_and_in_order(world: World) -> None:
    world.rig.processes.start("second-notifier", "ringi_workers.notifier")
    try:
        with receiving() as receiver:
            made = world.subscribed(receiver.url)
            names = [world.happens() for _ in range(30)]
            receiver.got(30)
            world.ended(made, 30)
            assert [json.loads(one.body)["data"]["channel"] for one in receiver.received] == names
            assert receiver.most_busy == 1
    finally:
        world.rig.processes.kill("second-notifier")


def test_a_redirect_is_a_refusal_and_is_not_followed(world: World) -> None:
    with receiving() as inside, receiving(reply=lambda _: Reply(307, (("Location", inside.url),))) as receiver:
        made = world.subscribed(receiver.url)
        world.happens()
        attempt = world.attempted(made).history[0]
        assert (attempt.outcome, attempt.status_code) == (AttemptOutcome.REFUSED, 307)
        assert inside.received == []


def test_while_a_secret_is_rotated_both_verify_and_without_overlap_the_new_one_alone(world: World) -> None:
    calls = world.platform.as_("deployer").subscriptions
    with receiving() as receiver:
        made = world.subscribed(receiver.url)
        name, old = made.subscription.name, made.secret or ""
        rotated = calls.rotate_secret(PROJECT, name, overlap_h=48)
        new = rotated.secret or ""
        assert new.startswith("whsec_")
        assert new != old
        assert rotated.previous_secret_until is not None
        world.happens()
        both = receiver.got(1)[0]
        assert both.verified(old) == both.verified(new)
        assert len(both.headers["webhook-signature"].split(" ")) == 2
        newest = calls.rotate_secret(PROJECT, name, overlap_h=0).secret or ""
        world.happens()
        alone = receiver.got(2)[1]
        assert alone.verified(newest)["type"] == "channel.created"
        for gone in (old, new):
            with pytest.raises(WebhookVerificationError):
                alone.verified(gone)
    assert "whsec_" not in world.platform.call("deployer", "GET", f"/projects/{PROJECT}/subscriptions/{name}").text


def test_a_test_call_reaches_its_own_subscription_and_no_other(world: World) -> None:
    calls = world.platform.as_("deployer").subscriptions
    with receiving() as receiver, receiving() as other:
        made, _ = world.subscribed(receiver.url, "release.published"), world.subscribed(other.url, "*")
        asked = calls.test(PROJECT, made.subscription.name)
        assert asked.kind is DeliveryKind.TEST
        payload = receiver.got(1)[0].verified(made.secret or "")
        assert (payload["type"], payload["data"]["subscription"]) == ("subscription.tested", made.subscription.name)
        assert "テスト" in payload["data"]["message"]
        (delivery,) = world.ended(made)
        assert delivery.id == asked.id
        assert other.received == []


def test_a_delivery_and_a_period_can_be_replayed_with_the_same_ids(world: World) -> None:
    calls = world.platform.as_("deployer").subscriptions
    before = world.happens()
    since = next(iter(world.platform.as_("viewer").events.all(PROJECT, type_="channel.created"))).occurred_at
    with receiving() as receiver:
        made = world.subscribed(receiver.url, "channel.created")
        name = made.subscription.name
        world.happens()
        (delivery,) = world.ended(made)
        again = calls.replay_delivery(PROJECT, delivery.id)
        assert (again.kind, again.event_id) == (DeliveryKind.REPLAY, delivery.event_id)
        assert len({one.headers["webhook-id"] for one in receiver.got(2)}) == 1

        def replayed(**period: object) -> int:
            answer = world.platform.call(
                "deployer", "POST", f"/projects/{PROJECT}/subscriptions/{name}/replay", json={"since": since.isoformat()} | period
            )
            assert answer.status_code == 201, answer.text
            return int(answer.json()["deliveries"])

        assert replayed() == 1, "what happened before it was subscribed; what arrived is left out"
        assert json.loads(receiver.got(3)[2].body)["data"]["channel"] == before
        assert replayed() == 0
        assert replayed(only_undelivered=False) == 2
        receiver.got(5)
        assert replayed(only_undelivered=False, until=since.isoformat()) == 0
        assert len(world.platform.logged("subscription.replay")) == 5


def test_a_receiver_that_is_gone_is_disabled_the_others_are_told_and_it_can_be_enabled_again(world: World) -> None:
    calls = world.platform.as_("deployer").subscriptions
    with receiving(reply=lambda _: Reply(410)) as gone, receiving() as other:
        made, watch = world.subscribed(gone.url, "*"), world.subscribed(other.url, "subscription.disabled")
        world.happens()
        told = other.got(1)[0].verified(watch.secret or "")
        assert told["data"]["subscription"] == made.subscription.name
        assert "410" in told["data"]["reason"]
        shown = calls.get(PROJECT, made.subscription.name)
        assert (shown.enabled, shown.waiting) == (False, 1)
        assert "410" in str(shown.disabled_reason)
        assert [one.actor for one in world.platform.logged("subscription.disable")] == ["notifier"]
        missed = world.happens()
        assert len(gone.received) == 1
        with refused("subscription_disabled", 409):
            calls.test(PROJECT, made.subscription.name)
        gone.reply = lambda _: Reply()
        enabled = calls.enable(PROJECT, made.subscription.name)
        assert (enabled.enabled, enabled.disabled_reason) == (True, None)
        assert len(gone.got(2)) == 2, "what waited goes out"
        assert enabled.disabled_at is None
        since = shown.disabled_at
        assert since is not None
        world.platform.call(
            "deployer", "POST", f"/projects/{PROJECT}/subscriptions/{made.subscription.name}/replay", json={"since": since.isoformat()}
        )
        # What happened meanwhile: its own disabling, and the channel.
        found = [json.loads(one.body) for one in gone.got(4)[2:]]
        assert {one["type"] for one in found} == {"subscription.disabled", "channel.created"}
        assert missed in [one["data"].get("channel") for one in found]
        with refused("subscription_state_conflict", 409):
            calls.enable(PROJECT, made.subscription.name)


def test_a_receiver_that_failed_for_days_is_disabled_and_nothing_that_waits_is_lost(world: World) -> None:
    with receiving(reply=lambda _: Reply(500)) as receiver:
        made = world.subscribed(receiver.url)
        world.happens()
        world.attempted(made)
        with world.rig.superuser() as connection:
            connection.execute("UPDATE subscriptions SET failing_since = now() - interval '3 days' WHERE id = %s", (made.subscription.id,))
        world.happens()
        calls = world.platform.as_("deployer").subscriptions
        shown = until(lambda: (one := calls.get(PROJECT, made.subscription.name)).disabled_at and one, timeout_s=40, pause_s=0.1)
        assert shown
        assert "nothing was delivered since" in str(shown.disabled_reason)
        assert shown.waiting == 2
        receiver.reply = lambda _: Reply()
        calls.enable(PROJECT, made.subscription.name)
        assert [one.state for one in world.ended(made, 2)] == ["delivered", "delivered"]


def test_attempts_that_are_used_up_end_as_failed_and_can_be_replayed(world: World) -> None:
    with receiving(reply=lambda _: Reply(500)) as receiver:
        made = world.subscribed(receiver.url)
        world.happens()
        delivery = world.attempted(made, 4)
        with world.rig.superuser() as connection:
            connection.execute("UPDATE deliveries SET next_attempt_at = now() WHERE id = %s", (delivery.id,))
        (failed,) = world.ended(made, state=DeliveryState.FAILED)
        assert (failed.attempts, failed.next_attempt_at, len(failed.history)) == (5, None, 5)
        receiver.reply = lambda _: Reply()
        world.platform.as_("deployer").subscriptions.replay_delivery(PROJECT, failed.id)
        (done,) = world.ended(made)
        assert done.kind is DeliveryKind.REPLAY


def test_a_changed_target_gets_what_waits_and_a_deleted_subscription_gets_nothing(world: World) -> None:
    calls = world.platform.as_("deployer").subscriptions
    with receiving(reply=lambda _: Reply(500)) as broken, receiving() as mended:
        made = world.subscribed(broken.url)
        name = made.subscription.name
        world.happens()
        world.attempted(made)
        calls.change(PROJECT, name, ChangeSubscription(url=mended.url, event_types=["channel.*"]))
        payload = mended.got(1)[0].verified(made.secret or "")
        assert payload["type"] == "channel.created"
        mended.reply = lambda _: Reply(500)
        world.happens()
        until(lambda: len(mended.received) >= 2)
        calls.delete(PROJECT, name)
        with refused("not_found", 404):
            calls.get(PROJECT, name)
        # The name is free again, and the new one starts from nothing.
        again = world.subscribed(mended.url, name=name)
        assert again.secret != made.secret
        assert world.deliveries(again) == []
        with world.rig.superuser() as connection:
            rows = connection.execute(
                "SELECT d.state, s.secret FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id WHERE s.id = %s",
                (made.subscription.id,),
            ).fetchall()
        assert {state for state, _ in rows} <= {"delivered", "dropped"}
        assert {secret for _, secret in rows} == {None}


def test_a_burst_is_not_lost_while_the_notifier_is_away(world: World) -> None:
    with receiving() as receiver:
        made = world.subscribed(receiver.url)
        world.rig.processes.kill("notifier")
        names = [world.happens(f"burst-{uuid4().hex[:8]}") for _ in range(10)]
        assert {one.state for one in world.deliveries(made)} == {DeliveryState.PENDING}
        world.rig.processes.start("notifier", "ringi_workers.notifier")
        world.ended(made, 10)
        assert [json.loads(one.body)["data"]["channel"] for one in receiver.received] == names
