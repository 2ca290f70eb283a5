"""Tokens that are good from some networks only: refused from elsewhere, with an entry in the log, and never a way to a wider one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from pydantic import ValidationError

from ringi.cli.client import RingiClient
from ringi.identity.addresses import narrows
from ringi.identity.schemas import IssueToken
from support.refusals import refused
from support.running_platform import Platform, Processes, new_organization

Shown = Callable[[str], RingiClient]
HERE, ELSEWHERE = "127.0.0.0/8", "10.1.2.0/24"


@pytest.fixture(scope="module")
def platform(shared_platform: Processes) -> Iterator[Platform]:
    """One organisation for all of these tests."""
    with new_organization(shared_platform) as made:
        made.as_("admin").identity.create_user("serving")
        yield made


@pytest.fixture
def shown(platform: Platform) -> Iterator[Shown]:
    """A client that shows a token."""
    with ExitStack() as clients:
        yield lambda token: clients.enter_context(RingiClient(platform.server, token))


def test_a_token_is_good_from_its_networks_alone_and_a_try_from_elsewhere_is_in_the_log(platform: Platform, shown: Shown) -> None:
    identity = platform.as_("admin").identity
    here = identity.issue_token("serving", networks=[HERE, ELSEWHERE])
    assert here.details.networks == [HERE, ELSEWHERE]
    assert shown(here.token).identity.whoami().name == "serving"
    elsewhere = identity.issue_token("serving", networks=[ELSEWHERE, "2001:db8::/32"])
    with refused("wrong_address", 401) as caught:
        shown(elsewhere.token).identity.whoami()
    assert caught.details["reason"] == "address"
    newest = platform.logged("authentication.refuse")[0]
    assert newest.object_id == str(elsewhere.details.id)
    assert (newest.details or {})["reason"] == "address"


def test_a_token_without_networks_is_good_from_everywhere(platform: Platform, shown: Shown) -> None:
    issued = platform.as_("admin").identity.issue_token("serving")
    assert issued.details.networks is None
    assert shown(issued.token).identity.whoami().name == "serving"


@pytest.mark.parametrize("wanted", [None, ["0.0.0.0/0"], ["::/0"], ["126.0.0.0/7"]])
def test_a_narrow_token_makes_no_wider_one(platform: Platform, shown: Shown, wanted: list[str] | None) -> None:
    mine = platform.as_("admin").identity.issue_token("admin", networks=[HERE])
    with refused("wider_token", 403):
        shown(mine.token).identity.issue_token("serving", networks=wanted)
    narrower = shown(mine.token).identity.issue_token("serving", networks=["127.0.0.1/32"])
    assert narrower.details.networks == ["127.0.0.1/32"]


@pytest.mark.parametrize("text", ["10.1.2.3/24", "10.1.2.0/33", "everywhere", "", "::ffff:10.1.2.0/120", "10.1.2.0/24 "])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        IssueToken(networks=[text])


def test_one_address_is_a_network_of_one() -> None:
    assert IssueToken(networks=["10.1.2.3", "2001:DB8::1"]).networks == ["10.1.2.3/32", "2001:db8::1/128"]


def test_networks_of_both_families_are_compared_within_their_own() -> None:
    assert narrows(["10.1.2.0/25"], ["2001:db8::/32", ELSEWHERE])
    assert not narrows(["10.1.2.0/23"], [ELSEWHERE])
    assert not narrows(["2001:db8::/32"], ["0.0.0.0/0"])
    assert narrows(None, None)


def test_the_command_line_binds_a_token_to_networks(platform: Platform) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from ringi.cli.main import run; run()", "tokens", "issue", "serving", "--network", HERE, "--network", ELSEWHERE, "--json"],
        capture_output=True, text=True, encoding="utf-8", check=True,
        env={**os.environ, "RINGI_SERVER": platform.server, "RINGI_TOKEN": platform.tokens["admin"], "HOME": "/nonexistent"},
    )  # fmt: skip
    assert f'"{ELSEWHERE}"' in done.stdout
