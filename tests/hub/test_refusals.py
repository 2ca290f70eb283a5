"""Every refusal of the policy, as real clients meet it, and what a warm cache does with each."""

from collections.abc import Callable
from urllib.parse import unquote

import httpx
import pytest

from hub.conftest import Hub
from ringi.adapters.schemas import VersionState
from ringi.base_models.schemas import RevisionState
from support.hub_client import HubClient

Clients = Callable[..., HubClient]
# Exceptions of huggingface_hub.
REPOSITORY, GATED, REVISION = "RepositoryNotFoundError", "GatedRepoError", "RevisionNotFoundError"


def outcome(hub: Hub, path: str, token: str | None = "viewer", channel: str = "production") -> tuple[int, str | None, str]:
    """Status, X-Error-Code and the body's text; the header says the same as the body."""
    answer = httpx.get(f"{hub.endpoint(channel)}{path}", headers=hub.headers(token) if token else {})
    if answer.is_success:
        return answer.status_code, None, ""
    text = answer.json()["error"]
    assert unquote(answer.headers["x-error-message"]) == text
    return answer.status_code, answer.headers.get("x-error-code"), text


def test_without_a_token_existing_and_absent_repositories_answer_the_same(hub: Hub, client: Clients) -> None:
    hub.world.adapter("anonymous")
    hub.world.release("demo/anonymous:v1")
    there, absent = outcome(hub, "/api/models/demo/anonymous", None), outcome(hub, "/api/models/demo/no-such", None)
    assert there == absent
    assert there[:2] == (401, "RepoNotFound")
    assert client(None).call("snapshot_download('demo/anonymous')").error == REPOSITORY


@pytest.mark.parametrize("token", ["expired", "revoked"])
def test_an_expired_or_revoked_token_is_told_so_in_the_words_that_clients_know(hub: Hub, client: Clients, token: str) -> None:
    answer = httpx.get(f"{hub.endpoint()}/api/whoami-v2", headers=hub.headers(token))
    assert (answer.status_code, answer.headers["x-error-message"]) == (401, "Invalid credentials in Authorization header")
    assert "x-error-code" not in answer.headers
    assert client(token).call("api.whoami()").error == "HfHubHTTPError"


def test_a_made_up_token_is_told_the_same(hub: Hub) -> None:
    answer = httpx.get(f"{hub.endpoint()}/api/models/demo/x", headers={"Authorization": "Bearer hf_rgiMadeUp"})
    assert (answer.status_code, answer.headers["x-error-message"]) == (401, "Invalid credentials in Authorization header")


def test_unknown_and_invisible_repositories_and_channels_answer_the_same(hub: Hub, client: Clients) -> None:
    hub.world.adapter("hidden", project="other")
    hub.world.release("other/hidden:v1")
    hub.world.adapter("seen")
    hub.world.release("demo/seen:v1")
    cases = {
        "another project's adapter": outcome(hub, "/api/models/other/hidden"),
        "no such adapter": outcome(hub, "/api/models/demo/no-such"),
        "no such project": outcome(hub, "/api/models/nobody/no-such"),
        "no such channel": outcome(hub, "/api/models/demo/seen", channel="no-such"),
        "no such base": outcome(hub, "/api/models/bases/no-such"),
        "no such base on no such channel": outcome(hub, "/api/models/bases/tiny", channel="no-such"),
        "a role that reads but does not pull": outcome(hub, "/api/models/demo/seen", "auditor"),
    }
    assert {what: answer[:2] for what, answer in cases.items()} == dict.fromkeys(cases, (404, "RepoNotFound"))
    assert cases["another project's adapter"][2].replace("other/hidden", "R") == cases["no such project"][2].replace("nobody/no-such", "R")
    assert client().call("snapshot_download('other/hidden')").error == REPOSITORY


def test_nothing_released_and_not_approved_are_gated_with_the_reason_and_audited(hub: Hub, client: Clients) -> None:
    hub.world.adapter("waiting", approved=())
    status, code, reason = outcome(hub, "/demo/waiting/resolve/main/adapter_config.json")
    assert (status, code) == (403, "GatedRepo")
    assert "Nothing of 'demo/waiting' is released to 'production'" in reason
    status, code, reason = outcome(hub, "/demo/waiting/resolve/v1/adapter_config.json")
    assert (status, code) == (403, "GatedRepo")
    assert "demo/waiting:v1 is not approved for 'production'" in reason
    denied = hub.world.events("demo/waiting:v1")
    assert [(one.outcome, (one.details or {})["code"], (one.details or {})["revision"]) for one in denied] == [
        ("denied", "release_gate_approved", "v1")
    ]
    answers = client().run(
        main="snapshot_download('demo/waiting')",
        tag="snapshot_download('demo/waiting', revision='v1')",
        check="api.auth_check('demo/waiting')",
    )
    assert {name: answer.error for name, answer in answers.items()} == dict.fromkeys(answers, GATED)
    assert "is not approved for 'production'" in answers["tag"].message


