"""A subscription after it was made: its secret is rotated, what it was sent is replayed, and it is changed and deleted."""

import json

import pytest
from standardwebhooks import WebhookVerificationError

from events.conftest import World
from ringi.events.schemas import ChangeSubscription, DeliveryKind
from support.receiver import Reply, receiving
from support.refusals import refused
from support.running_platform import PROJECT
from support.waiting import until


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
