"""The life of an adapter as its events tell it, on the running platform; and a subscription's place among roles and tenants."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from safetensors.numpy import load_file, save_file

from ringi.adapters.schemas import VersionState
from ringi.approvals.schemas import VoteDecision
from ringi.cli.calls.events import SubscriptionCalls
from ringi.cli.client import RingiClient
from ringi.events.schemas import ChangeSubscription, CreateSubscription, EventOut
from ringi.storage.blobs import store_at
from support.base_variants import perturb
from support.own_api import store_url
from support.refusals import refused
from support.running_platform import PROJECT, Platform, Processes, new_organization
from support.story import (
    ADAPTER,
    PLAN,
    Sources,
    approved,
    environment_name,
    evaluated,
    prepared,
    published,
    registered,
    registered_base,
    trained,
)
from support.waiting import until

pytestmark = pytest.mark.long


def told(platform: Platform, type_: str) -> list[EventOut]:
    """Oldest first."""
    return list(platform.as_("viewer").events.all(PROJECT, type_=type_))[::-1]


def stronger(platform: Platform, folder: Path) -> Path:
    """The files of v1 as someone else would have them, the weights a little larger."""
    store = store_at(store_url(platform))
    for file in platform.as_("contributor").adapters.version(PROJECT, ADAPTER, "v1").files:
        (folder / file.path).write_bytes(b"".join(store.open(file.digest)))
    weights = folder / "adapter_model.safetensors"
    save_file({name: tensor * 1.01 for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def story(shared_platform: Processes, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Two versions, one trained and one registered; the first released, replaced by the second and rolled back to; the second revoked in the end."""
    with new_organization(shared_platform) as platform:
        prepared(platform, sources)
        releases = platform.as_("deployer").releases
        releases.create_channel(PROJECT, "production", environment="production")
        makers: dict[str, Callable[[], object]] = {
            "v1": lambda: trained(platform),
            "v2": lambda: registered(platform, stronger(platform, tmp_path_factory.mktemp("elsewhere"))),
        }
        for version, make in makers.items():
            make()
            evaluated(platform, version)
            approved(platform, version)
            published(platform, version)
        releases.roll_back(PROJECT, ADAPTER, channel="production", reason="苦情が増えたため前の版に戻す")
        platform.as_("incident_commander").adapters.advance(PROJECT, ADAPTER, "v2", to=VersionState.REVOKED, reason="個人情報が漏れるため")
        yield platform


def test_the_life_of_an_adapter_is_told_in_its_order(story: Platform) -> None:
    types = [one.type for one in told(story, "*")]
    # The story ends with the revocation; what other tests made happen since is theirs.
    types = types[: types.index("adapter.version.revoked") + 1]
    expected = [
        "base.created", "base.revision.registered", "base.revision.sealed", "dataset.created", "dataset.version.sealed", "adapter.created",
        "channel.created",
        "training.run.started", "adapter.version.sealed", "training.run.succeeded", "evaluation.requested", "evaluation.completed",
        "approval.policy.set", "approval.requested", "approval.voted", "approval.granted", "release.published",
        "adapter.version.sealed", "evaluation.requested", "evaluation.completed",
        "approval.requested", "approval.voted", "approval.granted", "release.published", "release.rolled_back", "adapter.version.revoked",
    ]  # fmt: skip
    assert types == expected


def test_an_event_names_things_as_people_do_and_by_digest(story: Platform) -> None:
    sealed = told(story, "adapter.version.sealed")
    assert [one.data["version"] for one in sealed] == [f"{PROJECT}/{ADAPTER}:v1", f"{PROJECT}/{ADAPTER}:v2"]
    assert [one.data["source"] for one in sealed] == ["trained", "registered"]
    back = told(story, "release.rolled_back")[0].data
    assert (back["version"], back["sequence"], back["reason"]) == (f"{PROJECT}/{ADAPTER}:v1", 3, "苦情が増えたため前の版に戻す")
    assert back["manifest_digest"] == sealed[0].data["manifest_digest"]
    assert back["previous_version_id"] == sealed[1].data["version_id"]
    revoked = told(story, "adapter.version.revoked")[0]
    assert (revoked.data["reason"], revoked.project) == ("個人情報が漏れるため", PROJECT)
    base = told(story, "base.revision.sealed")[0]
    assert (base.data["revision"], base.project) == ("tiny:r1", None)
    assert story.as_("viewer").events.get(PROJECT, revoked.id) == revoked


