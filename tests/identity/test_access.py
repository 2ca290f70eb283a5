"""Who sees and does what: foreign things are not there, roles exclude each other, and a list's cursor is its own."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, func
from sqlalchemy.orm import Session

from ringi.identity import service
from ringi.identity.permissions import Permission, exclusions
from ringi.identity.schemas import Role, UserKind
from ringi.kit.actor import Actor, ActorKind, system_actor
from support.postgres import DatabaseUrls
from support.refusals import refused
from support.running_platform import PROJECT, Platform, Processes, new_organization
from support.story import ADAPTER, BASE, Ground


@pytest.fixture(scope="module")
def stranger(shared_platform: Processes) -> Iterator[Platform]:
    """Another organisation, whose project and users have the same names."""
    with new_organization(shared_platform) as platform:
        yield platform.with_everybody()


def test_what_belongs_to_another_organisation_is_not_there(ground: Ground, stranger: Platform) -> None:
    platform, mine = ground.platform, ground.platform.as_("contributor")
    version, job = mine.adapters.version(PROJECT, ADAPTER, "v1"), next(mine.jobs.all())
    run = next(mine.training.all(PROJECT, ADAPTER))
    evaluation = next(mine.evaluations.all(PROJECT, ADAPTER, "v1"))
    request = mine.approvals.request(PROJECT, ADAPTER, "v1", environment=f"env-{uuid4().hex[:6]}")
    project, adapter = f"/projects/{PROJECT}", f"/projects/{PROJECT}/adapters/{ADAPTER}"
    reads = {
        f"/jobs/{job.id}": "contributor",
        f"/bases/{BASE}": "contributor",
        f"/bases/{BASE}/revisions/r1": "contributor",
        f"{project}/datasets/faq": "contributor",
        f"{project}/datasets/faq/versions/v1": "contributor",
        adapter: "contributor",
        f"{adapter}/versions/v1": "contributor",
        f"{adapter}/versions/{version.manifest_digest}": "contributor",
        f"{adapter}/versions/{version.commit}": "contributor",
        f"{adapter}/versions/v1/manifest": "contributor",
        f"{adapter}/versions/v1/compatibility": "contributor",
        f"{adapter}/versions/v1/standing": "contributor",
        f"{adapter}/runs/{run.id}": "contributor",
        f"{adapter}/versions/v1/evaluations/{evaluation.id}": "contributor",
        f"{adapter}/versions/v1/evaluations/{evaluation.id}/records": "contributor",
        f"{project}/approvals/{request.id}": "contributor",
        f"{adapter}/trail": "auditor",
    }
    for path, user in reads.items():
        assert platform.call(user, "GET", path).status_code == 200, path
        answer = stranger.call(user, "GET", path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    for path, user in ((f"/jobs/{job.id}/cancel", "contributor"), (f"{project}/approvals/{request.id}/withdraw", "contributor")):
        answer = stranger.call(user, "POST", path, json={"reason": "it is not mine at all"})
        assert answer.status_code == 404, path
    assert mine.approvals.get(PROJECT, request.id).state == "in_review"


def test_lists_and_searches_show_one_organisation_only(ground: Ground, stranger: Platform) -> None:
    assert list(stranger.as_("contributor").jobs.all()) == []
    assert list(stranger.as_("contributor").adapters.all(PROJECT)) == []
    assert list(stranger.as_("contributor").bases.all()) == []
    seal = next(ground.platform.as_("auditor").audit.events(action="adapter.version.seal"))
    assert list(stranger.as_("auditor").audit.events(object_id=seal.object_id)) == []
    assert {user.name for user in stranger.as_("admin").identity.users()} == {
        "admin", "contributor", "reviewer", "deployer", "viewer", "incident_commander", "auditor",
    }  # fmt: skip
    membership = next(ground.platform.as_("admin").identity.memberships())
    with refused("not_found", 404):
        stranger.as_("admin").identity.revoke_role(membership.id)
    token = next(ground.platform.as_("admin").identity.tokens())
    with refused("not_found", 404):
        stranger.as_("admin").identity.revoke_token(token.id)


def test_a_project_that_one_has_no_role_in_is_not_there(platform: Platform) -> None:
    platform.as_("admin").identity.create_project("secret")
    with refused("not_found", 404):
        platform.as_("contributor").identity.project("secret")
    answer = platform.call("contributor", "POST", "/projects/secret/datasets", json={"name": "x"})
    assert answer.status_code == 404
    assert [one.name for one in platform.as_("contributor").identity.projects()] == [PROJECT]
    assert {one.name for one in platform.as_("auditor").identity.projects()} == {PROJECT, "secret"}


def test_what_one_may_see_but_not_do_is_forbidden_and_the_attempt_is_audited(platform: Platform) -> None:
    with refused("forbidden", 403) as why:
        platform.as_("viewer").datasets.create(PROJECT, "not-mine")
    assert why.details == {"permission": "dataset:write"}
    (denied,) = list(platform.as_("auditor").audit.events(action="access.deny", user="viewer"))
    assert (denied.outcome, denied.details) == ("denied", {"permission": "dataset:write"})


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (Role.AUDITOR, Role.CONTRIBUTOR),
        (Role.AUDITOR, Role.IDENTITY_ADMIN),
        (Role.IDENTITY_ADMIN, Role.RISK_OWNER),
        (Role.IDENTITY_ADMIN, Role.VALIDATOR),
        (Role.SYSTEM_ADMIN, Role.REVIEWER),
        (Role.POLICY_ADMIN, Role.CONTRIBUTOR),
    ],
)
def test_roles_that_exclude_each_other_are_refused_in_both_orders(platform: Platform, held: Role, wanted: Role) -> None:
    assert wanted in exclusions(held)
    assert held in exclusions(wanted)
    admin = platform.as_("admin").identity
    organization_wide = {Role.AUDITOR, Role.IDENTITY_ADMIN, Role.SYSTEM_ADMIN, Role.POLICY_ADMIN}
    for number, (first, second) in enumerate(((held, wanted), (wanted, held))):
        user = f"both-{number}"
        admin.create_user(user)
        granted = admin.grant_role(user, first, project=None if first in organization_wide else PROJECT)
        with refused("role_excluded", 409):
            admin.grant_role(user, second, project=None if second in organization_wide else PROJECT)
        admin.revoke_role(granted.id)
        admin.grant_role(user, second, project=None if second in organization_wide else PROJECT)


def test_a_role_has_one_kind_of_place(platform: Platform) -> None:
    with refused("wrong_role_scope", 400):
        platform.as_("admin").identity.grant_role("viewer", Role.CONTRIBUTOR)
    with refused("wrong_role_scope", 400):
        platform.as_("admin").identity.grant_role("viewer", Role.AUDITOR, project=PROJECT)


def test_a_role_is_held_once_and_again_after_it_was_revoked(platform: Platform) -> None:
    admin = platform.as_("admin").identity
    with refused("role_already_held", 409):
        admin.grant_role("viewer", Role.VIEWER, project=PROJECT)
    admin.create_project("elsewhere")
    assert admin.grant_role("viewer", Role.VIEWER, project="elsewhere").project == "elsewhere"
    held = next(one for one in admin.memberships() if (one.user, one.project) == ("viewer", PROJECT))
    admin.revoke_role(held.id)
    assert admin.grant_role("viewer", Role.VIEWER, project=PROJECT).id != held.id


def test_a_role_that_one_gave_oneself_can_be_given_again_by_someone_else(platform: Platform) -> None:
    platform.add_user("chief", Role.IDENTITY_ADMIN, project=None)
    chief = platform.as_("chief").identity
    chief.grant_role("chief", Role.EVALUATOR, project=PROJECT)
    with refused("role_already_held", 409):
        chief.grant_role("chief", Role.EVALUATOR, project=PROJECT)
    assert platform.as_("admin").identity.grant_role("chief", Role.EVALUATOR, project=PROJECT).role == Role.EVALUATOR


def test_the_roles_of_a_disabled_user_do_not_count(database: DatabaseUrls) -> None:
    engine = create_engine(database.owner_url)
    with engine.connect() as connection, Session(connection) as session:
        organization, admin = service.create_organization(session, system_actor("setup"), name="one", display_name="", admin="admin")
        held = frozenset(Permission)
        actor = Actor(ActorKind.USER, admin.id, "admin", organization.id, organization_permissions=held)
        project = service.create_project(session, actor, name="here", display_name="")
        user = service.create_user(session, actor, name="mio", display_name="", kind=UserKind.HUMAN)
        service.grant_role(session, actor, user="mio", role=Role.REVIEWER, project="here", days=None)
        assert service.counted_roles(session, user_id=user.id, project_id=project.id) == {Role.REVIEWER}
        user.disabled_at = func.clock_timestamp()
        session.flush()
        assert service.counted_roles(session, user_id=user.id, project_id=project.id) == set()
        session.rollback()
    engine.dispose()


def test_a_job_that_one_may_see_but_not_cancel_is_refused_and_the_attempt_is_audited(ground: Ground) -> None:
    platform, other = ground.platform, f"other-{uuid4().hex[:6]}"
    platform.as_("admin").identity.create_project(other)
    user = f"guest-{uuid4().hex[:6]}"
    platform.add_user(user, Role.VIEWER)
    platform.as_("admin").identity.grant_role(user, Role.CONTRIBUTOR, project=other)
    job = next(one for one in platform.as_("contributor").jobs.all() if one.project == PROJECT)
    with refused("forbidden", 403):
        platform.as_(user).jobs.cancel(job.id)
    (denied,) = list(platform.as_("auditor").audit.events(action="access.deny", user=user))
    assert (denied.outcome, denied.details) == ("denied", {"permission": "job:cancel"})


def test_a_revoked_role_ends_at_once(platform: Platform) -> None:
    platform.as_("contributor").datasets.create(PROJECT, "before")
    admin = platform.as_("admin").identity
    membership = next(one for one in admin.memberships() if one.user == "contributor")
    admin.revoke_role(membership.id)
    with refused("not_found", 404):
        platform.as_("contributor").datasets.create(PROJECT, "after")


def test_pages_walk_a_list_without_gaps_and_cursors_belong_to_their_list(platform: Platform) -> None:
    names = [f"set-{number}" for number in range(7)]
    for name in names:
        platform.as_("contributor").datasets.create(PROJECT, name)
    seen: list[str] = []
    path, cursor, pages = f"/projects/{PROJECT}/datasets", None, []
    while True:
        page = platform.call("contributor", "GET", path, params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        pages.append(cursor)
    assert seen == names[::-1]
    assert len(pages) == 2
    for other, bad in (
        (f"/projects/{PROJECT}/adapters", pages[0]),
        ("/jobs", pages[0]),
        (path, "bm90LWEtY3Vyc29y"),
        (path, "%%%"),
        (path, "é"),
    ):
        answer = platform.call("contributor", "GET", other, params={"cursor": bad})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_cursor"), (other, bad)
    for limit in ("0", "201", "many"):
        assert platform.call("contributor", "GET", path, params={"limit": limit}).status_code == 422


@pytest.mark.parametrize("name", ["UPPER", "a--b", "a..b", "../x", "a/b", "", "-a", "a" * 64, "日本", "a\x00b", "bases "])
def test_names_that_would_break_a_repository_are_refused(platform: Platform, name: str) -> None:
    answer = platform.call("admin", "POST", "/projects", json={"name": name})
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


def test_the_hubs_own_namespace_is_reserved(platform: Platform) -> None:
    with refused("reserved_name", 400):
        platform.as_("admin").identity.create_project("bases")


def test_unknown_fields_are_refused_and_answers_are_problem_documents(platform: Platform) -> None:
    answer = platform.call("admin", "POST", "/projects", json={"name": "fine", "admin": True})
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "next_step", "request_id"} <= set(problem)
    assert (problem["status"], problem["code"]) == (422, "malformed_request")
    assert problem["details"]["reasons"][0]["where"] == "body.admin"
    assert answer.headers["X-Request-Id"] == problem["request_id"]


def test_a_body_of_more_than_four_mebibytes_is_refused_before_anything_is_asked(platform: Platform) -> None:
    large = b'{"name": "' + b"x" * 5 * 2**20 + b'"}'
    for content in (large, (large[at : at + 2**16] for at in range(0, len(large), 2**16))):
        answer = platform.call(None, "POST", "/organizations", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
        assert answer.headers["content-type"] == "application/problem+json"
    assert platform.call("contributor", "POST", "/uploads", content=large).status_code == 201


def test_a_selector_that_is_no_text_at_all_is_malformed(platform: Platform) -> None:
    channel = f"/projects/{PROJECT}/channels/live/adapters/any"
    versions = f"/projects/{PROJECT}/adapters/any"
    cases = {
        f"{channel}/releases": ("deployer", "body.version", '{"version": "\\ud800", "reason": "a reason that is long enough"}'),
        f"{versions}/runs": ("contributor", "body.base_revision", '{"dataset": "faq:v1", "base_revision": "\\ud800"}'),
    }
    for path, (user, where, body) in cases.items():
        answer = platform.call(user, "POST", path, content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request"), path
        assert [reason["where"] for reason in answer.json()["details"]["reasons"]] == [where]


def test_a_service_account_hands_out_neither_roles_nor_tokens_whatever_roles_it_has(platform: Platform) -> None:
    admin = platform.as_("admin").identity
    admin.create_user("robot", kind=UserKind.SERVICE)
    admin.grant_role("robot", Role.IDENTITY_ADMIN)
    platform.tokens["robot"] = admin.issue_token("robot").token
    robot = platform.as_("robot").identity
    with refused("forbidden", 403):
        robot.grant_role("viewer", Role.CONTRIBUTOR, project=PROJECT)
    with refused("forbidden", 403):
        robot.issue_token("robot")
    with refused("forbidden", 403):
        robot.create_user("another")
    # To read them is no power over them.
    assert "viewer" in {one.name for one in robot.users()}


def test_people_are_linked_to_a_provider_before_it_is_turned_on(platform: Platform) -> None:
    """Once it is, nobody but a login may link anybody: without this an organisation of local users would be locked out."""
    admin = platform.as_("admin").identity
    user = admin.create_user(f"chief-{uuid4().hex[:8]}")
    with refused("no_identity_provider", 409) as why:
        admin.link_user(user.name, "248289761001")
    assert "--issuer" in (why.next_step or "")
    subject = uuid4().hex
    linked = admin.link_user(user.name, subject, issuer="https://login.example.co.jp/realms/company")
    assert (linked.subject, linked.issuer) == (subject, "https://login.example.co.jp/realms/company")
    # By name or by the id that the log knows.
    assert admin.user(str(user.id)).name == user.name
    with refused("not_found", 404):
        admin.user(str(uuid4()))
    for taken in (str(uuid4()), "erased-c0cff4d0bfff"):
        with refused("reserved_name", 400):
            admin.create_user(taken)
