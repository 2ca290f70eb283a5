"""From a change to its receiver: signed, only what was asked for, and by no detour."""

import json

import pytest
from standardwebhooks import WebhookVerificationError

from events.conftest import World
from ringi.events.schemas import AttemptOutcome, DeliveryKind
from support.receiver import Received, Reply, receiving
from support.refusals import refused
from support.running_platform import PROJECT


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


def test_a_redirect_is_a_refusal_and_is_not_followed(world: World) -> None:
    with receiving() as inside, receiving(reply=lambda _: Reply(307, (("Location", inside.url),))) as receiver:
        made = world.subscribed(receiver.url)
        world.happens()
        attempt = world.attempted(made).history[0]
        assert (attempt.outcome, attempt.status_code) == (AttemptOutcome.REFUSED, 307)
        assert inside.received == []


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
