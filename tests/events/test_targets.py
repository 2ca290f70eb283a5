"""Where nothing may be sent, judged address by address; and end to end with a name server that lies."""

import json
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from pydantic import ValidationError

from events.conftest import HOST, World
from ringi.events import targets
from ringi.events.schemas import AttemptOutcome, ChangeSubscription, SubscriptionWithSecret
from ringi.settings import Settings
from support.dns_server import NameServer, name_server
from support.receiver import receiving
from support.refusals import refused
from support.running_platform import PROJECT
from support.waiting import until

PUBLIC = "93.184.215.14"
FORBIDDEN = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::1", "2002:5db8:d70e::1", "3fff::1", "5f00::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2606:4700::5efe:a00:1", "2606:4700::200:5efe:5db8:d70e",
]  # fmt: skip
ALLOWED = [PUBLIC, "1.1.1.1", "172.15.255.255", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


def settings(**given: object) -> Settings:
    return Settings.model_validate({"webhook_ports": "443,8443", **given})


@pytest.fixture
def names() -> Iterator[NameServer]:
    with name_server() as server:
        yield server


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert targets.refusal_of(ip_address(address)) is not None


@pytest.mark.parametrize("address", ALLOWED)
def test_a_public_address_is_not(address: str) -> None:
    assert targets.refusal_of(ip_address(address)) is None


def test_the_operator_may_allow_a_network_and_no_other_follows_from_it() -> None:
    allowed = settings(webhook_allowed_networks="10.1.0.0/16,fd00:7::/64").webhook_allowed_networks
    assert targets.refusal_of(ip_address("10.1.2.3"), allowed) is None
    assert targets.refusal_of(ip_address("::ffff:10.1.2.3"), allowed) is None
    assert targets.refusal_of(ip_address("fd00:7::1"), allowed) is None
    for address in ("10.2.0.1", "127.0.0.1", "169.254.169.254", "fd00:8::1", "64:ff9b::a01:203", "::a01:203"):
        assert targets.refusal_of(ip_address(address), allowed) is not None


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/", "file:///etc/passwd", "https://user:pw@example.com/", "https://user@example.com/", "https://example.com:22/",
        "https://example.com:6379/", "https:///path", "https://", "https://exa mple.com/", "https://example.com/#x", "https://example.com/\r\nX: y",
        "https://例え.jp/", "https://example.com\\@127.0.0.1/", "https://" + "a" * 3000, "gopher://127.0.0.1:443/", "https://example.com:99999/", "http", "https://0177.0.0.1/",
    ],
)  # fmt: skip
def test_a_form_that_is_not_a_plain_address_is_refused(url: str) -> None:
    with refused("webhook_target_refused", 400):
        targets.parse(url, settings())


def test_production_takes_https_alone() -> None:
    assert targets.parse("http://example.com:443/", settings()).scheme == "http"
    strict = settings().model_copy(update={"profile": "production"})
    assert targets.parse("https://example.com/", strict).port == 443
    with refused("webhook_target_refused", 400) as why:
        targets.parse("http://example.com:443/", strict)
    assert "https" in why.next_step


def test_every_address_of_a_name_is_judged_and_one_bad_one_refuses_it(names: NameServer) -> None:
    given = settings(webhook_dns=names.server)
    names.names = {HOST: [PUBLIC, "2606:4700::1"], "mixed.test": [PUBLIC, "10.0.0.1"], "six.test": [PUBLIC, "::1"]}
    assert targets.check(f"https://{HOST}/", given).addresses == (ip_address("2606:4700::1"), ip_address(PUBLIC))
    assert sorted(names.asked) == [(HOST, "A"), (HOST, "AAAA")], "asked once for each family"
    for name in ("mixed.test", "six.test"):
        with refused("webhook_target_refused", 400) as why:
            targets.check(f"https://{name}/", given)
        assert name in why.message


@pytest.mark.parametrize(
    "url",
    ["https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://localhost/", "https://localhost./"],
)
def test_numbers_in_disguise_and_names_of_the_hosts_file_are_names_that_dns_does_not_know(names: NameServer, url: str) -> None:
    with refused("webhook_target_unresolved", 400):
        targets.check(url, settings(webhook_dns=names.server))


