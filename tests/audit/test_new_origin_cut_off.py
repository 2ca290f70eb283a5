"""Proposing and opening the log that follows, where something goes wrong on the way: nothing is half done, and the same command ends it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from audit.new_origin import FIRST, NEXT, STEM, Lost, codes, document
from ringi.audit import service
from ringi.audit.generations import AuditOriginDiffers
from ringi.audit.note import Signer, sign_checkpoint
from ringi.audit.ringi_verify import Checkpoint
from ringi.audit.schemas import AuditAction
from ringi.audit.sequence import SEQUENCE_LOCK
from ringi.audit.signing import load_signers
from support.postgres import ROOT
from support.waiting import until


def superuser(lost: Lost) -> psycopg.Connection:
    return psycopg.connect(lost.anchored.urls.superuser_url.replace("+psycopg", ""), autocommit=True)


@contextmanager
def dies_half_way(lost: Lost, *arguments: str, lock: str) -> Iterator[subprocess.Popen[str]]:
    """The program waits for `lock` behind what it has done already; then its connection is ended as a dying server ends it."""
    with superuser(lost) as holder, superuser(lost) as watcher:
        holder.execute("BEGIN")
        holder.execute(lock.encode())
        process = subprocess.Popen(
            [sys.executable, "-m", "ringi.succession", *arguments],
            env=lost.environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        waiting = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()"
        )
        found = until(lambda: watcher.execute(waiting).fetchone())
        assert found is not None
        watcher.execute("SELECT pg_terminate_backend(%s)", found)
        yield process


def said_by(process: subprocess.Popen[str]) -> dict[str, str]:
    out, err = process.communicate(timeout=60)
    return document(subprocess.CompletedProcess(process.args, process.returncode, out, err))


def test_an_opening_whose_database_dies_half_way_has_begun_nothing_and_the_same_command_opens(lost: Lost) -> None:
    lost.lose()
    assert lost.propose() == ""
    words = lost.files_of(lost.approvals())
    before = lost.footprint()
    # Behind every look, at the first row that it would remove, add or change.
    for lock in (f"SELECT pg_advisory_lock({SEQUENCE_LOCK})", "LOCK TABLE audit_checkpoint IN EXCLUSIVE MODE"):
        with dies_half_way(lost, "open", *words, lock=lock) as process:
            said = said_by(process)
        assert said["code"] == "database_unavailable"
        assert "run the same command again" in said["next_step"]
        assert lost.footprint() == before
    # Also as a person meets it.
    with superuser(lost) as owner:
        owner.execute("ALTER TABLE audit_origin ADD CONSTRAINT never CHECK (generation < 2)")
        refused = lost.run("open-origin", *words)
        assert (json.loads(refused.stderr)["code"], refused.returncode) == ("database_refused", 1)
        assert lost.footprint() == before
        owner.execute("ALTER TABLE audit_origin DROP CONSTRAINT never")
    assert lost.open() is not None


def test_a_proposal_that_fails_has_written_no_statement_and_the_same_command_writes_it_with_the_same_key(lost: Lost) -> None:
    lost.lose()
    before = lost.footprint()
    arguments = ("propose", str(lost.statement), "--reason", "復元")
    with dies_half_way(lost, *arguments, lock="LOCK TABLE audit_checkpoint") as process:
        assert said_by(process)["code"] == "database_unavailable"
    assert (lost.footprint(), lost.statement.exists()) == (before, False)
    nowhere = lost.start("-m", "ringi.succession", "propose", str(lost.folder / "none" / "statement"), "--reason", "復元")
    assert document(nowhere)["code"] == "file_unusable"
    drawn = lost.files[1].read_bytes()
    assert lost.propose() == ""
    assert lost.files[1].read_bytes() == drawn
    # What others may have approved already is not put aside by another name.
    assert lost.propose(origin=f"{STEM}二") == "audit_origin_proposed"
    assert lost.propose(origin=FIRST) == "audit_origin_opened"
    assert lost.files[1].read_bytes() == drawn
    aside = lost.files[1].rename(lost.folder / "elsewhere")
    assert lost.refused(*lost.approvals()) == "audit_origin_key_missing"
    aside.rename(lost.files[1])
    lost.statement.write_bytes(b"\xff\xfe")
    assert document(lost.start("-m", "ringi.succession", "open", *lost.files_of([])))["code"] == "file_unusable"
    assert lost.files[1].read_bytes() == drawn


def test_a_second_run_ends_an_opening_that_was_cut_off_between_the_database_and_the_files(lost: Lost) -> None:
    one = lost.anchored
    lost.lose()
    assert lost.propose() == ""
    before = [path.read_bytes() for path in lost.files]
    approvals = lost.approvals()
    assert lost.open(approvals) is not None
    events = one.scalar("SELECT count(*) FROM audit_event")
    aside = lost.files[2].with_name(f"last-signed-of-{FIRST.replace('/', '_')}")
    # Cut off before anything was put in place, behind the old word's renaming, behind the new word, and with the key.
    for last in (before[2], None, lost.files[2].read_bytes()):
        lost.files[0].write_bytes(before[0])
        lost.files[1].write_bytes(before[1])
        lost.files[1].chmod(0o600)
        lost.files[2].unlink(missing_ok=True)
        if last is not None:
            lost.files[2].write_bytes(last)
        assert lost.open(approvals) is None
        assert (lost.files[0].read_bytes(), lost.files[1].exists()) == (before[1], False)
        assert lost.files[2].read_text().startswith(f"{NEXT}\n")
        assert aside.read_bytes() == before[2]
    assert one.scalar("SELECT count(*) FROM audit_event") == events
    assert lost.refused(*approvals) == "audit_origin_opened"
    lost.rename(NEXT)
    one.votes.cast("賛成")
    lost.seal()
    assert lost.verify(lost.export("new")).ok


def test_a_checkpoint_that_only_an_auditor_kept_is_enough_and_nothing_else_is(lost: Lost) -> None:
    lost.lose()
    kept = lost.files[2].read_bytes()
    signer = load_signers(lost.files[0], FIRST)[0]
    # The machine of the signer was restored too: nobody here knows that anything is lost.
    lost.files[2].unlink()
    before = lost.footprint()
    assert lost.propose() == "audit_nothing_lost"
    other = sign_checkpoint(Checkpoint(FIRST, 9000, bytes(32)), Signer.generate(FIRST))
    elsewhere = sign_checkpoint(Checkpoint(NEXT, 9000, bytes(32)), Signer(NEXT, signer.seed))
    for note in (other, elsewhere, kept[:-20], kept.replace(b"\n", b"\r\n"), b"\xff\x00", b"", "賛成".encode()):
        assert lost.propose(note) == "audit_note_invalid"
    # One of no more than is held shows no loss.
    held = lost.anchored.scalar("SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1")
    assert isinstance(held, bytes)
    assert lost.propose(held) == "audit_nothing_lost"
    assert (lost.footprint(), lost.statement.exists()) == (before, False)
    (lost.folder / "証拠").write_bytes(kept)
    done = lost.run("propose-origin", str(lost.statement), "--reason", "復元", "--checkpoint", str(lost.folder / "証拠"))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["last_size"], said["held_size"]) == (lost.signed, lost.kept)
    lost.trust_in(said["old_key"], said["last_size"], said["new_key"])
    # The opening has it from the statement.
    assert lost.open() is not None
    lost.rename(NEXT)
    assert lost.verify(lost.export("new"), against=lost.before).ok


def test_who_holds_more_than_the_opening_admits_finds_that_the_loss_is_understated(lost: Lost) -> None:
    one = lost.anchored
    lost.lose()
    # What the platform itself remembers ends one entry before what an auditor holds: its file was put back too.
    newest = lost.files[2].read_bytes()
    signer = load_signers(lost.files[0], FIRST)[0]
    root = lost.root_before(lost.signed - 1)
    lost.files[2].write_bytes(sign_checkpoint(Checkpoint(FIRST, lost.signed - 1, root), signer))
    lost.succeed(NEXT)
    new = lost.export("new")
    assert lost.verify(new).ok
    (lost.folder / "newest").write_bytes(newest)
    assert f"#sizes 0-{lost.signed - 1}\n" in lost.trust.read_text()
    # Also with the lines that the opening told of, by which the old log signed no more than it admits: the bound is itself in question.
    assert codes(lost.verify(new, against=lost.folder / "newest")) == ["loss_understated"]
    assert codes(lost.verify(new, against=lost.before)) == ["loss_understated"]
    # What a stranger signed is no proof against it.
    (lost.folder / "newest").write_bytes(sign_checkpoint(Checkpoint(FIRST, 9000, bytes(32)), Signer.generate(FIRST)))
    assert codes(lost.verify(new, against=lost.folder / "newest")) == ["older_checkpoint_invalid"]
    assert one.stopped() is None


def test_whoever_began_before_the_opening_writes_nothing_into_the_new_log_behind_it(lost: Lost) -> None:
    one = lost.anchored
    lost.lose()
    assert lost.propose() == ""
    events = "SELECT count(*) FROM audit_event"
    engine = create_engine(one.urls.app_url)
    with Session(engine) as ordinary, Session(engine) as repeatable, Session(engine) as serializable:
        repeatable.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        serializable.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        writers = (ordinary, repeatable, serializable)
        for session in writers:
            assert session.scalar(text("SELECT generation FROM audit_head")) == 1
        carried = lost.open()
        before = one.scalar(events)
        assert repeatable.scalar(text("SELECT generation FROM audit_head")) == 1
        # What goes through in read-only mode, so that nothing but the log's name is in its way.
        with pytest.raises(AuditOriginDiffers):
            service.record(ordinary, one.actor, AuditAction.TOKEN_REVOKE, object_type="token", object_id="1")
        for session in (repeatable, serializable):
            with pytest.raises(DBAPIError, match="READ COMMITTED"):
                service.record(session, one.actor, AuditAction.TOKEN_REVOKE, object_type="token", object_id="1")
        for session in writers:
            session.rollback()
    engine.dispose()
    assert one.scalar(events) == before
    lost.rename(NEXT)
    lost.revoke()
    lost.seal()
    report = lost.verify(lost.export("new"))
    assert report.ok, report.problems
    assert report.opened is not None
    assert (report.opened.carried, report.size) == (carried, 2 + (carried or 0))


def test_an_event_in_flight_at_the_opening_is_carried_or_refused_and_never_lost(lost: Lost) -> None:
    """The opening waits for who has written, and who comes later waits for it."""
    one = lost.anchored
    lost.lose()
    assert lost.propose() == ""
    with one.sessions() as early:
        service.record(early, one.actor, AuditAction.TOKEN_REVOKE, object_type="token", object_id="早い")
        process = subprocess.Popen(
            [sys.executable, "-m", "ringi.succession", "open", *lost.files_of(lost.approvals())], env=lost.environ(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with superuser(lost) as watcher:
            waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            until(lambda: watcher.execute(waiting).fetchone())
        early.commit()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    # The stop, the revocation of before, and this one.
    assert json.loads(out)["carried"] == 3
    lost.rename(NEXT)
    assert lost.event_of(2, "object_id = '早い'")
    assert lost.verify(lost.export("new")).ok


def test_a_database_of_two_logs_is_not_taken_back_to_where_it_would_hold_one(lost: Lost) -> None:
    lost.lose()
    lost.succeed(NEXT)
    before = lost.footprint()
    environment = os.environ | {"RINGI_OWNER_DATABASE_URL": lost.anchored.urls.owner_url, "RINGI_DATABASE_URL": lost.anchored.urls.app_url}
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "downgrade", "0020"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "This database holds 2 audit logs" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert lost.footprint() == before
    assert lost.anchored.scalar("SELECT version_num FROM alembic_version") != "0020"
    assert Path(lost.export("new")).exists()
