"""The platform of `ringi up` loses the end of its log, and goes on under the next name, as docs/audit.md tells it, step by step."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from ringi.audit.ringi_verify import parse_policy, verify_bundle
from ringi.cli.client import RingiClient
from ringi.cli.contexts import Profile, save_profile
from ringi.embedded import postgres
from ringi.embedded.processes import platform_down, platform_status
from ringi.identity.schemas import Role
from ringi.settings import get_settings
from support.shell import Shell
from support.waiting import until

OLD = get_settings().audit_origin
NEW = f"{OLD.removesuffix('1')}2"
TABLES = (
    "audit_pending",
    "audit_payload",
    "audit_leaf",
    "audit_node",
    "audit_checkpoint",
    "audit_cosignature",
    "audit_event",
    "audit_head",
)


@dataclass
class Embedded:
    """A data folder, its platform, and who types."""

    folder: Path
    shell: Shell

    def up(self, **environment: str) -> None:
        words = ("up", "--data-dir", str(self.folder), "--workers-gpu", "0", "--workers-cpu", "0", "--json")
        done = self.shell.process(*words, **environment)
        assert done.returncode == 0, done.stderr

    def audit_log(self) -> str:
        """What `/readyz` says of the log."""
        found = httpx.get(f"{platform_status(self.folder).api_url}/readyz", timeout=30).json()["dependencies"]["audit_log"]
        return str(found.get("detail") or found["state"])

    def scalar(self, query: str) -> object:
        with psycopg.connect(postgres.attach(self.folder).superuser_url.replace("+psycopg", "")) as database:
            return (database.execute(query.encode()).fetchone() or (None,))[0]

    def signed(self) -> bool:
        """Whether the newest checkpoint covers all that is committed."""
        newest = "(SELECT max(size) FROM audit_checkpoint c WHERE c.generation = h.generation)"
        return bool(self.scalar(f"SELECT (SELECT count(*) FROM audit_pending) = 0 AND {newest} = h.size FROM audit_head h"))

    def rewrite(self, *statements: str) -> None:
        """What only a restore does."""
        with psycopg.connect(postgres.attach(self.folder).superuser_url.replace("+psycopg", "")) as database:
            database.execute("SET session_replication_role = replica")
            for table in TABLES:
                database.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
            for statement in statements:
                database.execute(statement.encode())
            for table in TABLES:
                database.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER".encode())

    def audit(self, *arguments: str, **environment: str) -> dict[str, object]:
        found: dict[str, object] = self.shell.json("audit", *arguments, **environment)
        return found


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    made = Embedded(tmp_path / "データ", Shell(tmp_path, "http://127.0.0.1:9"))
    yield made
    platform_down(made.folder)


def join(embedded: Embedded) -> None:
    """Two administrators and an auditor, each with a profile."""
    done = embedded.shell.json("setup", "acme", "--admin", "kenji", "--data-dir", str(embedded.folder), "--save-as", "kenji")
    server = platform_status(embedded.folder).api_url or ""
    with RingiClient(server, done["token"]["token"]) as kenji:
        for name, role in (("yuki", Role.SYSTEM_ADMIN), ("auditor", Role.AUDITOR)):
            kenji.identity.create_user(name)
            kenji.identity.grant_role(name, role)
            token = kenji.identity.issue_token(name).token
            save_profile(embedded.shell.home / "config.json", name, Profile(server=server, token=token), replace=False)


def lose(embedded: Embedded) -> int:
    """The newest entries are those of a backup again; returns how many are left."""
    until(embedded.signed)
    embedded.rewrite("CREATE SCHEMA backup", *(f"CREATE TABLE backup.{table} AS TABLE {table}" for table in TABLES))
    kept = embedded.scalar("SELECT size FROM audit_head")
    assert isinstance(kept, int)
    embedded.shell.ok("projects", "create", "lost", "--profile", "kenji")
    until(embedded.signed)
    back = [f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM backup.{table}" for table in TABLES]
    embedded.rewrite(f"TRUNCATE {', '.join(TABLES)}", *back, "DROP SCHEMA backup CASCADE")
    until(lambda: embedded.audit_log().startswith("read-only: "), timeout_s=60)
    return kept


@pytest.mark.proof
def test_an_embedded_platform_goes_on_under_the_next_name_as_the_page_tells_it(embedded: Embedded, tmp_path: Path) -> None:
    embedded.up()
    join(embedded)
    admins = [str(embedded.audit("admin-key", str(tmp_path / f"{name}.key"), "--profile", name)["trust"]) for name in ("kenji", "yuki")]
    kept = lose(embedded)
    here = ("--data-dir", str(embedded.folder))
    statement = str(tmp_path / "statement")
    said = embedded.audit("propose-origin", statement, "--reason", "ディスク障害", *here)
    assert (said["held_size"], said["old_origin"], said["new_origin"]) == (kept, OLD, NEW)
    words = []
    for name in ("kenji", "yuki"):
        approval = str(tmp_path / f"approval-{name}")
        embedded.audit("approve-origin", statement, "--key", str(tmp_path / f"{name}.key"), "--save", approval)
        words += ["--approve", approval]
    trust = tmp_path / "trust"
    trust.write_text("\n".join([f"log {said['old_key']}", *admins, "quorum none", ""]))
    opened = embedded.audit("open-origin", statement, *words, "--trust", str(trust), *here)
    assert opened["origin"] == NEW
    lines = opened["trust"]
    assert isinstance(lines, list)
    trust.write_text("\n".join([*lines, *admins, "quorum none", ""]))
    # What still runs under the old name says so, and signs nothing.
    assert f"the log of this database is '{NEW}'" in embedded.audit_log()
    newest = "SELECT max(size) FROM audit_checkpoint WHERE generation = 2"
    before = embedded.scalar(newest)
    embedded.shell.refused("projects", "create", "refused", "--profile", "kenji", code="audit_origin_differs")
    platform_down(embedded.folder)
    embedded.up(RINGI_AUDIT_ORIGIN=NEW)
    assert embedded.audit_log() == "ok"
    embedded.shell.ok("projects", "create", "found", "--profile", "kenji")
    until(lambda: embedded.signed() and embedded.scalar(newest) != before)
    reports = []
    for name, words in (("old", ["--origin", OLD]), ("new", [])):
        bundle = tmp_path / f"{name}.zip"
        embedded.audit("export", str(bundle), *words, "--profile", "auditor")
        reports.append(verify_bundle(bundle, parse_policy(trust.read_bytes())))
    assert [report.problems for report in reports] == [[], []]
    assert [(report.origin, report.opened is not None) for report in reports] == [(OLD, False), (NEW, True)]
    checked = embedded.audit("verify", str(tmp_path / "new.zip"), "--trust", str(trust), "--against", str(tmp_path / "old.zip"))
    assert json.dumps(checked, ensure_ascii=False).count("ディスク障害") == 1
