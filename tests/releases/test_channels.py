"""Channels through the API: the gates with their reasons, one winner of a race, and what revocation does."""

from uuid import uuid4

import pytest

from ringi.adapters.schemas import VersionState
from ringi.releases.schemas import ReleaseOut
from support.at_once import Turn, at_once, codes
from support.refusals import refused
from support.running_platform import PROJECT, Platform
from support.story import ADAPTER, PLAN, Ground, Sources, approved, environment_name, evaluated, prepared, published, signed, trained

REASON = "released by a test of channels"


@pytest.fixture
def channel(ground: Ground) -> str:
    """A channel of its own whose environment has approved v1 and v2."""
    name = f"channel-{uuid4().hex[:8]}"
    ground.platform.as_("deployer").releases.create_channel(PROJECT, name, environment=name)
    for version in ("v1", "v2"):
        approved(ground.platform, version, environment=name)
    for version in ("v1", "v2"):
        signed(ground.platform, version, channel=name)
    return name


def live(platform: Platform, channel: str) -> list[str]:
    return [one.version.rpartition(":")[2] for one in platform.as_("viewer").releases.channel(PROJECT, channel).live]


def test_every_gate_that_fails_is_named_and_the_channel_stays_as_it_was(ground: Ground) -> None:
    deployer, name = ground.platform.as_("deployer"), f"channel-{uuid4().hex[:8]}"
    deployer.releases.create_channel(PROJECT, name, environment=name)
    with refused("channel_exists", 409):
        deployer.releases.create_channel(PROJECT, name, environment="other")
    with refused("release_refused", 409) as why:
        deployer.releases.publish(PROJECT, ADAPTER, version="v1", channel=name, reason=REASON)
    assert why.codes == {"release_gate_approved", "release_gate_unexpired", "release_gate_logged"}
    assert f"is not approved for '{name}'" in why.message
    assert live(ground.platform, name) == []
    gates = deployer.releases.standing(PROJECT, ADAPTER, "v1").gates[name]
    assert {gate.code for gate in gates if not gate.passed} == why.codes
    assert [gate.number for gate in gates] == [1, 2, 3, 4, 5, 6]
    refusals = ground.platform.logged("release.refuse", channel=name)
    assert [(one.actor, one.outcome) for one in refusals] == [("deployer", "denied")]


def test_an_approval_for_one_environment_is_none_for_another(ground: Ground, channel: str) -> None:
    deployer, other = ground.platform.as_("deployer"), f"{channel}-2"
    deployer.releases.create_channel(PROJECT, other, environment=environment_name())
    with refused("release_refused", 409) as why:
        deployer.releases.publish(PROJECT, ADAPTER, version="v1", channel=other, reason=REASON)
    assert "release_gate_approved" in why.codes


def test_the_same_version_is_not_released_twice_and_a_rollback_needs_a_past(ground: Ground, channel: str) -> None:
    deployer = ground.platform.as_("deployer")
    published(ground.platform, "v1", channel=channel)
    with refused("release_already_live", 409):
        deployer.releases.publish(PROJECT, ADAPTER, version="v1", channel=channel, reason=REASON)
    with refused("release_nothing_to_roll_back_to", 409):
        deployer.releases.roll_back(PROJECT, ADAPTER, channel=channel, reason=REASON)
    assert live(ground.platform, channel) == ["v1"]


def test_contributors_reviewers_and_viewers_cannot_release(ground: Ground, channel: str) -> None:
    for user in ("contributor", "reviewer", "viewer", "auditor"):
        with refused("forbidden", 403):
            ground.platform.as_(user).releases.publish(PROJECT, ADAPTER, version="v1", channel=channel, reason=REASON)
    assert live(ground.platform, channel) == []


@pytest.mark.parametrize("versions", [("v1", "v1"), ("v1", "v2")])
def test_two_releases_at_once_leave_one_history_without_gaps(ground: Ground, channel: str, versions: tuple[str, str]) -> None:
    platform = ground.platform

    def turn(version: str) -> Turn[ReleaseOut]:
        return "deployer", lambda c: c.releases.publish(PROJECT, ADAPTER, version=version, channel=channel, reason=REASON)

    results = at_once(platform, *map(turn, versions))
    done = codes(results).count("done")
    assert set(codes(results)) <= {"done", "channel_moved", "release_already_live"}
    assert done >= 1
    assert done == 1 or versions[0] != versions[1]
    history = list(platform.as_("viewer").releases.history(PROJECT, ADAPTER, channel=channel))
    assert [one.sequence for one in history] == list(range(done, 0, -1))
    assert live(platform, channel) == [history[0].version.rpartition(":")[2]]


def test_a_revoked_version_can_neither_be_released_nor_rolled_back_to(platform: Platform, sources: Sources) -> None:
    prepared(platform, sources)
    releases = platform.as_("deployer").releases
    releases.create_channel(PROJECT, "production", environment="production")
    for seed, version in enumerate(("v1", "v2")):
        # The same seed would give the same bytes, and so the same version.
        trained(platform, plan=PLAN.model_copy(update={"seed": seed}))
        evaluated(platform, version)
        approved(platform, version)
        published(platform, version)
    with refused("forbidden", 403):
        platform.as_("contributor").adapters.advance(PROJECT, ADAPTER, "v1", to=VersionState.REVOKED, reason="it leaks addresses")
    commander = platform.as_("incident_commander").adapters
    revoked = commander.advance(PROJECT, ADAPTER, "v1", to=VersionState.REVOKED, reason="it leaks addresses")
    assert (revoked.state, revoked.state_reason) == (VersionState.REVOKED, "it leaks addresses")
    with refused("release_refused", 409) as back:
        releases.roll_back(PROJECT, ADAPTER, channel="production", reason=REASON)
    with refused("release_refused", 409) as forth:
        releases.publish(PROJECT, ADAPTER, version="v1", channel="production", reason=REASON)
    assert "release_gate_state" in back.codes & forth.codes
    assert live(platform, "production") == ["v2"]
    for to in (VersionState.DEPRECATED, VersionState.RETIRED):
        with refused("version_state_conflict", 409):
            platform.as_("contributor").adapters.advance(PROJECT, ADAPTER, "v1", to=to, reason="this one is done with")
    with refused("version_unusable", 409):
        platform.as_("contributor").approvals.request(PROJECT, ADAPTER, "v1", environment="staging")
