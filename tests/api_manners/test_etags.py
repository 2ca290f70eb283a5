"""`ETag`, `If-None-Match` and `If-Match`: what was read is what is changed, or it is not changed."""

from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from ringi.adapters.schemas import VersionState
from ringi.approvals.schemas import VoteDecision
from ringi.identity.schemas import Role
from ringi.jobs.schemas import JobState
from ringi.storage.blobs import store_at
from support.at_once import at_once, codes, every
from support.own_api import store_url
from support.refusals import refused
from support.running_platform import PROJECT, Platform
from support.story import ADAPTER, BASE, Ground, approved, environment_name, published, registered, signed

REASON = {"reason": "これ以上使わないため終了する"}


def read(platform: Platform, user: str, path: str, **headers: str) -> httpx.Response:
    return platform.call(user, "GET", path, headers=headers)


def singles(platform: Platform) -> dict[str, str]:
    """A path of every kind of single thing, and who may read it."""
    admin = platform.as_("admin")
    platform.as_("contributor").datasets.create(PROJECT, "faq")
    admin.bases.create("tiny")
    platform.as_("contributor").adapters.create(PROJECT, "bot", base="tiny")
    platform.as_("deployer").releases.create_channel(PROJECT, "live", environment="production")
    token, membership = next(admin.identity.tokens()), next(admin.identity.memberships())
    return {
        f"/projects/{PROJECT}": "viewer",
        "/users/viewer": "admin",
        f"/tokens/{token.id}": "admin",
        f"/memberships/{membership.id}": "admin",
        f"/projects/{PROJECT}/datasets/faq": "viewer",
        "/bases/tiny": "viewer",
        f"/projects/{PROJECT}/adapters/bot": "viewer",
        f"/projects/{PROJECT}/channels/live": "viewer",
        f"/projects/{PROJECT}/policies/production": "viewer",
    }


