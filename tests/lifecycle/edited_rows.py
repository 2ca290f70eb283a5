"""The last chapter of the story: an export verifies on a machine without a platform, and names the row that somebody edited."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from ringi.audit import ringi_verify
from ringi.audit.ringi_verify import verify_bundle
from support.running_platform import PROJECT, Platform
from support.story import ADAPTER
from support.waiting import until

# An auditor's machine: no settings of the platform, and nothing of it but the verifier is loaded.
_VERIFY = """
import json, sys
from pathlib import Path
from ringi.audit import ringi_verify
from ringi.audit.ringi_verify import verify_bundle
report = verify_bundle(Path(sys.argv[1]), sys.argv[2])
loaded = sorted({"sqlalchemy", "psycopg", "httpx", "fastapi"} & set(sys.modules))
print(json.dumps({"ok": report.ok, "records": report.records, "size": report.size, "loaded": loaded}))
"""


def export(platform: Platform, path: Path) -> Path:
    with path.open("wb") as out:
        platform.as_("auditor").audit.export(out)
    return path


def an_export_verifies_offline_until_someone_edits(platform: Platform, tmp_path: Path) -> None:
    auditor = platform.as_("auditor")
    newest = next(auditor.audit.trail(PROJECT, ADAPTER))
    until(
        lambda: any(entry.event_id == newest.event_id and entry.index is not None for entry in auditor.audit.trail(PROJECT, ADAPTER)),
        pause_s=0.1,
    )
    key = auditor.audit.key().vkey
    assert auditor.audit.checkpoint().startswith(auditor.audit.key().origin)
    bundle = export(platform, tmp_path / "whole.zip")
    verified_on_a_machine_without_a_database(bundle, key)
    vote = next(one for one in auditor.approvals.all(PROJECT) if one.version.endswith(":v1")).votes[0]
    with psycopg.connect(superuser(platform), autocommit=True) as database:
        (reason,) = database.execute("SELECT reason FROM approval_votes WHERE id = %s", [vote.id]).fetchone() or ("",)
        edit_vote(database, str(vote.id), "まだ承認しない")
        try:
            report = verify_bundle(export(platform, tmp_path / "edited-vote.zip"), key)
        finally:
            edit_vote(database, str(vote.id), reason)
    assert not report.ok
    assert {problem.object for problem in report.problems} == {f"approval_vote {vote.id}"}
    assert {problem.action for problem in report.problems} == {"approval.vote"}
    an_edited_event_is_named(platform, tmp_path, key, str(vote.id))
    assert verify_bundle(export(platform, tmp_path / "mended.zip"), key).ok


def verified_on_a_machine_without_a_database(bundle: Path, key: str) -> None:
    command = [sys.executable, "-c", _VERIFY, str(bundle), key]
    # This code, wherever the interpreter's own installation comes from.
    environment = {"PATH": "", "PYTHONPATH": str(Path(ringi_verify.__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=bundle.parent)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["ok"], said["loaded"]) == (True, [])
    assert said["records"] > 5


def superuser(platform: Platform) -> str:
    return platform.processes.urls.superuser_url.replace("postgresql+psycopg", "postgresql")


def edit_vote(database: psycopg.Connection, vote: str, reason: str) -> None:
    guards = database.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'approval_votes'::regclass AND NOT tgisinternal").fetchall()
    for (guard,) in guards:
        database.execute(f"ALTER TABLE approval_votes DISABLE TRIGGER {guard}")
    database.execute("UPDATE approval_votes SET reason = %s WHERE id = %s", [reason, vote])
    for (guard,) in guards:
        database.execute(f"ALTER TABLE approval_votes ENABLE ALWAYS TRIGGER {guard}")


def write_event(database: psycopg.Connection, event: int, body: bytes) -> None:
    hashed = hashlib.sha256(b"\x00" + body).digest()
    database.execute("UPDATE audit_event SET body = %s, leaf_hash = %s WHERE id = %s", [body, hashed, event])


def an_edited_event_is_named(platform: Platform, tmp_path: Path, key: str, vote: str) -> None:
    with psycopg.connect(superuser(platform), autocommit=True) as database:
        row = database.execute("SELECT id, body FROM audit_event WHERE object_id = %s AND action = 'approval.vote'", [vote]).fetchone()
        assert row is not None
        event, body = row
        with pytest.raises(psycopg.errors.RestrictViolation):
            database.execute("UPDATE audit_event SET body = ''::bytea WHERE id = %s", [event])
        database.execute("ALTER TABLE audit_event DISABLE TRIGGER audit_event_no_change")
        try:
            forged = body.replace(b'"approve"', b'"reject"')
            assert forged != body
            # The hash beside the body is rewritten with it, as a forger would; the table's own check would tell otherwise.
            write_event(database, event, forged)
            report = verify_bundle(export(platform, tmp_path / "edited-event.zip"), key)
        finally:
            write_event(database, event, body)
            database.execute("ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_no_change")
    assert not report.ok
    assert ("entry_changed", f"approval_vote {vote}") in {(problem.code, problem.object) for problem in report.problems}
