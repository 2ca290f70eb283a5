"""A log that lost entries ends where the database still holds it, and another one follows it, approved by two administrators."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from audit.test_anchoring import ORIGIN, Anchored
from ringi.audit import service
from ringi.audit.generations import AuditOriginDiffers, log_named, logs
from ringi.audit.note import Signer
from ringi.audit.published import newest_signed
from ringi.audit.reading import proof_file
from ringi.audit.ringi_verify import VerifyReport, parse_policy, verify_bundle, verify_proof
from ringi.audit.schemas import AuditAction
from ringi.identity.models import Membership, Organization, User
from ringi.identity.schemas import Role
from ringi.kit.actor import Actor
from ringi.settings import get_settings
from ringi.succession.statement import new_admin_key
from support.postgres import DatabaseUrls, application
from support.waiting import until

NEXT = ORIGIN.removesuffix("1") + "2"
REASON = "ディスク障害でバックアップから復元した"


class Lost:
    """A platform whose database was restored from an old backup, and which has noticed."""

    def __init__(self, anchored: Anchored, folder: Path) -> None:
        self.anchored, self.folder = anchored, folder
        self.statement = folder / "statement"
        self.trust = folder / "trust"
        self.keys = {name: self._administrator(name) for name in ("kenji", "yuki")}
        self.before = folder / "before.zip"
        self.revoked = uuid4()
        self.kept = self.signed = 0

    def _administrator(self, name: str, *role: Role) -> Path:
        with self.anchored.sessions.begin() as session:
            organization = Organization(name=f"{name}-{uuid4().hex[:8]}")
            session.add(organization)
            session.flush()
            user = User(organization_id=organization.id, name=name)
            session.add(user)
            session.flush()
            for one in role or (Role.SYSTEM_ADMIN,):
                session.add(Membership(organization_id=organization.id, user_id=user.id, role=one, granted_by=user.id))
            person = user.id
        return self._key(name, person)

    def _key(self, name: str, person: UUID) -> Path:
        path = self.folder / f"{name}.key"
        path.write_text(new_admin_key(person).export() + "\n")
        return path

    def stranger(self) -> Path:
        return self._administrator("stranger", Role.VIEWER)

    def lose(self) -> None:
        """Back up, go on, restore the backup, and let the platform notice; what is revoked meanwhile is still recorded."""
        one = self.anchored
        for _ in range(3):
            one.votes.cast("賛成")
        one.sequencer.start()
        until(one.sealed)
        one.back_up()
        self.kept = one.size()
        rows = dict(one.votes.rows)
        one.record(AuditAction.APPROVAL_GRANT)
        one.votes.cast("反対")
        until(one.sealed)
        self.signed = one.size()
        one.votes.export(self.before)
        one.sequencer.kill()
        one.restore()
        one.votes.rows = rows
        one.sequencer.start()
        until(lambda: one.stopped() is not None)
        with one.sessions.begin() as session:
            service.record(session, one.actor, AuditAction.ADAPTER_VERSION_REVOKE, object_type="adapter_version", object_id=self.revoked)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._start("-c", "from ringi.cli.main import run; run()", "audit", *arguments, "--json")

    def _start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = self.anchored.sequencer.environment | {"RINGI_OWNER_DATABASE_URL": self.anchored.urls.owner_url}
        return subprocess.run([sys.executable, *arguments], env=environ, capture_output=True, text=True, check=False)

    def propose(self) -> None:
        done = self.run("propose-origin", str(self.statement), "--reason", REASON)
        assert done.returncode == 0, done.stderr
        key = json.loads(done.stdout)["new_key"]
        admins = "".join(f"#admin {self.vkey(path)}\n" for path in self.keys.values())
        lines = f"log {self.anchored.vkey}\n#sizes 0-{self.signed}\nlog {key}\n{admins}"
        self.trust.write_text(f"{lines}quorum none\n")

    def ask_the_witness(self) -> None:
        """From the sequencer's next start on; the witness must be told of the new log."""
        one = self.anchored
        keys = [line for line in self.trust.read_text().splitlines() if line.startswith("log ")]
        one.witness.know(*(key.removeprefix("log ") for key in keys))
        one.witness.start()
        one.policy.write_text("\n".join([*keys, f"witness 監査 {one.witness.vkey} {one.witness.url}", "quorum 監査", ""]))
        one.sequencer.environment["RINGI_WITNESSES"] = str(one.policy)

    @staticmethod
    def vkey(path: Path) -> str:
        """The public half of an administrator's key."""
        return str(Signer.parse(path.read_text().strip()).verifier)

    def approve(self, name: str, *, key: Path | None = None) -> str:
        file = self.folder / f"approval-{name}"
        done = self.run("approve-origin", str(self.statement), "--key", str(key or self.keys[name]), "--save", str(file))
        assert done.returncode == 0, done.stderr
        return str(file)

    def open(self, *approvals: str) -> subprocess.CompletedProcess[str]:
        return self.run("open-origin", *self._opening(*approvals))

    def _opening(self, *approvals: str) -> list[str]:
        words = [word for one in approvals for word in ("--approve", one)]
        return [str(self.statement), *words, "--trust", str(self.trust)]

    def refused(self, *approvals: str) -> str:
        """The code of a refusal, which has changed nothing."""
        before = self.footprint()
        done = self._start("-m", "ringi.succession", "open", *self._opening(*approvals))
        assert done.returncode != 0, done.stdout
        assert self.footprint() == before
        last = done.stderr.strip().splitlines()[-1]
        return str(json.loads(last)["code"]) if last.startswith("{") else last

    def footprint(self) -> list[object]:
        one = self.anchored
        tables = ("audit_leaf", "audit_node", "audit_checkpoint", "audit_event", "audit_origin")
        counts = [one.scalar(f"SELECT count(*) FROM {table}") for table in tables]
        return [*counts, one.scalar("SELECT generation FROM audit_head"), one.stopped()]

    def verify(self, bundle: Path, *, against: Path | None = None) -> VerifyReport:
        return verify_bundle(bundle, parse_policy(self.trust.read_bytes()), against=against)


