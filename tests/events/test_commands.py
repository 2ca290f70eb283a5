"""The verbs of `ringi events`, `subscriptions` and `deliveries`, and the receiver of the guide, as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from events.conftest import World
from ringi.cli.contexts import Profile, save_profile
from ringi.settings import Settings
from support.hub_client import free_port
from support.receiver import receiving
from support.running_platform import PROJECT
from support.shell import Shell
from support.waiting import until

GUIDE = Path(__file__).parents[2] / "docs" / "webhooks.md"


@pytest.fixture
def shell(world: World, tmp_path: Path) -> Shell:
    for user, token in world.platform.with_everybody().tokens.items():
        save_profile(tmp_path / "config.json", user, Profile(server=world.platform.server, token=token), replace=False)
    return Shell(tmp_path, world.platform.server)


def test_a_webhook_is_made_tested_looked_at_and_ended_from_the_command_line(world: World, shell: Shell) -> None:
    as_deployer = ("--profile", "deployer")
    with receiving() as receiver:
        shown = shell.ok(
            "subscriptions", "create", PROJECT, "ops", "--url", receiver.url, "--event", "channel.*", "--description", "運用", *as_deployer
        )
        secret = re.search(r"whsec_\S+", shown)
        assert secret
        assert "shown once" in shown
        name = world.happens()
        assert receiver.got(1)[0].verified(secret[0])["data"]["channel"] == name
        shell.ok("subscriptions", "test", PROJECT, "ops", *as_deployer)
        assert receiver.got(2)[1].verified(secret[0])["type"] == "subscription.tested"
        until(lambda: {one["state"] for one in shell.json("deliveries", "list", PROJECT, "ops", *as_deployer)} == {"delivered"})
        first = shell.json("deliveries", "list", PROJECT, "ops", *as_deployer)[-1]["id"]
        assert "delivered" in shell.ok("deliveries", "show", PROJECT, first, *as_deployer)
        shell.ok("deliveries", "replay", PROJECT, first, *as_deployer)
        receiver.got(3)
        assert shell.json("subscriptions", "replay", PROJECT, "ops", "--since", "2020-01-01", *as_deployer) == {"deliveries": 0}
        rotated = shell.json("subscriptions", "rotate-secret", PROJECT, "ops", "--overlap-h", "1", *as_deployer)
        assert rotated["secret"] != secret[0]
        changed = shell.json("subscriptions", "change", PROJECT, "ops", "--event", "*", *as_deployer)
        assert (changed["event_types"], changed["description"]) == (["*"], "運用")
        assert shell.json("subscriptions", "disable", PROJECT, "ops", *as_deployer)["enabled"] is False
        assert shell.json("subscriptions", "enable", PROJECT, "ops", *as_deployer)["enabled"] is True
        assert name in shell.ok("events", "list", PROJECT, "--type", "channel.created", "--profile", "viewer")
        event = shell.json("events", "list", PROJECT, "--profile", "viewer")[0]["id"]
        assert event in shell.ok("events", "show", PROJECT, event, "--profile", "viewer")
        assert "リリースされました" in shell.ok("events", "types", "--profile", "viewer")
        shell.ok("subscriptions", "delete", PROJECT, "ops", *as_deployer)
        assert shell.json("subscriptions", "list", PROJECT, *as_deployer) == []


def test_a_subscription_without_a_receiver_is_a_wrong_use(shell: Shell) -> None:
    shell.refused("subscriptions", "create", PROJECT, "ops", "--event", "*", "--profile", "deployer", code="no_target", exit_code=2)
    shell.refused(
        "subscriptions",
        "create",
        PROJECT,
        "ops",
        "--event",
        "*",
        "--url",
        "http://10.0.0.1/",
        "--profile",
        "deployer",
        code="webhook_target_refused",
    )


@pytest.fixture
def guides_receiver(tmp_path: Path) -> tuple[int, Path, list[str]]:
    """Its port, its output, and the program of docs/webhooks.md."""
    found = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found
    return free_port(), tmp_path / "receiver.log", [sys.executable, "-c", found[1]]


def test_the_receiver_of_the_guide_takes_what_is_signed_and_refuses_what_is_not(
    world: World, guides_receiver: tuple[int, Path, list[str]]
) -> None:
    port, log, program = guides_receiver
    made = world.subscribed(f"http://127.0.0.1:{port}/")
    with (
        log.open("wb") as out,
        subprocess.Popen(program, env=os.environ | {"PORT": str(port), "SECRET": made.secret or ""}, stdout=out, stderr=out) as receiver,
    ):
        try:
            name = world.happens()
            world.ended(made)
            until(lambda: name in log.read_text())
            assert "evt_" in log.read_text()
            other = world.subscribed(f"http://127.0.0.1:{port}/")
            world.platform.as_("deployer").subscriptions.test(PROJECT, other.subscription.name)
            assert world.attempted(other).history[0].status_code == 400, "signed with another secret"
        finally:
            receiver.terminate()


def test_the_schedule_of_the_guide_is_the_one_of_the_code() -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    told = re.search(r"and then after ((?:\d+ \w+(?:, | and )?)+):", " ".join(GUIDE.read_text(encoding="utf-8").split()))
    assert told
    assert tuple(int(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", told[1])) == Settings().delivery_backoff_s
