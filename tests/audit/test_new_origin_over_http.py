"""What auditors, monitors, probes and clients are served of a log that has ended and of the one that follows it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from audit.new_origin import FIRST, NEXT, THIRD, Lost
from audit.test_anchoring import Anchored
from ringi.approvals.policy import PolicyDocument, Seat, Stage
from ringi.audit.ringi_verify import Checkpoint, decode_base64, leaf_hash, parse_note, parse_policy, root_of, verify_bundle, verify_proof
from ringi.audit.tiles import Tile
from ringi.cli.contexts import Profile, save_profile
from ringi.embedded.postgres import PostgresHandle
from ringi.identity.schemas import Role
from ringi.kit.actor import Actor, ActorKind
from ringi.settings import get_settings
from support.hub_client import free_port
from support.postgres import DatabaseUrls, application, drop_database, fresh_database
from support.running_platform import MONITOR_TOKEN, PROJECT, Platform, Processes, environment_of, new_organization, start_api
from support.shell import Shell

POLICY = PolicyDocument(stages=(Stage(name="technical", seats=(Seat(role=Role.REVIEWER, people=2),)),))


@dataclass
class Served:
    """The API of the log that follows, and two organisations from before the loss; `told` is what `/readyz` said in between."""

    lost: Lost
    platform: Platform
    other: Platform
    told: dict[str, tuple[str, str]]
    refused: httpx.Response

    def asked(self, path: str, user: str | None = None, *, other: bool = False, token: str = MONITOR_TOKEN) -> httpx.Response:
        """As a user, of the other organisation too, or as the monitor."""
        if user is not None:
            return (self.other if other else self.platform).call(user, "GET", path)
        return httpx.get(f"{self.platform.server}/api/v1{path}", headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def entries(self, number: int, size: int, user: str | None = None, *, other: bool = False) -> list[bytes]:
        answer = self.asked(f"/audit/logs/{number}/tile/{Tile(None, 0, size).path}", user, other=other)
        assert answer.status_code == 200, answer.text
        data, found = answer.content, []
        while data:
            end = 2 + int.from_bytes(data[:2], "big")
            found.append(data[2:end])
            data = data[end:]
        return found

    def checkpoint(self, number: int) -> Checkpoint:
        note = self.asked(f"/audit/logs/{number}/checkpoint", "auditor").content
        return parse_policy(self.lost.trust.read_bytes()).open(note).checkpoint


def standing(processes: Processes) -> tuple[str, str]:
    answer = httpx.get(f"{processes.server}/readyz", timeout=30)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    return document["status"], document["dependencies"]["audit_log"].get("detail") or document["dependencies"]["audit_log"]["state"]


@pytest.fixture(scope="module")
def lost_here(postgres_server: PostgresHandle, migrated_template: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lost]:
    urls = fresh_database(postgres_server, f"ended_{uuid4().hex[:8]}", template=migrated_template.name)
    actor = Actor(kind=ActorKind.USER, id=uuid4(), name="愛子", organization_id=uuid4(), token_id=uuid4(), request_id="request-1")
    folder = tmp_path_factory.mktemp("ended")
    with pytest.MonkeyPatch.context() as patch, application(urls) as sessions:
        yield Lost(Anchored(urls, sessions, folder, actor), folder, patch)
    get_settings.cache_clear()
    drop_database(postgres_server, urls.name)


@pytest.fixture(scope="module")
def served(lost_here: Lost, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    lost, folder = lost_here, tmp_path_factory.mktemp("api")
    (folder / "data").mkdir()
    environment = environment_of(folder, lost.anchored.urls, broker, free_port()) | {
        "RINGI_AUDIT_KEY_FILE": str(lost.files[0]), "RINGI_AUDIT_CHECKPOINT_DIR": str(lost.files[2].parent),
        "RINGI_PERSONAL_KEY_FILE": os.environ["RINGI_PERSONAL_KEY_FILE"],
    }  # fmt: skip
    processes = Processes(folder, lost.anchored.urls, broker, environment)
    told = {}
    try:
        start_api(processes)
        with new_organization(processes) as platform, new_organization(processes) as other:
            # Whoever joins later stands in the other log.
            assert all(platform.tokens[user] for user in ("auditor", "contributor", "viewer", "deployer"))
            assert other.tokens["auditor"]
            platform.add_user("hosaku", Role.POLICY_ADMIN, project=None)
            platform.as_("hosaku").approvals.set_policy(PROJECT, POLICY, environment="production")
            lost.lose()
            told["stopped"] = standing(processes)
            lost.succeed(NEXT)
            told["old name"] = standing(processes)
            refused = platform.call("admin", "POST", "/projects", json={"name": "more"})
            for name in (THIRD, NEXT):
                processes.kill("api")
                start_api(processes, RINGI_AUDIT_ORIGIN=name)
                told[name] = standing(processes)
            platform.as_("hosaku").approvals.set_policy(PROJECT, POLICY, environment="staging")
            lost.seal()
            yield Served(lost, platform, other, told, refused)
    finally:
        processes.stop()


def test_readiness_says_of_an_api_with_another_name_than_its_database_so_in_both_directions(served: Served) -> None:
    assert served.told["stopped"] == ("degraded", "read-only: log_shortened")
    for name, told in (("old name", FIRST), (THIRD, THIRD)):
        status, detail = served.told[name]
        assert status == "degraded"
        assert f"RINGI_AUDIT_ORIGIN is '{told}', and the log of this database is '{NEXT}'" in detail
    assert served.told[NEXT][1] == "ok"
    # The one with the old name changed nothing, and said why.
    assert (served.refused.status_code, served.refused.json()["code"]) == (503, "audit_origin_differs")


def test_both_logs_are_served_as_tiles_that_lead_to_their_signed_roots(served: Served) -> None:
    auditor = served.platform.as_("auditor").audit
    logs = [(one.number, one.origin) for one in auditor.logs()]
    assert logs == [(1, FIRST), (2, NEXT)]
    assert str(served.lost.trust.read_text()).count(str(auditor.logs()[0].vkey)) == 1
    for number, origin in logs:
        checkpoint = served.checkpoint(number)
        assert checkpoint.origin == origin
        entries = served.entries(number, checkpoint.size)
        assert root_of(leaf_hash(entry) for entry in entries) == checkpoint.root
        hashes = served.asked(f"/audit/logs/{number}/tile/{Tile(0, 0, checkpoint.size).path}", "auditor").content
        assert hashes == b"".join(leaf_hash(entry) for entry in entries)
        # Nothing is served beyond what was signed.
        assert served.asked(f"/audit/logs/{number}/tile/{Tile(0, 0, checkpoint.size + 1).path}").status_code == 404
    assert served.checkpoint(1).size == served.lost.kept
    assert auditor.checkpoint_of(2) == auditor.log_checkpoint()


def test_an_ended_log_is_read_by_whom_the_growing_one_is_and_another_number_is_not_there(served: Served) -> None:
    for path in ("/audit/logs", "/audit/logs/1/checkpoint", "/audit/logs/1/tile/0/000.p/3", "/audit/logs/1/tile/entries/000.p/3"):
        assert served.asked(path).status_code == 200, path
        assert served.asked(path, "auditor").status_code == 200, path
        assert served.asked(path, token="nobody").status_code == 401, path
        for user in ("contributor", "viewer", "deployer", "admin"):
            answer = served.asked(path, user)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (path, user)
    for number in (3, 32767):
        for path in ("checkpoint", "tile/0/000.p/1", "tile/entries/000.p/1"):
            missing = served.asked(f"/audit/logs/{number}/{path}", "auditor")
            assert (missing.status_code, missing.json()["code"]) == (404, "not_found"), path
    for word in ("0", "-1", "32768", "一"):
        assert served.asked(f"/audit/logs/{word}/checkpoint", "auditor").status_code == 422, word


def test_of_an_ended_log_too_an_auditor_sees_their_own_organisations_entries_alone(served: Served) -> None:
    size = served.checkpoint(1).size
    everything = served.entries(1, size)
    mine, others = served.entries(1, size, "auditor"), served.entries(1, size, "auditor", other=True)
    assert any(mine)
    assert any(others)
    assert not any(one and other for one, other in zip(mine, others, strict=True))
    for shown in (mine, others):
        assert [one or whole for one, whole in zip(shown, everything, strict=True)] == everything


def test_both_logs_are_exported_over_http_and_verify_and_so_does_a_proof_of_an_entry_of_each(served: Served, tmp_path: Path) -> None:
    shells = {}
    for name, platform in (("one", served.platform), ("other", served.other)):
        save_profile(tmp_path / "config.json", name, Profile(server=platform.server, token=platform.tokens["auditor"]), replace=False)
        shells[name] = Shell(tmp_path, platform.server)
    shown = {}
    for name, shell in shells.items():
        for number, words in ((1, ("--origin", FIRST)), (2, ())):
            path = tmp_path / f"{name}-{number}.zip"
            shell.ok("--profile", name, "audit", "export", str(path), *words)
            report = shown[name, number] = served.lost.verify(path)
            assert report.ok, (name, number, report.problems)
    assert [shown["one", number].origin for number in (1, 2)] == [FIRST, NEXT]
    opened = shown["other", 2].opened
    assert opened is not None
    assert opened.old_origin == FIRST
    # Each policy is proven by the log that it stands in.
    assert [shown["one", number].records for number in (1, 2)] == [1, 1]
    assert served.lost.verify(tmp_path / "one-2.zip", against=tmp_path / "one-1.zip").ok
    shells["one"].refused("--profile", "one", "audit", "export", str(tmp_path / "none.zip"), "--origin", THIRD, code="not_found")
    assert not (tmp_path / "none.zip").exists()
    auditor, trust = served.platform.as_("auditor").audit, parse_policy(served.lost.trust.read_bytes())
    for entry, origin in zip(auditor.events(action="policy.create"), (NEXT, FIRST), strict=True):
        proof = auditor.proof(entry.event_id)
        assert verify_proof(proof.encode(), trust).trusted.checkpoint.origin == origin


def test_a_part_of_an_ended_log_is_exported_too(served: Served, tmp_path: Path) -> None:
    auditor = served.platform.as_("auditor").audit
    entries = [one for one in auditor.events() if one.action == "project.create"]
    begin = entries[0].ts.isoformat()
    with (tmp_path / "part.zip").open("wb") as out:
        auditor.export(out, since=begin, origin=FIRST)
    report = verify_bundle(tmp_path / "part.zip", parse_policy(served.lost.trust.read_bytes()))
    assert report.ok, report.problems
    assert (report.origin, report.scope is not None) == (FIRST, True)
    assert parse_note(auditor.checkpoint_of(1).encode())[0].splitlines()[0] == FIRST
    assert decode_base64(parse_note(auditor.checkpoint_of(1).encode())[0].splitlines()[2]) == served.checkpoint(1).root
