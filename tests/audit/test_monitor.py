"""The monitor: it finds nothing where nothing was done behind the log's back, and names every row that a superuser edited."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session

from audit.scene import ADAPTER, Scene, set_up
from ringi.adapters.schemas import VersionState
from ringi.approvals.schemas import VoteDecision
from ringi.audit.note import Signer, cosign, sign_checkpoint
from ringi.audit.ringi_verify import COSIGNATURE, Checkpoint, Policy, parse_note
from ringi.audit.signing import CheckpointFile, load_signers
from ringi.identity.schemas import Role
from ringi.monitor.chain import Logs
from ringi.monitor.compare import differences
from ringi.monitor.replay import Replay
from ringi.monitor.tables import engine_of, live_rows
from support.hub_client import free_port
from support.running_platform import MONITOR_TOKEN, PROJECT, Platform, Processes, new_organization
from support.waiting import until

pytestmark = pytest.mark.long


@dataclass
class Watched:
    """A full life, and a monitor of it with a state folder of its own and a role that may only look."""

    scene: Scene
    folder: Path
    database: str

    @property
    def platform(self) -> Platform:
        return self.scene.platform

    def run(self, *options: str, **extra: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "trust").write_text(f"log {self.platform.as_('auditor').audit.key().vkey}\nquorum none\n")
        given = ["--server", self.platform.server, "--trust", str(self.folder / "trust"), "--state", str(self.folder / "state")]
        told = {"RINGI_MONITOR_TOKEN": MONITOR_TOKEN, "RINGI_MONITOR_DATABASE_URL": self.database} | extra
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RINGI_")}
        command = [sys.executable, "-m", "ringi.monitor", *given, "--organization", str(self.scene.organization), *options]
        return subprocess.run(command, env=clean | told, capture_output=True, text=True, check=False, timeout=120)

    def look(self, *options: str) -> dict[str, Any]:
        done = self.run("--json", *options)
        assert done.returncode in {0, 1}, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) is found["ok"]
        return found


@pytest.fixture(scope="module")
def watched(shared_platform: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    role, password = f"monitor_{uuid4().hex[:8]}", uuid4().hex
    urls = shared_platform.urls
    with psycopg.connect(urls.superuser_url.replace("+psycopg", ""), autocommit=True) as connection:
        name = sql.Identifier(role)
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN BYPASSRLS PASSWORD {}").format(name, sql.Literal(password)))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(urls.name), name))
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
        connection.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(name))
        with new_organization(shared_platform) as platform:
            scene = set_up(platform)
            try:
                a_full_life(scene)
                database = urls.superuser_url.partition("@")[2]
                yield Watched(scene, tmp_path_factory.mktemp("monitor"), f"postgresql+psycopg://{role}:{password}@{database}")
            finally:
                scene.close()
        connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
        connection.execute(sql.SQL("DROP ROLE {}").format(name))


def a_full_life(scene: Scene) -> None:
    """Everything that changes a state which the monitor replays."""
    platform = scene.platform
    admin, contributor = platform.as_("admin").identity, platform.as_("contributor")
    scene.sealed(4)
    scene.live("v1")
    scene.live("v2")
    platform.as_("deployer").releases.roll_back(PROJECT, ADAPTER, channel="production", reason="応答が短すぎるため戻す")
    contributor.adapters.advance(PROJECT, ADAPTER, "v3", to=VersionState.DEPRECATED, reason="これ以上は使わないため")
    platform.as_("incident_commander").adapters.advance(
        PROJECT, ADAPTER, "v4", to=VersionState.REVOKED, reason="漏えいの疑いがあるため停止する"
    )
    rejected = contributor.approvals.request(PROJECT, ADAPTER, "v2", environment="staging")
    platform.as_("reviewer").approvals.vote(PROJECT, rejected, decision=VoteDecision.REJECT, reason="評価の件数がまだ足りないため")
    withdrawn = contributor.approvals.request(PROJECT, ADAPTER, "v2", environment="canary")
    contributor.approvals.withdraw(PROJECT, withdrawn.id, reason="評価をやり直して出直します")
    unsure = contributor.approvals.request(PROJECT, ADAPTER, "v2", environment="lab")
    platform.add_user("mai", Role.REVIEWER)
    platform.as_("mai").approvals.vote(PROJECT, unsure, decision=VoteDecision.REJECT, reason="個人の見解は消してもよい")
    admin.erase_user("mai", "本人の請求により個人の文章を消す")
    for name in ("yuki", "ren"):
        admin.create_user(name)
    held = admin.grant_role("yuki", Role.EVALUATOR, project=PROJECT, days=30)
    admin.grant_role("ren", Role.REVIEWER, project=PROJECT)
    admin.revoke_role(held.id)
    admin.revoke_token(admin.issue_token("yuki").details.id)
    for verb in ("disable", "enable", "disable"):
        assert platform.call("admin", "POST", f"/users/yuki/{verb}").is_success


def test_an_untouched_platform_is_what_its_log_says(watched: Watched) -> None:
    report = watched.look()
    assert (report["findings"], report["unseen"]) == ([], None)
    compared = {"organization", "project", "user", "membership", "token", "base_revision", "adapter_version", "evaluation", "approval_policy",
                "approval_request", "approval_vote", "approval_grant", "channel", "channel_head", "release"}  # fmt: skip
    assert compared <= set(report["rows"])
    text = watched.run()
    assert (text.returncode, text.stdout.partition(":")[0]) == (0, "FINE ringi-monitor")


def edits_of_people(scene: Scene) -> dict[str, tuple[str, str, tuple[str, str, str | None]]]:
    """What a superuser does: table, statement, and the finding that names it."""
    member = "(SELECT id FROM users WHERE organization_id = '{}' AND name = '{}')"
    ren, yuki = (member.format(scene.organization, name) for name in ("ren", "yuki"))
    return {
        "a role that nobody gave": (
            "memberships", f"INSERT INTO memberships (id, organization_id, user_id, project_id, role, granted_by) SELECT gen_random_uuid(), organization_id, {ren}, project_id, 'deployer', granted_by FROM memberships WHERE user_id = {ren} RETURNING id::text",
            ("row_without_entry", "membership", None),
        ),
        "a role that does not end": (
            "memberships", f"UPDATE memberships SET revoked_at = NULL WHERE user_id = {yuki} AND revoked_at IS NOT NULL RETURNING id::text",
            ("row_differs", "membership", "revoked"),
        ),
        "another role": (
            "memberships", f"UPDATE memberships SET role = 'risk_owner' WHERE user_id = {ren} RETURNING id::text", ("row_differs", "membership", "role"),
        ),
        "a role given by someone else": (
            "memberships", f"UPDATE memberships SET granted_by = {yuki} WHERE user_id = {ren} RETURNING id::text", ("row_differs", "membership", "record"),
        ),
        "a token with another secret": (
            "tokens", f"UPDATE tokens SET secret_hash = repeat('a', 64) WHERE user_id = {yuki} RETURNING id::text", ("row_differs", "token", "record"),
        ),
        "a token that is good again": (
            "tokens", f"UPDATE tokens SET revoked_at = NULL WHERE user_id = {yuki} RETURNING id::text", ("row_differs", "token", "revoked"),
        ),
        "a user who may come in again": (
            "users", f"UPDATE users SET disabled_at = NULL WHERE id = {yuki} RETURNING id::text", ("row_differs", "user", "disabled"),
        ),
    }  # fmt: skip


def edits_of_approvals(scene: Scene) -> dict[str, tuple[str, str, tuple[str, str, str | None]]]:
    """The same, of what is judged and served."""
    where = f"project_id IN (SELECT id FROM projects WHERE organization_id = '{scene.organization}')"
    first = "id = (SELECT id FROM {} WHERE {} ORDER BY id LIMIT 1)"
    return {
        "a grant that never ends": (
            "approval_grants", f"UPDATE approval_grants SET expires_at = '2099-01-01' WHERE {first.format('approval_grants', where)} RETURNING id::text",
            ("row_differs", "approval_grant", "record"),
        ),
        "a channel that serves another version": (
            "channel_heads", f"UPDATE channel_heads SET version_id = (SELECT v.id FROM adapter_versions v WHERE v.adapter_id = channel_heads.adapter_id AND number = 4) WHERE {where} RETURNING project_id || '/' || channel || '/' || adapter_id",
            ("row_differs", "channel_head", "version"),
        ),
        "a revoked version that lives again": (
            "adapter_versions", f"UPDATE adapter_versions SET state = 'sealed' WHERE {where} AND number = 4 RETURNING id::text",
            ("row_differs", "adapter_version", "state"),
        ),
        "other files under the same name": (
            "adapter_versions", f"UPDATE adapter_versions SET files = jsonb_set(files, '{{0,digest}}', to_jsonb('sha256:' || repeat('0', 64))) WHERE {where} AND number = 1 RETURNING id::text",
            ("row_differs", "adapter_version", "files"),
        ),
        "a vote that was not cast": (
            "approval_votes", f"DELETE FROM approval_votes WHERE {first.format('approval_votes', where)} RETURNING id::text",
            ("row_missing", "approval_vote", None),
        ),
        "a no that became a yes": (
            "approval_votes", f"UPDATE approval_votes SET decision = 'approve' WHERE {where} AND decision = 'reject' RETURNING id::text",
            ("row_differs", "approval_vote", "decision"),
        ),
        "a reason that nobody wrote": (
            "approval_votes", f"UPDATE approval_votes SET reason = '問題ありません' WHERE {where} AND decision = 'reject' RETURNING id::text",
            ("row_differs", "approval_vote", "record"),
        ),
        "a request that is open again": (
            "approval_requests", f"UPDATE approval_requests SET state = 'in_review' WHERE {where} AND state = 'rejected' RETURNING id::text",
            ("row_differs", "approval_request", "state"),
        ),
        "evidence with another outcome": (
            "evaluations", f"UPDATE evaluations SET summary = jsonb_set(summary, '{{verdict}}', '\"worse\"') WHERE {first.format('evaluations', where)} RETURNING id::text",
            ("row_differs", "evaluation", "verdict"),
        ),
        "a policy that asks for less": (
            "approval_policies", f"UPDATE approval_policies SET document = jsonb_set(document, '{{grant_ttl_d}}', '9999') WHERE {where} RETURNING id::text",
            ("row_differs", "approval_policy", "record"),
        ),
        "a base with another fingerprint": (
            "base_revisions", f"UPDATE base_revisions SET parts = jsonb_set(parts, '{{F1}}', '\"other\"') WHERE organization_id = '{scene.organization}' RETURNING id::text",
            ("row_differs", "base_revision", "F1"),
        ),
        "a channel of another environment": (
            "channels", f"UPDATE channels SET environment = 'staging' WHERE {where} RETURNING id::text", ("row_differs", "channel", "environment"),
        ),
    }  # fmt: skip


def found_by(watched: Watched, replay: Replay, connection: Connection) -> set[tuple[str, str | None, str | None, str | None]]:
    """What the monitor says of the rows as this connection sees them."""
    with Session(bind=connection) as session:
        rows = {(row.kind, row.id): row for row in live_rows(session)}
    found = differences(replay, rows, organization=str(watched.scene.organization))
    return {(one.code, one.kind, one.id, one.field) for one in found}


@pytest.fixture
def replay(watched: Watched, tmp_path: Path) -> Replay:
    """The log as it stands, replayed."""
    assert watched.look()["ok"]
    policy, made = Policy.of_log(watched.platform.as_("auditor").audit.key().vkey), Replay()
    with httpx.Client(base_url=watched.platform.server, headers={"Authorization": f"Bearer {MONITOR_TOKEN}"}) as client:
        Logs(client, policy, CheckpointFile(tmp_path)).grow(lambda entry: made.apply([entry]))
    return made


def test_every_edit_of_a_superuser_is_found_and_named(watched: Watched, replay: Replay) -> None:
    """Each in a transaction that looks at itself and is rolled back; the guards' triggers do not stop a superuser."""
    engine, missed = create_engine(watched.platform.processes.urls.superuser_url), {}
    for name, (table, statement, (code, kind, field)) in (edits_of_people(watched.scene) | edits_of_approvals(watched.scene)).items():
        with engine.connect() as connection:
            assert found_by(watched, replay, connection) == set()
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
            touched = list(connection.scalars(text(statement.replace(":", "\\:"))))
            assert touched, name
            found = found_by(watched, replay, connection)
            connection.rollback()
        if found != {(code, kind, one, field) for one in touched}:
            missed[name] = (found, touched)
    engine.dispose()
    assert missed == {}