def test_votes_against_withdrawals_and_refused_releases_are_told(story: Platform) -> None:
    approvals = story.as_("contributor").approvals
    against = approvals.request(PROJECT, ADAPTER, "v1", environment=environment_name())
    story.as_("reviewer").approvals.vote(PROJECT, against, decision=VoteDecision.REJECT, reason="根拠が足りないため却下する")
    back = approvals.request(PROJECT, ADAPTER, "v1", environment=environment_name())
    approvals.withdraw(PROJECT, back.id, reason="別の版を出すため取り下げる")
    (refusal,) = told(story, "approval.refused")
    assert (refusal.data["request_id"], refusal.data["outcome"]) == (str(against.id), "rejected")
    assert [one.data["request_id"] for one in told(story, "approval.withdrawn")] == [str(back.id)]
    with refused("release_refused", 409):
        story.as_("deployer").releases.publish(PROJECT, ADAPTER, version="v2", channel="production", reason="もう一度出してみる理由")
    (stopped,) = told(story, "release.refused")
    assert "release_gate_state" in stopped.data["codes"]


def test_the_list_is_paged_filtered_and_refuses_another_lists_cursor(story: Platform) -> None:
    first = story.call("viewer", "GET", f"/projects/{PROJECT}/events", params={"limit": 5}).json()
    second = story.call("viewer", "GET", f"/projects/{PROJECT}/events", params={"limit": 5, "cursor": first["next_cursor"]}).json()
    ids = [one["id"] for one in first["items"] + second["items"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 10
    assert {one.type for one in told(story, "approval.*")} >= {"approval.requested", "approval.granted", "approval.policy.set"}
    assert {one.type for one in told(story, "training.run.*")} == {"training.run.started", "training.run.succeeded"}
    for query, code in (({"type": "Release"}, "malformed_request"), ({"cursor": "bm8"}, "invalid_cursor")):
        assert story.call("viewer", "GET", f"/projects/{PROJECT}/events", params=query).json()["code"] == code
    with refused("not_found", 404):
        story.as_("viewer").events.get(PROJECT, uuid4())


def test_a_newer_base_is_told_with_what_it_means_for_what_is_served(story: Platform, sources: Sources, tmp_path: Path) -> None:
    registered_base(story, perturb(sources.base, tmp_path / "r2", 0.01, seed=7))
    (assessed,) = until(lambda: told(story, "compatibility.assessed"), timeout_s=60)
    assert (assessed.data["version"], assessed.data["base_revision"]) == (f"{PROJECT}/{ADAPTER}:v1", "tiny:r2")
    assert assessed.data["action"] != "keep"
    (stale,) = told(story, "channel.stale_base")
    assert (stale.data["channel"], stale.data["version"]) == ("production", assessed.data["version"])
    assert (stale.data["verdict"], stale.data["action"]) == (assessed.data["verdict"], assessed.data["action"])


def test_a_cancelled_run_is_told(story: Platform) -> None:
    contributor = story.as_("contributor")
    run = contributor.training.start(PROJECT, ADAPTER, dataset="faq", plan=PLAN.model_copy(update={"max_steps": 3000, "seed": 5}))
    contributor.jobs.cancel(run.job_id)
    story.ended(run.job_id)
    cancelled = until(lambda: told(story, "training.run.cancelled"))
    assert [(one.data["run_id"], one.data["job_id"]) for one in cancelled] == [(str(run.id), str(run.job_id))]
    assert str(run.job_id) in [one.data["job_id"] for one in told(story, "job.cancelled")]


def a_subscription(name: str = "ops", **more: object) -> CreateSubscription:
    return CreateSubscription.model_validate(
        {"name": name, "url": "https://93.184.215.14/hook/secret-token", "event_types": ["release.*"]} | more
    )


def test_who_may_keep_subscriptions_and_what_others_see_of_them(platform: Platform) -> None:
    for user in ("contributor", "reviewer", "viewer", "auditor", "incident_commander"):
        with refused("forbidden", 403):
            platform.as_(user).subscriptions.create(PROJECT, a_subscription())
    keeper = platform.as_("deployer").subscriptions
    made = keeper.create(PROJECT, a_subscription(description="運用チーム"))
    assert made.subscription.target.endswith("secret-token")
    assert (made.secret or "").startswith("whsec_")
    seen = platform.as_("viewer").subscriptions.get(PROJECT, "ops")
    assert (seen.target, seen.description) == ("93.184.215.14/…", "運用チーム")
    delivery = keeper.test(PROJECT, "ops")
    forbidden: list[Callable[[SubscriptionCalls], object]] = [
        lambda calls: calls.change(PROJECT, "ops", ChangeSubscription(event_types=["*"])), lambda calls: calls.disable(PROJECT, "ops"),
        lambda calls: calls.rotate_secret(PROJECT, "ops"), lambda calls: calls.test(PROJECT, "ops"), lambda calls: calls.delete(PROJECT, "ops"),
        lambda calls: calls.replay_delivery(PROJECT, delivery.id),
    ]  # fmt: skip
    for call in forbidden:
        with refused("forbidden", 403):
            call(platform.as_("viewer").subscriptions)
    keeper.disable(PROJECT, "ops")
    assert not keeper.get(PROJECT, "ops").enabled
    assert [one.action for one in platform.as_("auditor").audit.events(object_id=str(made.subscription.id))][::-1] == [
        "subscription.create", "subscription.test", "subscription.disable",
    ]  # fmt: skip


def test_another_organisation_sees_neither_events_nor_subscriptions(platform: Platform, shared_platform: Processes) -> None:
    platform.as_("deployer").releases.create_channel(PROJECT, "ours", environment="production")
    platform.as_("deployer").subscriptions.create(PROJECT, a_subscription())
    delivery = platform.as_("deployer").subscriptions.test(PROJECT, "ops")
    with new_organization(shared_platform) as other:
        assert told(other, "channel.created") == []
        with refused("not_found", 404):
            other.as_("deployer").subscriptions.get(PROJECT, "ops")
        with refused("not_found", 404):
            other.as_("deployer").subscriptions.delivery(PROJECT, delivery.id)
        with refused("not_found", 404):
            other.as_("viewer").events.get(PROJECT, delivery.event_id)
    with RingiClient(platform.server, None) as nobody, refused("unauthenticated", 401):
        list(nobody.events.all(PROJECT))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"event_types": []}, "malformed_request"), ({"event_types": ["Release"]}, "malformed_request"), ({"event_types": ["nothing.*"]}, "event_type_unknown"),
        ({"event_types": ["release.published", "release.publish"]}, "event_type_unknown"), ({"email": "a@example.com"}, "malformed_request"),
        ({"url": "javascript:alert(1)"}, "malformed_request"), ({"url": None}, "malformed_request"), ({"secret": "whsec_mine"}, "malformed_request"),
        ({"url": "https://10.0.0.1/"}, "webhook_target_refused"), ({"url": "https://93.184.215.14:22/"}, "webhook_target_refused"),
        ({"channel": "email", "url": None, "email": "ops@example.com"}, "email_not_configured"),
    ],
)  # fmt: skip
def test_a_subscription_that_could_never_work_is_refused_at_once(platform: Platform, change: dict[str, object], code: str) -> None:
    body = {"name": "ops", "url": "https://93.184.215.14/", "event_types": ["*"]} | change
    answer = platform.call("deployer", "POST", f"/projects/{PROJECT}/subscriptions", json=body)
    assert answer.json()["code"] == code
    assert list(platform.as_("viewer").subscriptions.all(PROJECT)) == []


def test_a_name_is_taken_once_and_there_are_not_endlessly_many(platform: Platform) -> None:
    keeper = platform.as_("deployer").subscriptions
    keeper.create(PROJECT, a_subscription())
    with refused("subscription_exists", 409):
        keeper.create(PROJECT, a_subscription())
    for number in range(49):
        keeper.create(PROJECT, a_subscription(f"ops-{number}"))
    with refused("subscription_limit", 409):
        keeper.create(PROJECT, a_subscription("one-more"))
    assert len(list(keeper.all(PROJECT))) == 50


def test_the_catalogue_is_answered_with_its_schemas(platform: Platform) -> None:
    types = {one.type: one for one in platform.as_("viewer").events.types()}
    assert types["release.published"].title == "リリースされました"
    assert "manifest_digest" in types["release.published"].json_schema["properties"]
