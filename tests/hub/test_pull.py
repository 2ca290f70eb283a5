"""Real clients pull what is released: whole snapshots and single files, cold and warm, and find the approved digests on their disk."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from hub.conftest import Hub
from ringi.adapters.schemas import VersionState
from ringi.identity import service as identity
from support.hub_client import HubClient, cut_once

Clients = Callable[..., HubClient]


def digests(folder: str | Path) -> dict[str, str]:
    root = Path(folder)
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_a_snapshot_has_the_digests_of_the_sealed_manifest_by_main_tag_and_commit(hub: Hub, client: Clients) -> None:
    first, second = hub.world.adapter("pulled", versions=2)
    hub.world.release("demo/pulled:v2")
    answers = client().run(
        main="snapshot_download('demo/pulled')",
        again="snapshot_download('demo/pulled')",
        tag="snapshot_download('demo/pulled', revision='v1')",
        commit=f"snapshot_download('demo/pulled', revision='{first}')",
    )
    assert {name: answer.error for name, answer in answers.items()} == dict.fromkeys(answers)
    assert answers["main"].value == answers["again"].value
    assert Path(answers["main"].value).name == second
    assert Path(answers["tag"].value).name == Path(answers["commit"].value).name == first
    assert digests(answers["main"].value) == hub.world.files("demo/pulled:v2")
    assert digests(answers["tag"].value) == hub.world.files("demo/pulled:v1")


def test_a_token_that_may_only_pull_pulls_adapters_and_bases(hub: Hub) -> None:
    hub.world.adapter("narrow")
    hub.world.release("demo/narrow:v1")
    with hub.world.sessions.begin() as session:
        viewer = identity.find_user(session, hub.world.admin, "viewer")
        hub.world.tokens["puller"], _ = identity.issue_token(
            session, hub.world.admin, user=viewer, name="puller", days=1, scopes=["release:pull"]
        )
    for path in ("demo/narrow/resolve/main/adapter_config.json", "bases/tiny/resolve/main/config.json", "api/models/bases/tiny"):
        assert httpx.get(f"{hub.endpoint()}/{path}", headers=hub.headers("puller")).status_code == 200, path
    assert httpx.get(f"{hub.endpoint()}/api/models/other/narrow", headers=hub.headers("puller")).status_code == 404


def test_a_warm_snapshot_asks_once_and_downloads_nothing(hub: Hub, client: Clients) -> None:
    hub.world.adapter("warm")
    hub.world.release("demo/warm:v1")
    assert client().call("snapshot_download('demo/warm')").error is None
    before = len(hub.server.requests("demo/warm"))
    assert client().call("snapshot_download('demo/warm')").error is None
    asked = [(one.method, one.path) for one in hub.server.requests("demo/warm")[before:]]
    assert asked == [("GET", "/hf/production/api/models/demo/warm/revision/main")]


def test_single_files_lists_refs_history_and_identity(hub: Hub, client: Clients) -> None:
    first, second = hub.world.adapter("asked", versions=2)
    hub.world.release("demo/asked:v2")
    hub.world.move("demo/asked:v1", VersionState.DEPRECATED, "v2 answers better")
    answers = client().run(
        download="hf_hub_download('demo/asked', 'adapter_config.json', revision='v1')",
        exists="[api.file_exists('demo/asked', name) for name in ('adapter_model.safetensors', 'adapter_model.bin')]",
        repo="[api.repo_exists(name) for name in ('demo/asked', 'demo/absent')]",
        revision="[api.revision_exists('demo/asked', name) for name in ('main', 'v1', 'v3')]",
        files="sorted(api.list_repo_files('demo/asked'))",
        refs="[[(one.name, one.target_commit) for one in part] for part in (api.list_repo_refs('demo/asked').branches, api.list_repo_refs('demo/asked').tags)]",
        commits="[(one.commit_id, one.title, one.authors) for one in api.list_repo_commits('demo/asked')]",
        paths="[(one.path, one.size, one.lfs.sha256) for one in api.get_paths_info('demo/asked', ['README.md', 'no-such'])]",
        info="(lambda one: (one.id, one.sha, one.library_name, one.tags, one.siblings[0].lfs.sha256))(api.model_info('demo/asked', files_metadata=True))",
        who="api.whoami()",
        check="api.auth_check('demo/asked')",
        write="api.auth_check('demo/asked', write=True)",
    )
    assert {name: answer.error for name, answer in answers.items()} == dict.fromkeys(answers) | {"write": "HfHubHTTPError"}
    sealed = hub.world.files("demo/asked:v2")
    config = Path(answers["download"].value).read_bytes()
    assert "sha256:" + hashlib.sha256(config).hexdigest() == hub.world.files("demo/asked:v1")["adapter_config.json"]
    assert answers["exists"].value == [True, False]
    assert answers["repo"].value == [True, False]
    assert answers["revision"].value == [True, True, False]
    assert answers["files"].value == sorted(sealed)
    assert answers["refs"].value == [[["main", second]], [["v1", first], ["v2", second]]]
    assert answers["commits"].value == [[second, "v2", ["admin"]], [first, "v1 (deprecated)", ["admin"]]]
    assert answers["paths"].value == [["README.md", len("# asked v2\n"), sealed["README.md"].removeprefix("sha256:")]]
    identifier, sha, library, tags, oid = answers["info"].value
    assert (identifier, sha, library) == ("demo/asked", second, "peft")
    assert {"peft", "base_model:adapter:bases/tiny"} <= set(tags)
    assert f"sha256:{oid}" in sealed.values()
    assert answers["who"].value["name"] == "viewer"
    assert answers["who"].value["orgs"][0]["name"].startswith("org-")
    assert "v2 answers better" in (client().home / "stderr.txt").read_text()


def test_hf_cache_verify_checks_the_pulled_bytes_and_finds_a_changed_one(hub: Hub, client: Clients) -> None:
    hub.world.adapter("verified")
    hub.world.release("demo/verified:v1")
    one = client()
    folder = Path(one.call("snapshot_download('demo/verified')").value)
    good = one.cli("cache", "verify", "demo/verified")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "Verified 3" in good.stdout + good.stderr
    config = (folder / "adapter_config.json").resolve()
    config.write_bytes(config.read_bytes() + b" ")
    bad = one.cli("cache", "verify", "demo/verified")
    assert bad.returncode != 0
    assert "adapter_config.json" in bad.stdout + bad.stderr


def test_the_hf_program_downloads_and_says_whose_token_it_is(hub: Hub, client: Clients, tmp_path: Path) -> None:
    hub.world.adapter("by-program")
    hub.world.release("demo/by-program:v1")
    one = client()
    done = one.cli("download", "demo/by-program", "--local-dir", str(tmp_path / "here"))
    assert done.returncode == 0, done.stderr
    pulled = digests(tmp_path / "here")
    assert {path: pulled[path] for path in hub.world.files("demo/by-program:v1")} == hub.world.files("demo/by-program:v1")
    assert "viewer" in one.cli("auth", "whoami").stdout


def test_base_models_are_served_with_folders_tags_and_the_newest_sealed_revision_as_main(hub: Hub, client: Clients) -> None:
    answers = client().run(
        main="snapshot_download('bases/tiny')",
        tag="snapshot_download('bases/tiny', revision='r1')",
        refs="[one.name for one in api.list_repo_refs('bases/tiny').tags]",
        tree="[(type(one).__name__, one.path) for one in api.list_repo_tree('bases/tiny', 'assets', recursive=True)]",
        top="[(type(one).__name__, one.path) for one in api.list_repo_tree('bases/tiny')]",
        folder="[one.path for one in api.get_paths_info('bases/tiny', ['assets', 'config.json'])]",
        missing="list(api.list_repo_tree('bases/tiny', 'additional_chat_templates'))",
        library="api.model_info('bases/tiny').library_name",
    )
    assert set(digests(answers["main"].value)) == {"config.json", "model.safetensors", "assets/more/vocab.txt"}
    assert answers["tag"].value == answers["main"].value
    assert answers["refs"].value == ["r1"]
    assert answers["tree"].value == [["RepoFolder", "assets/more"], ["RepoFile", "assets/more/vocab.txt"]]
    assert [path for _, path in answers["top"].value] == ["assets", "config.json", "model.safetensors"]
    assert answers["folder"].value == ["assets", "config.json"]
    assert answers["missing"].error in {"RemoteEntryNotFoundError", "EntryNotFoundError"}
    assert answers["library"].value == "transformers"


def _base_with(hub: Hub, name: str, files: dict[str, bytes]) -> None:
    from ringi.base_models.models import BaseModel

    with hub.world.sessions.begin() as session:
        base = BaseModel(organization_id=hub.world.organization, name=name)
        session.add(base)
        session.flush()
        hub.world.base_revision(session, files, base=base.id)


def test_a_cut_download_goes_on_where_it_was_cut(hub: Hub, client: Clients) -> None:
    mebibyte = 1024 * 1024
    content = b"".join(bytes([number]) * mebibyte for number in range(25))
    _base_with(hub, "cut", {"model.safetensors": content})
    port = int(hub.server.url.rpartition(":")[2])
    with cut_once(port, after=15 * mebibyte) as relay:
        one = HubClient(client().home, hub.endpoint().replace(f":{port}/", f":{relay}/"), hub.world.tokens["viewer"])
        answer = one.call("hf_hub_download('bases/cut', 'model.safetensors')")
    assert answer.error is None, answer.message
    assert hashlib.sha256(Path(answer.value).read_bytes()).digest() == hashlib.sha256(content).digest()
    assert [one.status for one in hub.server.requests("bases/cut") if one.method == "GET"] == [200, 206]


def test_memory_does_not_grow_with_the_size_of_a_download(hub: Hub) -> None:
    size = 192 * 1024 * 1024
    _base_with(hub, "large", {"model.safetensors": bytes(size)})
    process, received, highest = psutil.Process(hub.pid), 0, 0
    before = process.memory_info().rss
    url = f"{hub.endpoint()}/bases/large/resolve/main/model.safetensors"
    with httpx.stream("GET", url, headers=hub.headers("viewer")) as response:
        for piece in response.iter_raw():
            received += len(piece)
            highest = max(highest, process.memory_info().rss) if received % (8 * 1024 * 1024) < len(piece) else highest
    assert received == size
    assert highest - before < 48 * 1024 * 1024


def test_a_tree_of_more_than_a_thousand_files_is_paged(hub: Hub, client: Clients) -> None:
    _base_with(hub, "many", {f"part-{number:04}.txt": b"x" for number in range(1001)} | {"config.json": b"{}"})
    answer = client().call("len(list(api.list_repo_tree('bases/many', recursive=True)))")
    assert answer.value == 1002, answer.message
    first = httpx.get(f"{hub.endpoint()}/api/models/bases/many/tree/main?recursive=true", headers=hub.headers("viewer"))
    assert len(first.json()) == 1000
    assert first.links["next"]["url"].startswith(hub.endpoint())


def test_a_download_of_weights_is_audited_with_digest_path_and_channel(hub: Hub) -> None:
    hub.world.adapter("audited")
    hub.world.release("demo/audited:v1")
    url = f"{hub.endpoint()}/demo/audited/resolve/main"
    with httpx.Client(headers=hub.headers("viewer")) as http:
        assert http.head(f"{url}/adapter_model.safetensors").status_code == 200
        assert http.get(f"{url}/adapter_config.json").status_code == 200
        assert http.get(f"{url}/adapter_model.safetensors", headers={"Range": "bytes=0-0"}).status_code == 206
        assert hub.world.events("demo/audited:v1") == []
        whole = http.get(f"{url}/adapter_model.safetensors")
    (event,) = hub.world.events("demo/audited:v1")
    files = hub.world.files("demo/audited:v1")
    assert "sha256:" + hashlib.sha256(whole.content).hexdigest() == files["adapter_model.safetensors"]
    assert (event.outcome, event.object.type) == ("ok", "adapter_version")
    assert event.details == {
        "channel": "production", "path": "adapter_model.safetensors", "file": files["adapter_model.safetensors"], "revision": "main", "candidate": False,
    }  # fmt: skip
    with hub.world.version("demo/audited:v1") as (_, version):
        assert event.object.digest == version.manifest_digest
    # Leaving out the first byte does not leave out the event.
    assert httpx.get(f"{url}/adapter_model.safetensors", headers={**hub.headers("viewer"), "Range": "bytes=1-"}).status_code == 206
    assert len(hub.world.events("demo/audited:v1")) == 2


def test_headers_and_ranges_are_those_that_clients_rely_on(hub: Hub) -> None:
    (commit,) = hub.world.adapter("headed")
    hub.world.release("demo/headed:v1")
    digest = hub.world.files("demo/headed:v1")["adapter_model.safetensors"].removeprefix("sha256:")
    url = f"{hub.endpoint()}/demo/headed/resolve/main/adapter_model.safetensors"
    with httpx.Client(headers=hub.headers("viewer")) as http:
        head, whole = http.head(url), http.get(url)
        size = len(whole.content)
        for answer in (head, whole):
            assert answer.headers["x-repo-commit"] == commit
            assert answer.headers["etag"] == answer.headers["x-linked-etag"] == f'"{digest}"'
            assert answer.headers["content-length"] == answer.headers["x-linked-size"] == str(size)
            assert answer.headers["accept-ranges"] == "bytes"
            assert not [name for name in answer.headers if "xet" in name] + [
                "content-encoding" for _ in answer.headers.get_list("content-encoding")
            ]
        first = http.get(url, headers={"Range": "bytes=0-0"})
        assert (first.status_code, first.content, first.headers["content-range"]) == (206, whole.content[:1], f"bytes 0-0/{size}")
        rest = http.get(url, headers={"Range": f"bytes={size - 5}-"})
        assert (rest.status_code, rest.content) == (206, whole.content[-5:])
        past = http.get(url, headers={"Range": f"bytes={size}-"})
        assert (past.status_code, past.headers["content-range"]) == (416, f"bytes */{size}")
        other = http.get(url, headers={"Range": "bytes=1-2", "If-Range": '"another"'})
        assert (other.status_code, len(other.content)) == (200, size)


def test_rotten_bytes_never_arrive_as_a_complete_file(hub: Hub) -> None:
    hub.world.adapter("rotten")
    hub.world.release("demo/rotten:v1")
    path = hub.world.store.path(hub.world.files("demo/rotten:v1")["adapter_model.safetensors"])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    url = f"{hub.endpoint()}/demo/rotten/resolve/main/adapter_model.safetensors"
    try:
        answer = httpx.get(url, headers=hub.headers("viewer"))
    except httpx.RemoteProtocolError:
        return
    raise AssertionError(f"{answer.status_code} with {len(answer.content)} bytes")


def test_the_log_names_client_and_download_counter(hub: Hub, client: Clients) -> None:
    hub.world.adapter("logged")
    hub.world.release("demo/logged:v1")
    assert client().call("hf_hub_download('demo/logged', 'README.md')").error is None
    lines = [line for line in hub.server.log.read_text().splitlines() if "ringi.hub" in line and "demo/logged" in line]
    assert lines
    assert all("hf_hub/" in line for line in lines)
    assert any("download='1'" in line for line in lines)


def test_the_answer_about_agent_harnesses_needs_no_token_and_is_worth_keeping(hub: Hub) -> None:
    answer = httpx.get(f"{hub.endpoint()}/api/agent-harnesses")
    assert json.loads(answer.content) == {"standardEnvVars": [], "harnesses": {}}
    assert httpx.head(f"{hub.endpoint()}/api/telemetry/x").status_code == 404
    assert httpx.post(f"{hub.endpoint()}/oauth/token").status_code == 404