def test_a_committed_edit_ends_the_process_with_1_and_its_figures_say_so(watched: Watched) -> None:
    url = watched.platform.processes.urls.superuser_url.replace("+psycopg", "")
    change = "UPDATE channels SET environment = %s WHERE project_id IN (SELECT id FROM projects WHERE organization_id = %s)"
    metrics = watched.folder / "monitor.prom"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE channels DISABLE TRIGGER ALL")
        try:
            connection.execute(change, ["staging", watched.scene.organization])
            done = watched.run("--metrics", str(metrics))
        finally:
            connection.execute(change, ["production", watched.scene.organization])
            connection.execute("ALTER TABLE channels ENABLE TRIGGER ALL")
    assert done.returncode == 1
    assert done.stdout.startswith("ALARM ringi-monitor: row_differs: channel ")
    assert "environment is 'staging' in the table; entry" in done.stdout
    assert 'ringi_monitor_findings{code="row_differs"} 1' in metrics.read_text()
    assert watched.run("--metrics", str(metrics)).returncode == 0
    assert 'ringi_monitor_findings{code="any"} 0' in metrics.read_text()


def test_columns_of_an_entry_that_are_not_what_its_bytes_say_are_an_incident(watched: Watched) -> None:
    vote = next(watched.platform.as_("auditor").audit.events(action="approval.vote"))
    url = watched.platform.processes.urls.superuser_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit_event DISABLE TRIGGER ALL")
        before = connection.execute("SELECT actor_id FROM audit_event WHERE event_id = %s", [vote.event_id]).fetchone()
        assert before is not None
        try:
            connection.execute("UPDATE audit_event SET actor_id = %s WHERE event_id = %s", [str(uuid4()), vote.event_id])
            found = watched.look()
            shown = next(watched.platform.as_("auditor").audit.events(action="approval.vote"))
        finally:
            connection.execute("UPDATE audit_event SET actor_id = %s WHERE event_id = %s", [*before, vote.event_id])
            connection.execute("ALTER TABLE audit_event ENABLE TRIGGER ALL")
    ((code, event),) = [(one["code"], one["event_id"]) for one in found["findings"]]
    assert (code, event) == ("columns_changed", str(vote.event_id))
    # Who acted is read from the bytes.
    assert shown.actor == vote.actor
    assert watched.look()["ok"]