def test_every_single_thing_has_a_strong_tag_that_saves_reading_it_again(platform: Platform) -> None:
    for path, user in singles(platform).items():
        first = read(platform, user, path)
        tag, version = first.headers["ETag"], first.json()["row_version"]
        assert tag.startswith(f'"{version}-'), path
        for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            again = read(platform, user, path, **{"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag), (path, known)
        assert read(platform, user, path, **{"If-None-Match": '"other"'}).json() == first.json()
        assert read(platform, user, path, **{"If-Match": tag}).status_code == 200
        assert read(platform, user, path, **{"If-Match": '"other"'}).status_code == 412


def test_a_tag_changes_with_what_is_shown(platform: Platform) -> None:
    path = f"/projects/{PROJECT}/channels/live"
    platform.as_("deployer").releases.create_channel(PROJECT, "live", environment="production")
    listed = f"/projects/{PROJECT}/channels"
    before = read(platform, "viewer", listed).headers["ETag"]
    assert read(platform, "viewer", path).headers["ETag"] == read(platform, "viewer", path).headers["ETag"]
    platform.as_("deployer").releases.create_channel(PROJECT, "second", environment="production")
    after = read(platform, "viewer", listed, **{"If-None-Match": before})
    assert (after.status_code, len(after.json()["items"])) == (200, 2)


def test_a_change_goes_through_when_the_thing_is_what_was_read(platform: Platform) -> None:
    admin = platform.as_("admin").identity
    one, two, three = (admin.issue_token("viewer").details for _ in range(3))
    etag = read(platform, "admin", f"/tokens/{one.id}").headers["ETag"]
    ended = platform.call("admin", "DELETE", f"/tokens/{one.id}", headers={"If-Match": f'"old", {etag}'})
    assert (ended.status_code, ended.json()["row_version"]) == (200, one.row_version + 1)
    assert admin.revoke_token(two.id, if_match=str(two.row_version)).revoked_at is not None
    assert platform.call("admin", "DELETE", f"/tokens/{three.id}", headers={"If-Match": "*"}).status_code == 200


def test_use_of_a_token_is_no_change_of_it(platform: Platform) -> None:
    viewer = next(one for one in platform.as_("admin").identity.tokens() if one.user == "viewer")
    platform.as_("viewer").identity.whoami()
    used = platform.call("admin", "GET", f"/tokens/{viewer.id}").json()
    assert (used["last_used_at"] is not None, used["row_version"]) == (True, viewer.row_version)


@pytest.mark.parametrize("tag", ['"99"', '"99-abc"', 'W/"1"', '""'])
def test_a_change_is_refused_when_the_thing_is_another_by_now(platform: Platform, tag: str) -> None:
    token = platform.as_("admin").identity.issue_token("viewer").details
    answer = platform.call("admin", "DELETE", f"/tokens/{token.id}", headers={"If-Match": tag})
    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert answer.json()["details"] == {"row_version": token.row_version}
    assert platform.call("admin", "GET", f"/tokens/{token.id}").json()["revoked_at"] is None


@pytest.mark.parametrize("tag", ["7", "", "x y", '"a" "b"', "*, *"])
def test_what_is_no_list_of_tags_is_refused(platform: Platform, tag: str) -> None:
    token = platform.as_("admin").identity.issue_token("viewer").details
    answer = platform.call("admin", "DELETE", f"/tokens/{token.id}", headers={"If-Match": tag})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_precondition")


def test_a_route_that_could_not_honour_if_match_says_so(platform: Platform) -> None:
    answer = platform.call("contributor", "POST", f"/projects/{PROJECT}/datasets", json={"name": "x"}, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.json()["code"]) == (400, "precondition_not_supported")
    assert list(platform.as_("contributor").datasets.all(PROJECT)) == []


def test_a_repeated_change_gets_its_answer_although_its_precondition_no_longer_holds(platform: Platform) -> None:
    token = platform.as_("admin").identity.issue_token("viewer").details
    headers = {"If-Match": f'"{token.row_version}"', "Idempotency-Key": str(uuid4())}
    first, again = (platform.call("admin", "DELETE", f"/tokens/{token.id}", headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code, again.content) == (200, 200, first.content)


def test_of_two_policies_written_on_the_same_reading_one_is_set(platform: Platform) -> None:
    platform.add_user("policy", Role.POLICY_ADMIN, project=None)
    seen = platform.as_("policy").approvals.policy(PROJECT, "production")
    results = at_once(
        platform,
        *(("policy", lambda client: client.approvals.set_policy(PROJECT, seen.document, if_match=str(seen.row_version))) for _ in range(4)),
    )
    assert codes(results) == ["done", "precondition_failed", "precondition_failed", "precondition_failed"]
    assert platform.as_("policy").approvals.policy(PROJECT, "production").row_version == seen.row_version + 1


def test_a_role_is_ended_by_one_of_many_on_the_same_reading(platform: Platform) -> None:
    held = platform.as_("admin").identity.grant_role("viewer", Role.EVALUATOR, project=PROJECT)
    path, headers = f"/memberships/{held.id}", {"If-Match": f'"{held.row_version}"'}
    answers = every(6, lambda: platform.call("admin", "DELETE", path, headers=headers).status_code)
    # The others find it changed, or, when they came later, not there any more.
    assert answers.count(200) == 1
    assert set(answers) <= {200, 404, 412}


def test_a_job_is_cancelled_as_it_was_read(ground: Ground) -> None:
    platform = ground.platform
    ended = next(platform.as_("contributor").jobs.all(state=JobState.SUCCEEDED))
    with refused("precondition_failed", 412):
        platform.as_("contributor").jobs.cancel(ended.id, if_match="1")
    with refused("job_ended", 409):
        platform.as_("contributor").jobs.cancel(ended.id, if_match=str(ended.row_version))


def test_a_vote_and_a_withdrawal_are_guarded(ground: Ground) -> None:
    platform, environment = ground.platform, environment_name()
    approvals = platform.as_("contributor").approvals
    opened = approvals.request(PROJECT, ADAPTER, "v1", environment=environment)
    voter = platform.as_("reviewer").approvals
    seen = voter.vote(PROJECT, opened, decision=VoteDecision.ACKNOWLEDGE, reason="確認しました、内容は妥当です")
    assert seen.row_version > opened.row_version
    with refused("precondition_failed", 412):
        voter.vote(PROJECT, opened, decision=VoteDecision.APPROVE, reason="approved on an old reading", if_match=str(opened.row_version))
    assert approvals.get(PROJECT, opened.id).votes == seen.votes
    with refused("precondition_failed", 412):
        approvals.withdraw(PROJECT, opened.id, reason="withdrawn on an old reading", if_match=str(opened.row_version))
    approvals.withdraw(PROJECT, opened.id, reason="withdrawn as it stands now", if_match=str(seen.row_version))


def test_a_version_of_an_adapter_is_deprecated_as_it_was_read(ground: Ground, tmp_path: Path) -> None:
    platform, name = ground.platform, f"own-{uuid4().hex[:8]}"
    adapters, store = platform.as_("contributor").adapters, store_at(store_url(platform))
    for file in adapters.version(PROJECT, ADAPTER, "v1").files:
        (tmp_path / file.path).write_bytes(b"".join(store.open(file.digest)))
    adapters.create(PROJECT, name, base=BASE)
    version = registered(platform, tmp_path, name)
    for tag in ("99", str(version.row_version + 1)):
        with refused("precondition_failed", 412):
            adapters.advance(PROJECT, name, "v1", to=VersionState.DEPRECATED, reason="on another reading", if_match=tag)
    assert adapters.version(PROJECT, name, "v1") == version
    moved = adapters.advance(PROJECT, name, "v1", to=VersionState.DEPRECATED, reason="on this reading", if_match=str(version.row_version))
    assert (moved.state, moved.row_version) == (VersionState.DEPRECATED, version.row_version + 1)
    with refused("precondition_failed", 412):
        adapters.advance(PROJECT, name, "v1", to=VersionState.RETIRED, reason="on an old reading", if_match=str(version.row_version))


def test_a_channel_is_moved_by_one_of_two_who_saw_the_same(ground: Ground) -> None:
    platform, environment = ground.platform, environment_name()
    releases = platform.as_("deployer").releases
    releases.create_channel(PROJECT, environment, environment=environment)
    for version in ("v1", "v2"):
        approved(platform, version, environment=environment)
        signed(platform, version, channel=environment)
    seen = releases.channel(PROJECT, environment)
    results = at_once(
        platform,
        *(
            (
                "deployer",
                lambda client, version=version: client.releases.publish(
                    PROJECT, ADAPTER, version=version, channel=environment, reason="two at the same moment", if_match=str(seen.row_version)
                ),
            )
            for version in ("v1", "v2")
        ),
    )
    assert codes(results) == ["done", "precondition_failed"]
    moved = releases.channel(PROJECT, environment)
    assert (len(moved.live), moved.row_version) == (1, seen.row_version + 1)
    with refused("precondition_failed", 412):
        releases.roll_back(PROJECT, ADAPTER, channel=environment, to="v1", reason="on an old reading", if_match=str(seen.row_version))
    other = "v2" if moved.live[0].version.endswith(":v1") else "v1"
    published(platform, other, channel=environment)
    assert releases.channel(PROJECT, environment).row_version == moved.row_version + 1
