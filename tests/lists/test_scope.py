"""What a caller may not see does not leak through filters, orders, searches, counts, cursors or tags."""

from uuid import uuid4

import pytest

from lists.conftest import Filled
from lists.world import Tenant
from ringi.tags.schemas import Taggable
from support.refusals import refused

WHOLE = ("/jobs", "/projects")


@pytest.mark.parametrize(
    "item",
    ["versions.metrics.improvement>9", "versions.rank>=64", "versions.dataset=sealed", "name=hidden", "description~極秘", "owner=hana"],
)
def test_things_of_another_project_are_neither_found_nor_counted(filled: Filled, item: str) -> None:
    page = filled.acme.get("aiko", "/projects/risk/adapters", ("filter", item), ("count", "true")).json()
    assert (page["items"], page["total"]) == ([], 0)
    assert filled.acme.get("aiko", "/projects/secret/adapters", ("filter", item)).status_code == 404
    for path in ("versions", "runs", "evaluations", "releases", "datasets", "channels", "approvals"):
        assert filled.acme.refusal("aiko", f"/projects/secret/{path}", ("count", "true")) == (404, "not_found")


def test_lists_over_projects_hold_what_is_in_sight_alone(filled: Filled) -> None:
    for user, jobs, projects in (("aiko", set(), {"risk"}), ("hana", {"adapter secret/hidden 応答"}, {"secret"})):
        found = filled.acme.get(user, "/jobs", ("q", "hidden"), ("count", "true")).json()
        assert {item["subject"] for item in found["items"]} == jobs
        assert found["total"] == len(jobs)
        page = filled.acme.get(user, "/projects", ("sort", "name"), ("count", "true")).json()
        assert ({item["name"] for item in page["items"]}, page["total"]) == (projects, 1)
    assert filled.acme.found("aiko", "/jobs", ("filter", "project=secret"), by="id") == []
    assert filled.acme.found("otto", "/jobs", ("filter", "project=secret"), ("q", "hidden"), by="subject") == ["adapter secret/hidden 応答"]


def test_another_organisation_with_the_same_names_is_not_there(filled: Filled) -> None:
    assert filled.rival.found("aiko", "/projects/risk/adapters", ("q", "応答")) == ["bot"]
    page = filled.rival.get("aiko", "/projects/risk/adapters", ("filter", "base=tiny"), ("count", "true")).json()
    assert (page["total"], page["items"][0]["id"]) == (1, str(filled.ids["foreign"]))
    assert filled.rival.get("aiko", "/projects/risk/versions", ("count", "true")).json()["total"] == 0
    assert filled.rival.get("otto", "/audit/events", ("filter", "user=aiko"), ("count", "true")).json()["total"] == 0


def test_a_cursor_shows_nobody_more_than_they_may_see(filled: Filled) -> None:
    cursor = filled.acme.get("otto", "/jobs", ("limit", "1"), ("sort", "created_at")).json()["next_cursor"]
    subjects = set()
    while cursor:
        page = filled.acme.get("aiko", "/jobs", ("limit", "5"), ("sort", "created_at"), ("cursor", cursor)).json()
        subjects |= {item["subject"] for item in page["items"]}
        cursor = page["next_cursor"]
    assert not any("secret" in subject for subject in subjects)


def test_tags_of_what_is_not_in_sight_are_neither_read_nor_written(filled: Filled) -> None:
    for object_id in (filled.ids["hidden"], filled.ids["foreign"], uuid4()):
        for user in ("aiko", "dana"):
            tags = filled.acme.as_(user).tags
            with refused("not_found", 404):
                tags.of(Taggable.ADAPTER, object_id)
            with refused("not_found", 404):
                tags.set(Taggable.ADAPTER, object_id, "team", "risk")
            with refused("not_found", 404):
                tags.remove(Taggable.ADAPTER, object_id, "team")
    with refused("not_found", 404):
        filled.acme.as_("aiko").tags.of(Taggable.DATASET, filled.ids["bot"])


def test_a_tag_of_a_hidden_thing_does_not_show_in_filters_orders_or_counts(fresh: Tenant) -> None:
    with fresh.sessions.begin() as session:
        base = fresh.base(session, "tiny")
        fresh.adapter(session, "open", base)
        hidden = fresh.adapter(session, "hidden", base, project="secret")
        hidden_id = hidden.id
    fresh.as_("hana").tags.set(Taggable.ADAPTER, hidden_id, "team", "極秘")
    for pairs in ([("filter", "tags.team")], [("filter", "tags.team=極秘")], [("filter", "tags.team~極")]):
        page = fresh.get("aiko", "/projects/risk/adapters", *pairs, ("sort", "-tags.team"), ("count", "true")).json()
        assert (page["items"], page["total"]) == ([], 0)
    assert fresh.found("aiko", "/projects/risk/adapters", ("sort", "tags.team")) == ["open"]
    assert fresh.found("hana", "/projects/secret/adapters", ("filter", "tags.team=極秘")) == ["hidden"]