def test_an_approval_holds_in_its_own_environment_only(hub: Hub) -> None:
    hub.world.adapter("elsewhere", approved=("staging",))
    assert outcome(hub, "/api/models/demo/elsewhere/revision/v1", channel="staging")[0] == 200
    assert outcome(hub, "/api/models/demo/elsewhere/revision/v1")[:2] == (403, "GatedRepo")


def test_a_person_who_judges_may_pull_a_candidate_by_tag_or_commit_but_not_by_main(hub: Hub, client: Clients) -> None:
    (commit,) = hub.world.adapter("candidate", approved=())
    hub.world.release("demo/candidate:v1")
    answers = client("reviewer").run(
        tag="snapshot_download('demo/candidate', revision='v1')",
        commit=f"hf_hub_download('demo/candidate', 'adapter_config.json', revision='{commit}')",
        main="snapshot_download('demo/candidate')",
    )
    assert {name: answer.error for name, answer in answers.items()} == {"tag": None, "commit": None, "main": GATED}
    allowed = [one for one in hub.world.events("demo/candidate:v1") if one.outcome == "ok"]
    assert [(one.details or {})["candidate"] for one in allowed] == [True]
    hub.world.move("demo/candidate:v1", VersionState.REVOKED, "it leaked a customer's name")
    assert outcome(hub, "/api/models/demo/candidate/revision/v1", "reviewer")[:2] == (404, "RevisionNotFound")


def test_a_service_account_pulls_no_candidates_whatever_its_role(hub: Hub) -> None:
    hub.world.adapter("robotic", approved=())
    assert outcome(hub, "/api/models/demo/robotic/revision/v1", "robot")[:2] == (403, "GatedRepo")


def test_a_token_of_another_environment_is_gated_for_adapters_and_bases(hub: Hub) -> None:
    hub.world.adapter("bound", approved=("production", "staging"))
    for channel in ("production", "staging"):
        hub.world.release("demo/bound:v1", channel)
        mine, others = f"robot-{channel}", "robot-staging" if channel == "production" else "robot-production"
        for path in ("/api/models/demo/bound", "/api/models/bases/tiny"):
            assert outcome(hub, path, mine, channel)[0] == 200
            status, code, reason = outcome(hub, path, others, channel)
            assert (status, code) == (403, "GatedRepo")
            assert f"the channel '{channel}' serves '{channel}'" in reason


@pytest.mark.parametrize("state", [VersionState.REVOKED, VersionState.RETIRED])
def test_a_withdrawn_version_refuses_warm_branches_and_tags_but_a_pinned_commit_asks_nobody(
    hub: Hub, client: Clients, state: VersionState
) -> None:
    name = f"withdrawn-{state}"
    (commit,) = hub.world.adapter(name)
    hub.world.release(f"demo/{name}:v1")
    pulls = {
        "main": f"snapshot_download('demo/{name}')",
        "tag": f"snapshot_download('demo/{name}', revision='v1')",
        "file": f"hf_hub_download('demo/{name}', 'adapter_model.safetensors')",
    }
    assert {answer.error for answer in client().run(**pulls).values()} == {None}
    hub.world.move(f"demo/{name}:v1", state, "個人情報を含む応答が見つかりました")
    warm = client().run(**pulls)
    assert {what: answer.error for what, answer in warm.items()} == dict.fromkeys(pulls, REVISION)
    assert f"demo/{name}:v1 is '{state}': 個人情報を含む応答が見つかりました" in warm["main"].message
    cold = client(home="new").run(**pulls, commit=f"snapshot_download('demo/{name}', revision='{commit}')")
    assert {answer.error for answer in cold.values()} == {REVISION}
    before = len(hub.server.requests(f"demo/{name}"))
    pinned = client().call(f"snapshot_download('demo/{name}', revision='{commit}')")
    assert pinned.error is None
    assert len(hub.server.requests(f"demo/{name}")) == before
    assert {one.outcome for one in hub.world.events(f"demo/{name}:v1")[1:]} == {"denied"}


def test_revocation_also_reaches_a_token_of_another_environment(hub: Hub) -> None:
    hub.world.adapter("everywhere")
    hub.world.release("demo/everywhere:v1")
    hub.world.move("demo/everywhere:v1", VersionState.REVOKED, "wrong data rights")
    assert outcome(hub, "/api/models/demo/everywhere", "robot-staging")[:2] == (404, "RevisionNotFound")


def test_an_expired_grant_refuses_a_warm_cache(hub: Hub, client: Clients) -> None:
    hub.world.adapter("lapsed")
    hub.world.release("demo/lapsed:v1")
    assert client().call("snapshot_download('demo/lapsed')").error is None
    hub.world.expire_grants("demo/lapsed:v1")
    answer = client().call("snapshot_download('demo/lapsed')")
    assert answer.error == REVISION
    assert "the grant expired at" in answer.message