def test_a_literal_address_is_judged_without_dns(names: NameServer) -> None:
    for url in ("https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://127.0.0.1/", "https://169.254.169.254/latest/meta-data/"):
        with refused("webhook_target_refused", 400):
            targets.check(url, settings(webhook_dns=names.server))
    assert names.asked == []


def test_a_name_server_that_is_silent_is_given_up_in_seconds() -> None:
    begun = time.monotonic()
    # Nothing listens there, or whatever does says nothing that is DNS.
    with refused("webhook_target_unresolved", 400):
        targets.check("https://example.com/", settings(webhook_dns="127.0.0.1:9"))
    assert time.monotonic() - begun < 3 * targets.RESOLVE_S


@pytest.mark.parametrize(
    "given",
    [{"webhook_allowed_networks": "10.0.0.1/8"}, {"webhook_ports": "many"}, {"webhook_dns": "8.8.8.8"}, {"delivery_backoff_s": "0"}],
)
def test_a_setting_that_cannot_be_read_stops_the_process(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


def test_a_subscription_to_the_inside_is_refused_when_it_is_made_and_when_it_is_changed(world: World) -> None:
    world.rig.names.names["inside.test"] = ["10.0.0.7"]
    for url in ("http://inside.test/", "http://127.0.0.2:8080/", "http://169.254.169.254/latest", "http://[::1]:8400/"):
        with refused("webhook_target_refused", 400):
            world.subscribed(url)
    with refused("webhook_target_unresolved", 400):
        world.subscribed("http://nowhere.test/")
    with receiving() as receiver:
        made = world.subscribed(receiver.url)
        calls = world.platform.as_("deployer").subscriptions
        with refused("webhook_target_refused", 400):
            calls.change(PROJECT, made.subscription.name, ChangeSubscription(url="http://inside.test/"))
        assert calls.get(PROJECT, made.subscription.name).target == receiver.url


def forbidden(world: World, made: SubscriptionWithSecret, number: int) -> None:
    """The first attempt of the delivery with that number, once it is over: 127.0.0.2 was not called."""
    delivery = world.deliveries(made)[number].id
    attempt = until(lambda: world.delivery(delivery).history)[0]
    assert (attempt.outcome, attempt.status_code) == (AttemptOutcome.FORBIDDEN, None)
    assert "loopback" in str(attempt.error)


def test_a_name_that_moves_inside_after_it_was_accepted_is_not_followed(world: World) -> None:
    with receiving() as outside, receiving(address="127.0.0.2", port=outside.port) as inside:
        made = world.subscribed(f"http://{HOST}:{outside.port}/hook")
        world.happens()
        outside.got(1)
        world.rig.names.names[HOST] = ["127.0.0.2"]
        world.happens()
        forbidden(world, made, 1)
        # Mixed answers do not help either.
        world.rig.names.names[HOST] = ["127.0.0.1", "127.0.0.2"]
        world.happens()
        forbidden(world, made, 2)
        assert (len(outside.received), inside.received) == (1, [])
        world.rig.names.names[HOST] = ["127.0.0.1"]
        # The two may have used up their quick attempts; a success of the next one lets them go.
        world.happens()
        world.ended(made, 4)
        assert inside.received == []
        assert len({json.loads(one.body)["id"] for one in outside.received}) == 4


def test_the_name_is_asked_once_for_an_attempt_and_tls_checks_it(world: World) -> None:
    with receiving(tls=world.rig.certificate.server()) as receiver:
        made = world.subscribed(f"https://{HOST}:{receiver.port}/hook?token=t%20x")
        world.rig.names.asked.clear()
        world.happens()
        (one,) = receiver.got(1)
        assert one.verified(made.secret or "")["type"] == "channel.created"
        assert (one.headers["host"], one.path) == (f"{HOST}:{receiver.port}", "/hook?token=t%20x")
        world.ended(made)
        assert sorted(world.rig.names.asked) == [(HOST, "A"), (HOST, "AAAA")], "the connection asked nobody again"
        # The same server under a name that its certificate does not have.
        world.rig.names.names["other.example.test"] = ["127.0.0.1"]
        other = world.subscribed(f"https://other.example.test:{receiver.port}/hook")
        world.happens()
        attempt = world.attempted(other).history[0]
        assert attempt.outcome is AttemptOutcome.UNREACHABLE
        assert "CERTIFICATE_VERIFY_FAILED" in str(attempt.error)
