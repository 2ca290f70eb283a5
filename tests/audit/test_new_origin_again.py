"""A log that is followed is followed again; and a backup of a database with several logs brings all of them back."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from audit.new_origin import FIRST, NEXT, THIRD, Lost, codes
from audit.sequencer_process import SequencerProcess
from audit.votes import Votes
from ringi.audit.export import is_sealed
from ringi.audit.generations import log_named, logs
from ringi.audit.reading import proof_file
from ringi.audit.ringi_verify import parse_policy, verify_bundle, verify_proof
from ringi.embedded.postgres import PostgresHandle
from support.postgres import DatabaseUrls, application, drop_database, empty_database
from support.shell import Shell
from support.waiting import until


def lost_again(lost: Lost) -> tuple[int, int]:
    """Opens the next log, in which two entries are signed and then lost too; how many were carried into each of the two that follow."""
    lost.lose()
    first = lost.succeed(NEXT)
    lost.lose()
    return first, lost.succeed(THIRD)


def test_a_log_that_followed_another_is_followed_itself_and_all_three_verify(lost: Lost) -> None:
    one = lost.anchored
    first, second = lost_again(lost)
    one.votes.cast("賛成")
    lost.seal()
    with one.sessions() as session:
        assert [found.origin for found in logs(session)] == [FIRST, NEXT, THIRD]
    exports = [lost.export("1", origin=FIRST), lost.export("2", origin=NEXT), lost.export("3")]
    reports = [lost.verify(path) for path in exports]
    assert [report.problems for report in reports] == [[], [], []]
    assert [report.origin for report in reports] == [FIRST, NEXT, THIRD]
    opened = [report.opened and (report.opened.old_origin, report.opened.lost, report.opened.carried) for report in reports]
    assert opened == [None, (FIRST, 2, first), (NEXT, 2, second)]
    # Every row is proven by exactly one of the three.
    assert sum(report.records for report in reports) == len(one.votes.rows)
    # Each follows the one before it, and says so of no other.
    assert lost.verify(exports[1], against=exports[0]).ok
    assert lost.verify(exports[2], against=exports[1]).ok
    assert lost.verify(exports[2], against=lost.before).ok
    assert codes(lost.verify(exports[2], against=exports[0])) == ["older_checkpoint_invalid"]
    trust = parse_policy(lost.trust.read_bytes())
    with one.sessions() as session:
        for number, origin in enumerate((FIRST, NEXT, THIRD), 1):
            event = lost.event_of(number, f"organization_id = '{one.actor.organization_id}' ORDER BY leaf_index LIMIT 1")
            assert verify_proof(proof_file(session, event, one.actor.organization_id), trust).trusted.checkpoint.origin == origin


def test_a_new_log_that_is_lost_before_its_first_entry_of_its_own_is_followed_too(lost: Lost) -> None:
    """The restored backup was taken right behind the opening: all that it holds of the new log was signed with it."""
    one = lost.anchored
    lost.lose()
    first = lost.succeed(NEXT)
    rows = lost.back_up()
    assert lost.kept == 1 + first
    lost.go_on()
    lost.seal()
    lost.restore(rows)
    one.superuser(f"INSERT INTO audit_stop (origin, code, message) VALUES ('{NEXT}', 'log_shortened', '欠けている')")
    assert lost.succeed(THIRD) == 0
    reports = [lost.verify(lost.export("2", origin=NEXT)), lost.verify(lost.export("3"))]
    assert [report.problems for report in reports] == [[], []]


class Restored:
    """Where a backup is restored: a database of its own, with keys and the signer's last word beside it."""

    def __init__(self, urls: DatabaseUrls, folder: Path) -> None:
        self.urls, self.folder = urls, folder
        self.keys, self.checkpoints = folder / "keys", folder / "checkpoints"

    def told(self) -> dict[str, str]:
        return {
            **told(self.urls), "RINGI_BLOB_URL": (self.folder / "store").as_uri(), "RINGI_AUDIT_KEY_FILE": str(self.keys / "audit.key"),
            "RINGI_PERSONAL_KEY_FILE": str(self.keys / "personal"), "RINGI_AUDIT_CHECKPOINT_DIR": str(self.checkpoints),
        }  # fmt: skip


