"""A receiver that fails: asked again with the same id, for a day, for days, until it is gone or the attempts are used up."""

import json

from events.conftest import World
from ringi.events.schemas import AttemptOutcome, DeliveryKind, DeliveryState
from support.receiver import Reply, receiving
from support.refusals import refused
from support.running_platform import PROJECT
from support.waiting import until


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