def test_a_gated_answer_leaves_a_warm_cache_readable_which_is_why_revocation_is_not_one(hub: Hub, client: Clients) -> None:
    hub.world.adapter("cached")
    hub.world.release("demo/cached:v1")
    assert client("robot-production").call("snapshot_download('demo/cached')").error is None
    hub.world.release("demo/cached:v1", "staging")
    assert outcome(hub, "/api/models/demo/cached", "robot-production", "staging")[:2] == (403, "GatedRepo")
    assert client("robot-production", channel="staging").call("snapshot_download('demo/cached')").error is None


def test_a_rollback_is_pulled_by_the_next_client(hub: Hub, client: Clients) -> None:
    first, second = hub.world.adapter("moved", versions=2)
    for version, commit in (("v1", first), ("v2", second), ("v1", first)):
        hub.world.release(f"demo/moved:{version}")
        assert client().call("snapshot_download('demo/moved')").value.endswith(commit)


@pytest.mark.parametrize("revision", ["v3", "v0", "v01", "latest", "production", "f" * 40, "refs%2Fpr%2F1", "%00", "v1%2Fx", "99999999999"])
def test_an_unknown_revision_is_not_found(hub: Hub, revision: str) -> None:
    if revision == "v3":
        hub.world.adapter("known")
        hub.world.release("demo/known:v1")
    assert outcome(hub, f"/api/models/demo/known/revision/{revision}")[:2] == (404, "RevisionNotFound")
    assert outcome(hub, f"/demo/known/resolve/{revision}/README.md")[:2] == (404, "RevisionNotFound")


@pytest.mark.parametrize("path", ["adapter_model.bin", "..%2F..%2Fetc%2Fpasswd", "%2e%2e/README.md", "README.md%00", "assets"])
def test_a_missing_file_names_the_commit(hub: Hub, path: str) -> None:
    name = "filed"
    if path == "adapter_model.bin":
        hub.world.adapter(name)
        hub.world.release(f"demo/{name}:v1")
    url = f"{hub.endpoint()}/demo/{name}/resolve/main/{path}"
    answer = httpx.head(url, headers=hub.headers("viewer"))
    with hub.world.version(f"demo/{name}:v1") as (_, version):
        assert (answer.status_code, answer.headers["x-error-code"], answer.headers["x-repo-commit"]) == (
            404,
            "EntryNotFound",
            version.commit,
        )


def test_a_base_revision_that_is_not_sealed_is_not_served(hub: Hub) -> None:
    with hub.world.sessions.begin() as session:
        pending = hub.world.base_revision(session, {"config.json": b"{ }", "model.safetensors": b"x"}, state=RevisionState.PENDING)
        number, commit = pending.number, pending.commit
    for revision in (f"r{number}", commit):
        status, code, reason = outcome(hub, f"/api/models/bases/tiny/revision/{revision}")
        assert (status, code) == (404, "RevisionNotFound")
        assert "'pending'" in reason
    main = httpx.get(f"{hub.endpoint()}/api/models/bases/tiny", headers=hub.headers("viewer")).json()
    assert main["sha"] != commit


def test_refs_of_an_adapter_show_only_what_may_be_pulled(hub: Hub) -> None:
    hub.world.adapter("listed", versions=2, approved=())
    assert outcome(hub, "/api/models/demo/listed/refs")[:2] == (403, "GatedRepo")
    reviewed = httpx.get(f"{hub.endpoint()}/api/models/demo/listed/refs", headers=hub.headers("reviewer")).json()
    assert ([one["name"] for one in reviewed["branches"]], [one["name"] for one in reviewed["tags"]]) == ([], ["v1", "v2"])
    hub.world.move("demo/listed:v1", VersionState.REVOKED, "wrong data rights")
    reviewed = httpx.get(f"{hub.endpoint()}/api/models/demo/listed/refs", headers=hub.headers("reviewer")).json()
    assert [one["name"] for one in reviewed["tags"]] == ["v2"]


def test_malformed_and_unserved_requests_are_answered_the_hubs_way(hub: Hub) -> None:
    hub.world.adapter("shaped")
    hub.world.release("demo/shaped:v1")
    with httpx.Client(headers=hub.headers("viewer")) as http:
        for answer, status in (
            (http.post(f"{hub.endpoint()}/api/models/demo/shaped/paths-info/main"), 400),
            (http.post(f"{hub.endpoint()}/api/repos/create", json={"name": "x"}), 404),
            (http.get(f"{hub.endpoint()}/"), 404),
        ):
            assert answer.status_code == status
            assert answer.json()["error"] == answer.headers["x-error-message"]
        assert http.get(f"{hub.endpoint()}/api/models/demo/shaped?expand=xetEnabled&new=1").status_code == 200
