"""Tags of everything: beside sealed things, audited, by whom they may be set, and shown wherever the thing is."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from lists.world import Tenant
from ringi.approvals.models import ApprovalGrant
from ringi.audit.models import AuditEvent
from ringi.audit.service import read_event
from ringi.jobs.contracts.kinds import JobKind
from ringi.tags.schemas import MAX_TAGS, Taggable
from support.refusals import refused


@pytest.fixture
def things(fresh: Tenant) -> dict[Taggable, tuple[str, str]]:
    """Of every kind that can carry tags one thing: its id, and the list that holds it."""
    risk = "/projects/risk"
    with fresh.sessions.begin() as session:
        base, dataset = fresh.base(session, "tiny"), fresh.dataset(session, "faq")
        adapter = fresh.adapter(session, "bot", base)
        version = fresh.version(session, adapter)
        run, evaluation = fresh.run(session, version, dataset, loss=1.0), fresh.evaluation(session, version, dataset, improvement=0.1)
        suite, channel = fresh.suite(session, "quality"), fresh.channel(session, "production")
        release = fresh.release(session, channel, version, datetime(2025, 10, 1, tzinfo=UTC))
        request = session.scalars(select(ApprovalGrant.request_id).where(ApprovalGrant.id == release.grant_id)).one()
        job = fresh.job(session, JobKind.TRAIN, project_id=fresh.projects["risk"])
        found = {
            Taggable.PROJECT: (fresh.projects["risk"], "/projects"),
            Taggable.DATASET: (dataset.dataset_id, f"{risk}/datasets"),
            Taggable.DATASET_VERSION: (dataset.id, f"{risk}/datasets/faq/versions"),
            Taggable.ADAPTER: (adapter.id, f"{risk}/adapters"),
            Taggable.ADAPTER_VERSION: (version.id, f"{risk}/adapters/bot/versions"),
            Taggable.TRAINING_RUN: (run.id, f"{risk}/adapters/bot/runs"),
            Taggable.EVALUATION: (evaluation.id, f"{risk}/adapters/bot/versions/v1/evaluations"),
            Taggable.SUITE: (suite.suite_id, f"{risk}/suites"),
            Taggable.SUITE_VERSION: (suite.id, f"{risk}/suites/quality/versions"),
            Taggable.APPROVAL_REQUEST: (request, f"{risk}/approvals"),
            Taggable.CHANNEL: (channel.id, f"{risk}/channels"),
            Taggable.RELEASE: (release.id, f"{risk}/releases"),
            Taggable.JOB: (job.id, "/jobs"),
            Taggable.BASE_MODEL: (base.id, "/bases"),
        }
    revision = next(iter(fresh.as_("sys").bases.revisions("tiny")))
    return {kind: (str(one), path) for kind, (one, path) in found.items()} | {
        Taggable.BASE_REVISION: (str(revision.id), "/bases/tiny/revisions")
    }


def test_everything_carries_tags_that_its_list_shows_filters_and_sorts_by(fresh: Tenant, things: dict[Taggable, tuple[str, str]]) -> None:
    assert set(things) == set(Taggable)
    for kind, (object_id, path) in things.items():
        user = "sys" if kind in {Taggable.BASE_MODEL, Taggable.BASE_REVISION} else "aiko"
        answer = httpx_put(fresh, user, f"/tags/{kind.value}/{object_id}/用途", "応答")
        assert answer == (200, "応答"), kind
        for pairs in ([("filter", "tags.用途=応答")], [("filter", "tags.用途~応"), ("sort", "tags.用途")]):
            (item,) = fresh.get(user, path, *pairs).json()["items"]
            assert (item["id"], item["tags"]) == (object_id, {"用途": "応答"}), kind
        assert fresh.found(user, path, ("filter", "tags.用途!=応答"), by="id") == []
        assert object_id not in fresh.found(user, path, ("filter", "!tags.用途"), by="id")


def httpx_put(fresh: Tenant, user: str, path: str, value: str) -> tuple[int, str]:
    import httpx

    answer = httpx.put(f"{fresh.url}/api/v1{path}", json={"value": value}, headers={"Authorization": f"Bearer {fresh.tokens[user]}"})
    return answer.status_code, answer.json().get("value", answer.json().get("code"))


def test_one_thing_shows_its_tags_too_and_a_sealed_version_stays_as_it_is(fresh: Tenant, things: dict[Taggable, tuple[str, str]]) -> None:
    client = fresh.as_("aiko")
    before = client.adapters.version("risk", "bot", "v1")
    client.tags.set(Taggable.ADAPTER_VERSION, before.id, "team", "risk")
    client.tags.set(Taggable.ADAPTER_VERSION, before.id, "reviewed")
    after = client.adapters.version("risk", "bot", "v1")
    assert after.tags == {"reviewed": "", "team": "risk"}
    assert after.model_copy(update={"tags": {}}) == before
    client.tags.set(Taggable.ADAPTER, client.adapters.get("risk", "bot").id, "kind", "応答")
    assert client.adapters.get("risk", "bot").tags == {"kind": "応答"}
    client.tags.set(Taggable.PROJECT, client.identity.project("risk").id, "cost", "4711")
    assert client.identity.project("risk").tags == {"cost": "4711"}


def test_setting_replaces_removing_ends_and_the_log_holds_every_change_but_no_text(
    fresh: Tenant, things: dict[Taggable, tuple[str, str]]
) -> None:
    tags = fresh.as_("aiko").tags
    version = fresh.as_("aiko").adapters.version("risk", "bot", "v1").id
    for value in ("risk", "risk", "与信"):
        assert tags.set(Taggable.ADAPTER_VERSION, version, "team", value).value == value
    assert [(one.key, one.value) for one in tags.of(Taggable.ADAPTER_VERSION, version).tags] == [("team", "与信")]
    removed = tags.remove(Taggable.ADAPTER_VERSION, version, "team")
    assert (removed.key, removed.value, removed.set_by) == ("team", "与信", fresh.people["aiko"])
    with refused("not_found", 404):
        tags.remove(Taggable.ADAPTER_VERSION, version, "team")
    with fresh.sessions() as session:
        rows = session.scalars(select(AuditEvent).where(AuditEvent.object_id == str(version)).order_by(AuditEvent.id)).all()
        events = [read_event(row) for row in rows]
    # The second of two equal values changed nothing, and so is no event.
    assert [(event.action.value, event.details) for event in events] == [("tag.set", {"key": "team"})] * 2 + [
        ("tag.remove", {"key": "team"})
    ]
    assert all(event.object.type == "adapter_version" and event.project == str(fresh.projects["risk"]) for event in events)
    assert all("与信".encode() not in row.body for row in rows)
    trail = fresh.as_("vera").audit.trail("risk", "bot", filter=["action=tag.remove"])
    assert [one.actor for one in trail] == ["aiko"]


def test_a_tag_is_changed_as_it_was_read_or_not_at_all(fresh: Tenant, things: dict[Taggable, tuple[str, str]]) -> None:
    calls, project = fresh.as_("aiko").tags, fresh.projects["risk"]
    seen = calls.set(Taggable.PROJECT, project, "team", "risk")
    assert calls.set(Taggable.PROJECT, project, "team", "risk").row_version == seen.row_version, "the same value is no change"
    moved = calls.set(Taggable.PROJECT, project, "team", "与信", if_match=str(seen.row_version))
    assert moved.row_version == seen.row_version + 1
    with refused("precondition_failed", 412):
        calls.set(Taggable.PROJECT, project, "team", "sales", if_match=str(seen.row_version))
    with refused("precondition_failed", 412):
        calls.remove(Taggable.PROJECT, project, "team", if_match=str(seen.row_version))
    with refused("precondition_failed", 412):
        calls.set(Taggable.PROJECT, project, "absent", "x", if_match="1")
    assert [(one.key, one.value) for one in calls.of(Taggable.PROJECT, project).tags] == [("team", "与信")]
    calls.remove(Taggable.PROJECT, project, "team", if_match=str(moved.row_version))


def test_who_only_looks_sets_nothing_and_what_all_share_needs_more(fresh: Tenant, things: dict[Taggable, tuple[str, str]]) -> None:
    adapter, base = fresh.as_("vera").adapters.get("risk", "bot").id, fresh.as_("aiko").bases.get("tiny").id
    for user in ("vera", "otto"):
        with refused("forbidden", 403):
            fresh.as_(user).tags.set(Taggable.ADAPTER, adapter, "team", "x")
        assert fresh.as_(user).tags.of(Taggable.ADAPTER, adapter).tags == []
    with refused("forbidden", 403):
        fresh.as_("aiko").tags.set(Taggable.BASE_MODEL, base, "team", "x")
    fresh.as_("sys").tags.set(Taggable.BASE_MODEL, base, "team", "x")
    assert fresh.as_("aiko").bases.get("tiny").tags == {"team": "x"}
    # A role in one project gives no right in another.
    with fresh.sessions.begin() as session:
        hidden = fresh.channel(session, "hidden", project="secret").id
    fresh.as_("dana").tags.set(Taggable.CHANNEL, fresh.as_("dana").releases.channels("risk").__next__().id, "on-call", "dana")
    with refused("not_found", 404):
        fresh.as_("dana").tags.set(Taggable.CHANNEL, hidden, "on-call", "dana")


def test_a_thing_carries_so_many_tags_and_no_more(fresh: Tenant, things: dict[Taggable, tuple[str, str]]) -> None:
    tags, adapter = fresh.as_("aiko").tags, fresh.as_("aiko").adapters.get("risk", "bot").id
    for number in range(MAX_TAGS):
        tags.set(Taggable.ADAPTER, adapter, f"key-{number}", "x")
    with refused("too_many_tags", 409):
        tags.set(Taggable.ADAPTER, adapter, "one-more", "x")
    assert tags.set(Taggable.ADAPTER, adapter, "key-0", "y").value == "y"
