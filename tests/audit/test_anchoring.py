"""The sequencer with a real witness and a write-once folder: what is anchored when, and what makes the platform read-only."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from audit.sequencer_process import SequencerProcess
from audit.votes import Votes
from ringi.audit import service
from ringi.audit.anchor_folder import AnchorFolder, AnchorFolderAway
from ringi.audit.export import is_sealed
from ringi.audit.note import Signer, sign_checkpoint
from ringi.audit.published import published
from ringi.audit.read_only import AuditReadOnly
from ringi.audit.reading import proof_file
from ringi.audit.ringi_verify import Checkpoint, Policy, leaf_hash, parse_policy, root_of, verify_bundle, verify_proof
from ringi.audit.schemas import AuditAction
from ringi.audit.signing import load_or_create_signers
from ringi.kit.actor import Actor
from ringi.settings import get_settings
from support.postgres import DatabaseUrls, application
from support.waiting import until
from support.witness import WitnessProcess

pytestmark = pytest.mark.long

ORIGIN = get_settings().audit_origin
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


class Anchored:
    """A database, its sequencer, a witness, and the folder."""

    def __init__(self, urls: DatabaseUrls, sessions: sessionmaker[Session], folder: Path, actor: Actor) -> None:
        self.urls, self.sessions, self.folder, self.actor = urls, sessions, folder, actor
        self.votes = Votes(sessions, actor)
        signer = load_or_create_signers(folder / "keys" / "audit.key", ORIGIN)[0]
        self.vkey = str(signer.verifier)
        self.witness = WitnessProcess(folder / "witness", signer.verifier)
        self.policy = folder / "witnesses"
        self.trust = f"log {self.vkey}\nwitness 監査 {self.witness.vkey} {self.witness.url}\nquorum 監査\n"
        self.policy.write_text(self.trust, encoding="utf-8")
        self.anchors = folder / "anchors"
        self.anchors.mkdir()
        self.sequencer = SequencerProcess(
            urls, folder, RINGI_WITNESSES=str(self.policy), RINGI_ANCHOR_DIR=str(self.anchors), RINGI_ANCHOR_EVERY_S="3600"
        )

    def record(self, action: AuditAction) -> None:
        with self.sessions.begin() as session:
            service.record(session, self.actor, action, object_type="adapter_version", object_id=uuid4())

    def scalar(self, query: str) -> object:
        with self.sessions() as session:
            return session.scalar(text(query))

    def cosigned(self) -> int:
        found = self.scalar("SELECT coalesce(max(size), 0) FROM audit_cosignature")
        assert isinstance(found, int)
        return found

    def sealed(self) -> bool:
        with self.sessions() as session:
            return is_sealed(session)

    def size(self) -> int:
        found = self.scalar("SELECT size FROM audit_head")
        assert isinstance(found, int)
        return found

    def stopped(self) -> object:
        return self.scalar("SELECT code FROM audit_stop WHERE ended_at IS NULL")

    def superuser(self, *statements: str) -> None:
        with psycopg.connect(self.urls.superuser_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            for table in (*TABLES, "audit_stop"):
                connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
            for statement in statements:
                connection.execute(statement.encode())
            for table in (*TABLES, "audit_stop"):
                connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER".encode())

    def back_up(self) -> None:
        self.superuser("CREATE SCHEMA backup", *(f"CREATE TABLE backup.{table} AS TABLE {table}" for table in TABLES))

    def restore(self) -> None:
        copies = [f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM backup.{table}" for table in TABLES]
        self.superuser(f"TRUNCATE {', '.join(TABLES)}", *copies)

    def operate(self, *arguments: str, owner: bool = True, typed: bool = False) -> subprocess.CompletedProcess[str]:
        """What `ringi audit …` runs where the settings of the platform are set; `typed`: that verb itself."""
        environ = self.sequencer.environment | ({"RINGI_OWNER_DATABASE_URL": self.urls.owner_url} if owner else {})
        verb = ["-c", "from ringi.cli.main import run; run()", "audit", *arguments, "--json"]
        command = [sys.executable, *(verb if typed else ["-m", "ringi.audit.operating", *arguments])]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def anchored(database: DatabaseUrls, tmp_path: Path, actor: Actor) -> Iterator[Anchored]:
    with application(database) as sessions:
        made = Anchored(database, sessions, tmp_path, actor)
        yield made
        made.sequencer.kill()
        made.witness.end()


@pytest.fixture
def reading(anchored: Anchored, monkeypatch: pytest.MonkeyPatch) -> Iterator[Anchored]:
    """This process serves checkpoints as an API with RINGI_WITNESSES does."""
    monkeypatch.setenv("RINGI_WITNESSES", str(anchored.policy))
    get_settings.cache_clear()
    yield anchored
    get_settings.cache_clear()


def test_a_grant_is_cosigned_at_once_and_a_real_export_and_a_proof_pass_with_the_quorum(reading: Anchored) -> None:
    anchored, trust = reading, parse_policy(reading.trust.encode())
    anchored.witness.start()
    anchored.votes.cast("賛成")
    anchored.sequencer.start()
    until(lambda: anchored.cosigned() > 0)
    before = anchored.cosigned()
    # An ordinary entry waits for the rhythm, which is an hour here; a grant and a revocation do not.
    anchored.votes.cast("賛成")
    until(anchored.sealed)
    anchored.record(AuditAction.APPROVAL_GRANT)
    begun = time.monotonic()
    until(lambda: anchored.cosigned() == anchored.size() > before)
    print(f"a grant was cosigned {time.monotonic() - begun:.2f} s after its commit")
    granted = anchored.cosigned()
    anchored.record(AuditAction.ADAPTER_VERSION_REVOKE)
    until(lambda: anchored.cosigned() == granted + 1)
    # The newest checkpoint has no cosignature; what is shown and exported has.
    anchored.votes.cast("反対")
    until(anchored.sealed)
    with anchored.sessions() as session:
        shown = published(session)
        proof = proof_file(session, _first_event(session), anchored.actor.organization_id)
    assert shown.checkpoint.size == granted + 1 < anchored.size()
    assert trust.open(shown.note).witnesses == ["監査"]
    assert verify_proof(proof, trust).trusted.witnesses == ["監査"]
    report = verify_bundle(anchored.votes.export(anchored.folder / "bundle.zip"), trust)
    assert (report.problems, report.witnesses, report.size) == ([], ["監査"], granted + 1)
    # The folder holds a file for each, which nothing replaces, and the file is what the witness signed.
    files = sorted((anchored.anchors / ORIGIN.replace("/", "_")).iterdir())
    assert [int(path.name[:19]) for path in files] == sorted({before, granted, granted + 1})
    assert {path.stat().st_mode & 0o777 for path in files} == {0o444}
    assert trust.open(files[-1].read_bytes()).witnesses == ["監査"]
    # Asked again under the size that the witness saw last, its key never signed two roots.
    assert anchored.stopped() is None


def _first_event(session: Session) -> UUID:
    found = session.scalars(text("SELECT event_id FROM audit_event ORDER BY id LIMIT 1")).one()
    assert isinstance(found, UUID)
    return found


def test_a_witness_that_is_away_holds_nothing_up_is_told_once_and_asked_again(anchored: Anchored) -> None:
    anchored.sequencer.start()
    anchored.votes.cast("賛成")
    until(lambda: "audit_witness_away" in anchored.sequencer.log.read_text())
    anchored.record(AuditAction.APPROVAL_GRANT)
    until(anchored.sealed)
    # The folder does not wait for the witness either.
    until(lambda: any(anchored.anchors.rglob(f"{anchored.size():019}-*")))
    assert anchored.cosigned() == 0
    anchored.witness.start()
    until(lambda: anchored.cosigned() == anchored.size(), timeout_s=60)
    log = anchored.sequencer.log.read_text()
    assert (log.count("audit_witness_away: "), log.count("recovered from audit_witness_away")) == (1, 1)
    assert anchored.stopped() is None


@pytest.mark.parametrize("file_too", [False, True], ids=["rows", "rows_and_last_signed"])
def test_yesterdays_backup_stops_the_platform_and_only_a_person_lets_it_go_on(anchored: Anchored, *, file_too: bool) -> None:
    anchored.witness.start()
    anchored.sequencer.start()
    anchored.votes.cast("賛成")
    until(lambda: anchored.cosigned() == 1)
    anchored.back_up()
    last_signed = anchored.folder / "checkpoints" / "last-signed"
    kept = last_signed.read_bytes()
    for _ in range(4):
        anchored.votes.cast("賛成")
    anchored.record(AuditAction.APPROVAL_GRANT)
    until(lambda: anchored.cosigned() == 6)
    anchored.sequencer.kill()
    anchored.restore()
    if file_too:
        # Everything on this machine is yesterday's, also the folder: the witness alone knows better.
        last_signed.write_bytes(kept)
        for path in anchored.anchors.rglob("*.checkpoint"):
            if not path.name.startswith(f"{1:019}"):
                path.unlink()
    anchored.sequencer.start()
    until(lambda: anchored.stopped() == "log_shortened")
    assert "ALARM log_shortened" in anchored.sequencer.log.read_text()
    with pytest.raises(AuditReadOnly, match="log_shortened"):
        anchored.votes.cast("賛成")
    with pytest.raises(AuditReadOnly):
        anchored.record(AuditAction.APPROVAL_GRANT)
    for action in (AuditAction.ADAPTER_VERSION_REVOKE, AuditAction.TOKEN_REVOKE, AuditAction.ACCESS_DENY, AuditAction.HUB_FILE_DOWNLOAD):
        anchored.record(action)
    assert anchored.operate("resume", "--reason", "調査中").returncode == 0
    assert anchored.scalar("SELECT ended_reason FROM audit_stop WHERE id = 1") == "調査中"
    # The cause is still there, so it does not stay ended.
    until(lambda: anchored.scalar("SELECT count(*) FROM audit_stop") == 2)
    assert anchored.scalar("SELECT count(*) FROM audit_event WHERE action = 'log.resume'") == 1
    # And between the two nothing was signed: the resumed log was looked at everywhere first.
    assert anchored.scalar("SELECT max(size) FROM audit_checkpoint") == 1


def test_a_damaged_file_of_the_signer_is_an_alarm_and_the_folder_still_knows_of_yesterdays_backup(anchored: Anchored) -> None:
    anchored.sequencer.start()
    anchored.votes.cast("賛成")
    until(lambda: any(anchored.anchors.rglob(f"{1:019}-*")))
    anchored.back_up()
    anchored.record(AuditAction.APPROVAL_GRANT)
    until(lambda: any(anchored.anchors.rglob(f"{2:019}-*")))
    anchored.sequencer.kill()
    anchored.restore()
    (anchored.folder / "checkpoints" / "last-signed").write_text("壊れている")
    anchored.sequencer.start()
    until(lambda: anchored.stopped() == "log_shortened")
    assert "ALARM audit_last_checkpoint_unusable" in anchored.sequencer.log.read_text()
    assert "anchor folder" in str(anchored.scalar("SELECT message FROM audit_stop"))


@pytest.mark.parametrize("broken", [False, True], ids=["absent", "unreadable"])
def test_an_anchor_folder_that_is_away_is_its_own_problem_and_no_folder_takes_its_place(anchored: Anchored, *, broken: bool) -> None:
    unreadable = anchored.anchors / ORIGIN.replace("/", "_") / f"{1:019}-{'0' * 16}.checkpoint"
    if broken:
        unreadable.mkdir(parents=True)
    else:
        anchored.anchors.rmdir()
    anchored.witness.start()
    anchored.votes.cast("賛成")
    anchored.sequencer.start()
    until(anchored.sealed)
    until(lambda: anchored.cosigned() == 1)
    until(lambda: "audit_anchor_folder_away" in anchored.sequencer.log.read_text())
    assert "database_unavailable" not in anchored.sequencer.log.read_text()
    assert (broken or not anchored.anchors.exists(), anchored.stopped()) == (True, None)
    if broken:
        unreadable.rmdir()
    else:
        anchored.anchors.mkdir()
    until(lambda: any(anchored.anchors.rglob(f"{1:019}-*")), timeout_s=60)
    until(lambda: "recovered from audit_anchor_folder_away" in anchored.sequencer.log.read_text())


def test_a_file_that_was_cut_off_covers_nothing_and_is_written_once_more(tmp_path: Path) -> None:
    signer = Signer.generate(ORIGIN)
    keys, note, folder = [signer.verifier], _another_tree(signer, 3), AnchorFolder(tmp_path / "anchors", ORIGIN)
    with pytest.raises(AnchorFolderAway):
        folder.keep(note)
    assert not list(tmp_path.iterdir())
    (tmp_path / "anchors").mkdir()
    assert folder.keep(note)
    (cut,) = folder.folder.iterdir()
    cut.chmod(0o644)
    cut.write_bytes(note[:-20])
    assert not folder.covers(3, keys)
    assert folder.keep(note)
    assert folder.covers(3, keys)
    assert not folder.keep(note)
    assert len(list(folder.folder.iterdir())) == 2
    assert [one.checkpoint.size for one in folder.newest(keys)] == [3]
    # What another key signed covers nothing either.
    assert not folder.covers(3, [Signer.generate(ORIGIN).verifier])


def test_an_edited_entry_stops_the_platform_and_putting_it_back_lets_it_go_on(anchored: Anchored) -> None:
    for _ in range(3):
        anchored.votes.cast("賛成")
    anchored.sequencer.start()
    until(anchored.sealed)
    anchored.sequencer.kill()
    anchored.superuser(
        "CREATE TABLE kept AS SELECT id, body FROM audit_event",
        "UPDATE audit_event SET body = convert_to(replace(convert_from(body, 'UTF8'), '\"ok\"', '\"denied\"'), 'UTF8') WHERE id = 2",
    )
    anchored.sequencer.start()
    until(lambda: anchored.stopped() == "entry_changed")
    assert "entry 1 " in str(anchored.scalar("SELECT message FROM audit_stop"))
    anchored.superuser("UPDATE audit_event e SET body = k.body FROM kept k WHERE k.id = e.id")
    done = anchored.operate("resume", "--reason", "entry 1 is back", typed=True)
    assert json.loads(done.stdout) == {"state": "resumed", "ended": ["entry_changed"]}
    anchored.votes.cast("賛成")
    # Signing goes on, and with it everything that waited while the platform was read-only.
    until(anchored.sealed)
    assert anchored.stopped() is None


def test_nobody_but_the_owner_ends_the_mode_and_without_one_there_is_nothing_to_end(anchored: Anchored) -> None:
    nothing = anchored.operate("resume", "--reason", "x")
    assert json.loads(nothing.stderr)["code"] == "audit_not_stopped"
    with anchored.sessions.begin() as session:
        session.execute(text("INSERT INTO audit_stop (origin, code, message) VALUES ('o', 'log_shortened', '欠けている')"))
    with pytest.raises(Exception, match="permission denied"), anchored.sessions.begin() as session:
        session.execute(text("UPDATE audit_stop SET ended_at = now()"))
    with pytest.raises(Exception, match="permission denied"), anchored.sessions.begin() as session:
        session.execute(text("DELETE FROM audit_stop"))
    with_app_role = anchored.operate("resume", "--reason", "x", owner=False)
    assert json.loads(with_app_role.stderr)["code"] == "audit_owner_needed"


def test_a_second_log_under_the_same_name_is_refused_by_the_witness_and_reported_on_both_sides(anchored: Anchored) -> None:
    """Split view: the witness has seen another tree of this name and key."""
    anchored.witness.start()
    signer = Signer.parse((anchored.folder / "keys" / "audit.key").read_text().strip())
    other = _another_tree(signer, 3)
    assert anchored.witness.ask(0, [], other).status_code == 200
    for _ in range(3):
        anchored.votes.cast("賛成")
    anchored.sequencer.start()
    until(lambda: anchored.stopped() == "split_view")
    assert "split view" in anchored.witness.log.read_text()
    assert list((anchored.witness.state / "evidence").iterdir())
    assert "ALARM split_view" in anchored.sequencer.log.read_text()


def _another_tree(signer: Signer, size: int) -> bytes:
    return sign_checkpoint(Checkpoint(signer.name, size, root_of(leaf_hash(bytes([place])) for place in range(size))), signer)


def rotated(anchored: Anchored, *arguments: str) -> dict[str, object]:
    done = anchored.operate("rotate-key", *arguments, typed=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def lines(done: dict[str, object]) -> str:
    listed = done["trust"]
    assert isinstance(listed, list)
    return "".join(f"{line}\n" for line in listed)


def test_a_key_is_replaced_under_a_running_sequencer_and_every_checkpoint_stays_verifiable(
    anchored: Anchored, export: Callable[[str], Path]
) -> None:
    anchored.policy.write_text(f"log {anchored.vkey}\nquorum none\n")
    anchored.sequencer.start()
    early = anchored.operate("rotate-key", "--finish")
    assert json.loads(early.stderr)["code"] == "audit_key_rotation"
    anchored.votes.cast("賛成")
    until(anchored.sealed)
    before = export("before")
    begun = rotated(anchored)
    assert (anchored.folder / "keys" / "audit.key").stat().st_mode & 0o777 == 0o600
    second = anchored.operate("rotate-key", typed=True)
    assert json.loads(second.stderr)["code"] == "audit_key_rotation"
    until(lambda: anchored.sealed() and anchored.size() == 2)
    overlap = export("overlap")
    old_only, both = Policy.of_log(anchored.vkey), parse_policy(f"{lines(begun)}quorum none\n".encode())
    new = str(lines(begun).split("\n")[1].removeprefix("log "))
    assert verify_bundle(overlap, old_only).ok
    assert len(verify_bundle(overlap, both).signers) == 2
    unknown = anchored.operate("rotate-key", "--finish")
    assert "does not list the new key" in json.loads(unknown.stderr)["message"]
    anchored.policy.write_text(f"log {anchored.vkey}\nlog {new}\nquorum none\n")
    finished = rotated(anchored, "--finish")
    anchored.votes.cast("賛成")
    until(lambda: anchored.sealed() and anchored.size() == 4)
    after = export("after")
    trust = parse_policy(f"{lines(finished)}quorum none\n".encode())
    assert [verify_bundle(one, trust).problems for one in (before, overlap)] == [[], []]
    report = verify_bundle(after, trust, against=before)
    assert (report.problems, report.signers) == ([], [new])
    assert not verify_bundle(after, old_only).ok
    # The retired key signs nothing new, wherever a copy of it lies.
    old = Signer.parse((anchored.folder / "retired").read_text().strip())
    with pytest.raises(Exception, match="retired"):
        trust.open(_another_tree(old, 3))
    actions = anchored.scalar("SELECT string_agg(action, ' ' ORDER BY id) FROM audit_event WHERE action LIKE 'log.%'")
    assert actions == "log.key.added log.key.retired"


@pytest.fixture
def export(anchored: Anchored) -> Callable[[str], Path]:
    (anchored.folder / "retired").write_text((anchored.folder / "keys" / "audit.key").read_text())
    return lambda name: anchored.votes.export(anchored.folder / f"{name}.zip")
