"""A subscription is changed as it was read, or not at all; what its receiver does is no change of it."""

from collections.abc import Callable

from events.conftest import World
from ringi.cli.calls.events import SubscriptionCalls
from ringi.events.schemas import ChangeSubscription, DeliveryState
from support.at_once import at_once, codes
from support.receiver import receiving
from support.refusals import refused
from support.running_platform import PROJECT

CHANGES: dict[str, Callable[[SubscriptionCalls, str, str], object]] = {
    "change": lambda calls, name, version: calls.change(PROJECT, name, ChangeSubscription(description="夜間担当"), if_match=version),
    "rotate": lambda calls, name, version: calls.rotate_secret(PROJECT, name, if_match=version),
    "disable": lambda calls, name, version: calls.disable(PROJECT, name, if_match=version),
    "enable": lambda calls, name, version: calls.enable(PROJECT, name, if_match=version),
    "delete": lambda calls, name, version: calls.delete(PROJECT, name, if_match=version),
}


def test_every_change_is_made_on_the_last_reading_only(world: World) -> None:
    with receiving() as receiver:
        made = world.subscribed(receiver.url).subscription
        calls, before = world.platform.as_("deployer").subscriptions, "0"
        for what, change in CHANGES.items():
            now = str(calls.get(PROJECT, made.name).row_version)
            with refused("precondition_failed", 412):
                change(calls, made.name, before)
            assert str(calls.get(PROJECT, made.name).row_version) == now, f"a refused {what} changes nothing"
            change(calls, made.name, now)
            before = now


def test_of_two_people_who_saw_the_same_one_changes_it(world: World) -> None:
    with receiving() as receiver:
        made = world.subscribed(receiver.url).subscription
        texts = ("一人目", "二人目", "三人目")
        results = at_once(
            world.platform,
            *(
                (
                    "deployer",
                    lambda client, text=text: client.subscriptions.change(
                        PROJECT, made.name, ChangeSubscription(description=text), if_match=str(made.row_version)
                    ),
                )
                for text in texts
            ),
        )
        assert codes(results) == ["done", "precondition_failed", "precondition_failed"]
        after = world.platform.as_("deployer").subscriptions.get(PROJECT, made.name)
        assert (after.row_version, after.description in texts) == (made.row_version + 1, True)


def test_a_delivery_is_no_change_of_the_subscription(world: World) -> None:
    with receiving() as receiver:
        made = world.subscribed(receiver.url)
        world.happens()
        world.ended(made, state=DeliveryState.DELIVERED)
        after = world.platform.as_("deployer").subscriptions.get(PROJECT, made.subscription.name)
        assert after.last_delivered_at is not None
        assert after.row_version == made.subscription.row_version