@pytest.fixture
def lost(database: DatabaseUrls, tmp_path: Path, actor: Actor) -> Iterator[Lost]:
    with application(database) as sessions:
        made = Anchored(database, sessions, tmp_path, actor)
        made.sequencer.environment.pop("RINGI_WITNESSES")
        yield Lost(made, tmp_path)
        made.sequencer.kill()
        made.witness.end()


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """What a test sets is forgotten afterwards by the settings too."""
    yield monkeypatch
    get_settings.cache_clear()


def codes(report: VerifyReport) -> list[str]:
    return [one.code for one in report.problems]


def test_after_a_restore_two_administrators_open_the_next_log_and_both_logs_verify(lost: Lost, renamed: pytest.MonkeyPatch) -> None:
    one = lost.anchored
    lost.lose()
    until(lambda: one.scalar("SELECT count(*) FROM audit_pending") == 0)
    one.sequencer.kill()
    # The stop, and the revocation: neither was ever signed.
    unsigned = one.size() - lost.kept
    assert unsigned >= 2
    lost.propose()
    said = json.loads(lost.statement.read_text().splitlines()[1])
    assert (said["held_size"], said["last_size"], said["lost"]) == (lost.kept, lost.signed, 2)
    done = lost.open(lost.approve("kenji"), lost.approve("yuki"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["carried"] == unsigned
    assert one.stopped() is None
    # Processes with the old name write nothing and sign nothing.
    with pytest.raises(AuditOriginDiffers):
        one.votes.cast("賛成")
    one.votes.rows.popitem()
    one.sequencer.environment["RINGI_AUDIT_ORIGIN"] = NEXT
    renamed.setenv("RINGI_AUDIT_ORIGIN", NEXT)
    get_settings.cache_clear()
    lost.ask_the_witness()
    one.sequencer.start()
    changed = next(iter(one.votes.rows))
    one.votes.cast("反対", vote=changed)
    one.votes.cast("賛成")
    until(one.sealed)
    until(lambda: one.scalar(f"SELECT count(*) FROM audit_cosignature WHERE origin = '{NEXT}'") != 0)
    until(lambda: any((one.anchors / NEXT.replace("/", "_")).glob("*.checkpoint")))
    new = one.votes.export(lost.folder / "new.zip")
    report = lost.verify(new)
    assert report.ok, report.problems
    assert (report.origin, report.size, report.records) == (NEXT, 3 + unsigned, 2)
    assert report.opened is not None
    assert (report.opened.lost, report.opened.carried, report.opened.reason) == (2, unsigned, REASON)
    assert len(report.opened.administrators) == 2
    # Each row is proven by the log that its last change stands in.
    with one.sessions() as session:
        log = log_named(session, ORIGIN)
    ended = one.votes.export(lost.folder / "ended.zip", log=log)
    before = lost.verify(ended)
    assert before.ok, before.problems
    assert (before.origin, before.size, before.records, before.unsealed) == (ORIGIN, lost.kept, 2, 1)
    assert lost.verify(new, against=ended).ok
    # An export from before the loss agrees too: nothing more was lost than leaf 0 says.
    assert lost.verify(new, against=lost.before).ok
    with one.sessions() as session:
        assert [found.origin for found in logs(session)] == [ORIGIN, NEXT]
        assert newest_signed(session, 1).checkpoint.size == lost.kept
        event_of = "SELECT e.event_id FROM audit_event e JOIN audit_leaf l ON l.event_id = e.id WHERE generation = {} AND {}"
        old_event = UUID(str(session.scalar(text(event_of.format(1, "leaf_index = 0")))))
        proven = verify_proof(proof_file(session, old_event, one.actor.organization_id), parse_policy(lost.trust.read_bytes()))
        assert proven.trusted.checkpoint.origin == ORIGIN
        assert session.scalar(text(event_of.format(2, f"object_id = '{lost.revoked}'"))) is not None
    with pytest.raises(DBAPIError, match="closed"), one.sessions.begin() as session:
        session.execute(text("INSERT INTO audit_node (level, idx, hash, generation) VALUES (9, 9, sha256('x'), 1)"))


def test_what_is_not_approved_as_it_must_be_opens_nothing(lost: Lost) -> None:
    lost.lose()
    lost.anchored.sequencer.kill()
    lost.propose()
    kenji, yuki = lost.approve("kenji"), lost.approve("yuki")
    assert lost.refused(kenji) == "audit_approvals_missing"
    assert lost.refused(kenji, kenji) == "audit_approvals_missing"
    stranger = lost.stranger()
    assert lost.refused(kenji, lost.approve("stranger", key=stranger)) == "audit_approval_invalid"
    trusted = lost.trust.read_text()
    lost.trust.write_text(f"#admin {lost.vkey(stranger)}\n{trusted}")
    assert lost.refused(kenji, str(lost.folder / "approval-stranger")) == "audit_not_administrator"
    statement = lost.statement.read_text()
    lost.statement.write_text(statement.replace(REASON, "別の理由"))
    assert lost.refused(kenji, yuki) == "audit_approval_invalid"
    lost.statement.write_text(statement)
    note = Path(kenji).read_text()
    Path(kenji).write_text(note.replace(REASON, "別の理由"))
    assert lost.refused(kenji, yuki) == "audit_approval_invalid"


def test_a_statement_is_for_one_state_of_the_database_and_for_one_time(lost: Lost) -> None:
    one = lost.anchored
    lost.lose()
    one.sequencer.kill()
    lost.propose()
    statement = lost.statement.read_text()
    # Approved by both, and about another database.
    lost.statement.write_text(
        statement.replace(f'"held_size":{lost.kept}', '"held_size":2').replace('"lost":2', f'"lost":{lost.signed - 2}')
    )
    assert lost.refused(lost.approve("kenji"), lost.approve("yuki")) == "audit_statement_outdated"
    lost.statement.write_text(statement)
    approvals = lost.approve("kenji"), lost.approve("yuki")
    one.superuser("UPDATE audit_stop SET ended_at = now()")
    assert lost.refused(*approvals) == "audit_not_stopped"
    one.superuser("UPDATE audit_stop SET ended_at = NULL")
    # The end of the transaction fails: nothing of it is there.
    one.superuser("ALTER TABLE audit_origin ADD CONSTRAINT never CHECK (generation < 2)")
    lost.refused(*approvals)
    one.superuser("ALTER TABLE audit_origin DROP CONSTRAINT never")
    assert lost.open(*approvals).returncode == 0
    assert lost.refused(*approvals) == "audit_origin_opened"


def test_a_second_run_ends_an_opening_that_was_cut_off_between_the_database_and_the_files(lost: Lost) -> None:
    one = lost.anchored
    lost.lose()
    one.sequencer.kill()
    lost.propose()
    files = [lost.folder / "keys" / "audit.key", lost.folder / "keys" / "audit.key.next", lost.folder / "checkpoints" / "last-signed"]
    before = [path.read_bytes() for path in files]
    approvals = lost.approve("kenji"), lost.approve("yuki")
    assert lost.open(*approvals).returncode == 0
    events = one.scalar("SELECT count(*) FROM audit_event")
    for path, content in zip(files, before, strict=True):
        path.write_bytes(content)
        path.chmod(0o600)
    assert lost.open(*approvals).returncode == 0
    assert (files[0].read_bytes(), files[1].exists(), files[2].exists()) == (before[1], False, False)
    assert one.scalar("SELECT count(*) FROM audit_event") == events


def test_an_auditor_who_knows_no_administrators_believes_no_opening_and_an_organisation_sees_it_too(
    lost: Lost, renamed: pytest.MonkeyPatch
) -> None:
    one = lost.anchored
    lost.lose()
    one.sequencer.kill()
    lost.propose()
    assert lost.open(lost.approve("kenji"), lost.approve("yuki")).returncode == 0
    one.sequencer.environment["RINGI_AUDIT_ORIGIN"] = NEXT
    renamed.setenv("RINGI_AUDIT_ORIGIN", NEXT)
    get_settings.cache_clear()
    one.sequencer.start()
    one.votes.cast("賛成")
    until(one.sealed)
    new = one.votes.export(lost.folder / "new.zip")
    trusted = lost.trust.read_text()
    lost.trust.write_text("".join(f"{line}\n" for line in trusted.splitlines() if "#admin" not in line))
    assert "opening_invalid" in codes(lost.verify(new))
    lost.trust.write_text(trusted)
    assert lost.verify(new).ok
    # One organisation's export shows leaf 0 too.
    part = one.votes.export(lost.folder / "part.zip", organization_id=one.actor.organization_id)
    report = lost.verify(part)
    assert report.ok, report.problems
    assert report.opened is not None