def told(urls: DatabaseUrls) -> dict[str, str]:
    return {
        "RINGI_DATABASE_URL": urls.tenant_url, "RINGI_PLATFORM_DATABASE_URL": urls.app_url, "RINGI_OWNER_DATABASE_URL": urls.owner_url,
    }  # fmt: skip


@pytest.fixture
def restored(postgres_server: PostgresHandle, tmp_path: Path) -> Iterator[Restored]:
    made = Restored(empty_database(postgres_server, f"restored_{uuid4().hex[:8]}"), tmp_path / "復元")
    yield made
    drop_database(postgres_server, made.urls.name)


def variables(lost: Lost) -> dict[str, str]:
    """The variables under which `ringi backup` takes this platform's backup."""
    personal = lost.folder / "personal"
    personal.write_text("secret")
    return told(lost.anchored.urls) | {
        "RINGI_AUDIT_KEY_FILE": str(lost.files[0]), "RINGI_PERSONAL_KEY_FILE": str(personal),
        "RINGI_AUDIT_CHECKPOINT_DIR": str(lost.files[2].parent), "RINGI_BLOB_URL": (lost.folder / "store").as_uri(),
    }  # fmt: skip


def test_a_backup_of_two_logs_is_restored_with_both_and_goes_on_signing_the_one_that_grows(
    lost: Lost, restored: Restored, tmp_path: Path
) -> None:
    one, shell = lost.anchored, Shell(tmp_path, "http://127.0.0.1:9")
    lost.lose()
    lost.succeed(NEXT)
    one.votes.cast("賛成")
    lost.seal()
    backup = tmp_path / "バックアップ"
    environment = variables(lost)
    manifest = shell.json("backup", str(backup), "--data-dir", str(tmp_path / "data"), **environment)
    assert (manifest["origin"], manifest["log_size"]) == (NEXT, one.size())
    done = shell.run("restore", str(backup), "--data-dir", str(restored.folder), **restored.told())
    assert done.returncode == 0, done.stderr
    # The last word and the key are those of the log that grows.
    assert (restored.checkpoints / "last-signed").read_text().startswith(f"{NEXT}\n")
    assert (restored.keys / "audit.key").read_bytes() == lost.files[0].read_bytes()
    sequencer = SequencerProcess(restored.urls, restored.folder, RINGI_AUDIT_ORIGIN=NEXT)
    trust = parse_policy(lost.trust.read_bytes())
    with application(restored.urls) as sessions, sessions() as session:
        votes = Votes(sessions, one.actor)
        votes.rows = dict(one.votes.rows)
        sequencer.start()
        try:
            votes.cast("反対")
            until(lambda: is_sealed(session))
        finally:
            sequencer.kill()
        grown = verify_bundle(votes.export(tmp_path / "restored.zip"), trust, against=lost.export("original"))
        assert (grown.problems, grown.size) == ([], one.size() + 1)
        ended = verify_bundle(votes.export(tmp_path / "ended.zip", log=log_named(session, FIRST)), trust)
        assert (ended.problems, ended.size) == ([], lost.kept)
    assert "ALARM" not in sequencer.log.read_text()


def test_a_log_that_has_ended_and_was_changed_is_not_backed_up(lost: Lost, tmp_path: Path) -> None:
    one, shell = lost.anchored, Shell(tmp_path, "http://127.0.0.1:9")
    lost.lose()
    lost.succeed(NEXT)
    environment = variables(lost)
    one.superuser("UPDATE audit_leaf SET leaf_hash = sha256('other') WHERE generation = 1 AND leaf_index = 0")
    done = shell.run("backup", str(tmp_path / "bad"), "--data-dir", str(tmp_path / "data"), **environment)
    assert done.returncode == 1
    assert "entry 0 of log 1, which has ended, was changed" in " ".join(done.stderr.split())
    assert not (tmp_path / "bad").exists()