def test_it_only_looks_and_says_when_it_cannot(watched: Watched) -> None:
    with (
        psycopg.connect(watched.database.replace("+psycopg", ""), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("UPDATE users SET disabled_at = NULL")
    engine = engine_of(watched.platform.processes.urls.superuser_url)
    with engine.connect() as connection, pytest.raises(InternalError):
        connection.execute(text("UPDATE users SET disabled_at = NULL"))
    engine.dispose()
    for missing in ({"RINGI_MONITOR_TOKEN": "another"}, {"RINGI_MONITOR_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"}):
        done = watched.run(**missing)
        assert (done.returncode, done.stdout[:5]) == (2, "BLIND")
    assert watched.run(RINGI_MONITOR_TOKEN="").returncode == 2


def test_a_log_that_forgot_or_forks_is_told_from_the_checkpoint_that_was_kept(watched: Watched, tmp_path: Path) -> None:
    """The monitor's own memory stands against whatever the platform shows: here it kept what another tree would have led to."""
    assert watched.look()["ok"]
    kept = watched.folder / "state" / "last-signed"
    good = kept.read_bytes()
    checkpoint = Checkpoint.parse(parse_note(good)[0])
    signer = load_signers(Path(watched.platform.processes.environment["RINGI_AUDIT_KEY_FILE"]), checkpoint.origin)[0]
    forgeries = {
        "split_view": Checkpoint(checkpoint.origin, checkpoint.size, bytes(32)),
        "log_shortened": Checkpoint(checkpoint.origin, checkpoint.size + 10**6, checkpoint.root),
    }
    try:
        for code, forged in forgeries.items():
            kept.write_bytes(sign_checkpoint(forged, signer))
            assert [one["code"] for one in watched.look()["findings"]] == [code]
        kept.write_bytes(good.replace(b"\n", b"\r\n"))
        assert [one["code"] for one in watched.look()["findings"]] == ["audit_note_invalid"]
    finally:
        kept.write_bytes(good)
    assert watched.look()["ok"]


@pytest.fixture
def with_a_quorum(watched: Watched, tmp_path: Path) -> Iterator[str]:
    """The address of an API whose quorum is a witness that has cosigned once and is away since."""
    processes, away = watched.platform.processes, Signer.generate("witness.example/away", kind=COSIGNATURE)
    with psycopg.connect(processes.urls.superuser_url.replace("+psycopg", ""), autocommit=True) as connection:
        found = connection.execute("SELECT size, note FROM audit_checkpoint ORDER BY size LIMIT 1").fetchone()
        assert found is not None
        size, note = found
        row = (Checkpoint.parse(parse_note(note)[0]).origin, size, f"{away.name}+{away.verifier.id.hex()}", cosign(note, away, at=1))
        connection.execute("INSERT INTO audit_cosignature (origin, size, witness, line) VALUES (%s, %s, %s, %s)", row)
    vkey, policy, port = watched.platform.as_("auditor").audit.key().vkey, tmp_path / "witnesses", free_port()
    policy.write_text(f"log {vkey}\nwitness 監査 {away.verifier} http://127.0.0.1:1\nquorum 監査\n", encoding="utf-8")
    name, url = "api-with-a-quorum", f"http://127.0.0.1:{port}"
    process = processes.start(name, "ringi.api", "--port", str(port), RINGI_WITNESSES=str(policy))

    def answers() -> bool:
        assert process.poll() is None, processes.log_of(name)
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    until(answers)
    yield url
    processes.running.pop(name).terminate()
    process.wait(timeout=30)


def test_a_witness_that_is_away_hides_nothing_from_the_monitor(watched: Watched, with_a_quorum: str) -> None:
    def shown(headers: dict[str, str], log: str = "log") -> int:
        answer = httpx.get(f"{with_a_quorum}/api/v1/audit/{log}/checkpoint", headers=headers)
        assert answer.status_code == 200, answer.text
        return Checkpoint.parse(parse_note(answer.content)[0]).size

    report = watched.look("--server", with_a_quorum, "--wait", "20")
    assert (report["findings"], report["unseen"]) == ([], None)
    auditor = {"Authorization": f"Bearer {watched.platform.tokens['auditor']}"}
    for log in ("log", "logs/1"):
        assert shown(auditor, log) < report["size"] <= shown({"Authorization": f"Bearer {MONITOR_TOKEN}"}, log)


def test_behind_the_tables_it_says_so_and_accuses_no_row(watched: Watched) -> None:
    processes = watched.platform.processes
    assert watched.look()["ok"]
    processes.send("sequencer", signal.SIGSTOP)
    try:
        watched.platform.as_("admin").identity.create_user(f"u{uuid4().hex[:8]}")
        report = watched.look("--wait", "0.5")
    finally:
        processes.send("sequencer", signal.SIGCONT)
    assert ([one["code"] for one in report["findings"]], report["rows"]) == (["log_behind"], {})
    assert watched.look()["ok"]


def test_it_goes_on_looking_and_sees_what_comes(watched: Watched) -> None:
    """The second round reads only what was added, and knows what it had read."""
    told = {"RINGI_MONITOR_TOKEN": MONITOR_TOKEN, "RINGI_MONITOR_DATABASE_URL": watched.database, "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", "")}  # fmt: skip
    (watched.folder / "trust").write_text(f"log {watched.platform.as_('auditor').audit.key().vkey}\nquorum none\n")
    command = [sys.executable, "-m", "ringi.monitor", "--server", watched.platform.server, "--trust", str(watched.folder / "trust")]
    command += ["--state", str(watched.folder / "other"), "--organization", str(watched.scene.organization), "--watch", "0.1", "--json"]
    with subprocess.Popen(command, env=told, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        watched.platform.as_("admin").identity.create_user(f"u{uuid4().hex[:8]}")
        while (again := json.loads(process.stdout.readline()))["rows"]["user"] == first["rows"]["user"]:
            assert again["ok"], again
        process.terminate()
    assert first["ok"]
    assert again["ok"], again
    assert again["size"] > first["size"]
