"""A platform whose database was restored from an old backup, and the way to the log that follows: what the tests of it stand on."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from audit.test_anchoring import ORIGIN, Anchored
from ringi.audit import service, stops
from ringi.audit.checking import Known, compare
from ringi.audit.export import is_sealed
from ringi.audit.generations import log_named
from ringi.audit.note import Signer
from ringi.audit.operating import FAILURES, refusal_of
from ringi.audit.ringi_verify import HASH_BYTES, BundleFile, VerifyReport, parse_policy, root_of, verify_bundle
from ringi.audit.schemas import AuditAction
from ringi.audit.sequence import sequence_once
from ringi.audit.signing import CheckpointFile, load_signers, sign_head
from ringi.identity.models import Membership, Organization, User
from ringi.identity.schemas import Role
from ringi.kit.actor import Actor
from ringi.settings import Settings, get_settings
from ringi.succession.__main__ import open_, propose
from ringi.succession.statement import approve, new_admin_key
from support.postgres import DatabaseUrls, application
from support.waiting import until

FIRST, STEM = ORIGIN, ORIGIN.removesuffix("1")
NEXT, THIRD = f"{STEM}2", f"{STEM}3"
REASON = "ディスク障害でバックアップから復元した"


class Lost:
    """Loses the end of its log, once or again. The signer is this process, or the sequencer's own where a test says so."""

    def __init__(self, anchored: Anchored, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.anchored, self.folder, self._patch = anchored, folder, monkeypatch
        self.origin = ORIGIN
        self.statement = folder / "statement"
        self.trust = folder / "trust"
        self.keys = {name: self.administrator(name) for name in ("kenji", "yuki")}
        self.before = folder / "before.zip"
        self.revoked = uuid4()
        self.kept = self.signed = 0
        self._logs: list[str] = []

    def administrator(self, name: str, role: Role = Role.SYSTEM_ADMIN) -> Path:
        with self.anchored.sessions.begin() as session:
            organization = Organization(name=f"{name}-{uuid4().hex[:8]}")
            session.add(organization)
            session.flush()
            user = User(organization_id=organization.id, name=name)
            session.add(user)
            session.flush()
            session.add(Membership(organization_id=organization.id, user_id=user.id, role=role, granted_by=user.id))
            return self._key(name, user.id)

    def _key(self, name: str, person: UUID) -> Path:
        path = self.folder / f"{name}.key"
        path.touch(mode=0o600)
        path.write_text(new_admin_key(person).export() + "\n")
        return path

    @property
    def files(self) -> list[Path]:
        """The key, the one that was proposed, and the signer's last word."""
        keys = self.folder / "keys"
        return [keys / "audit.key", keys / "audit.key.next", self.folder / "checkpoints" / "last-signed"]

    def seal(self) -> None:
        """What the sequencer does, here: places and signs all that is committed."""
        one = self.anchored
        with one.sessions.begin() as session:
            sequence_once(session)
        with one.sessions.begin() as session:
            sign_head(session, load_signers(self.files[0], self.origin)[0], CheckpointFile(self.files[2].parent))
        with one.sessions() as session:
            assert is_sealed(session)

    def back_up(self) -> dict[str, dict[str, str]]:
        one = self.anchored
        one.back_up()
        self.kept = one.size()
        return dict(one.votes.rows)

    def restore(self, rows: dict[str, dict[str, str]]) -> None:
        self.anchored.restore()
        self.anchored.superuser("DROP SCHEMA backup CASCADE")
        self.anchored.votes.rows = rows

    def go_on(self) -> None:
        """Two entries that will be lost."""
        self.anchored.record(AuditAction.APPROVAL_GRANT)
        self.anchored.votes.cast("反対")

    def revoke(self) -> None:
        """What is revoked while the platform is read-only is still recorded."""
        one = self.anchored
        with one.sessions.begin() as session:
            service.record(session, one.actor, AuditAction.ADAPTER_VERSION_REVOKE, object_type="adapter_version", object_id=self.revoked)

    def lose(self) -> None:
        """Back up, go on, restore the backup, and notice."""
        one = self.anchored
        for _ in range(3):
            one.votes.cast("賛成")
        self.seal()
        rows = self.back_up()
        self.go_on()
        self.seal()
        self.signed = one.size()
        one.votes.export(self.before)
        self.restore(rows)
        last = CheckpointFile(self.files[2].parent).load(load_signers(self.files[0], self.origin)[0].verifier)
        assert last is not None
        with one.sessions.begin() as session:
            finding = compare(session, [Known(last, "the signer's own file")])
            assert finding is not None
            stops.stop(session, self.origin, finding)
        self.revoke()

    def lose_under_a_running_sequencer(self) -> None:
        """The same, and the platform notices by itself."""
        one = self.anchored
        for _ in range(3):
            one.votes.cast("賛成")
        one.sequencer.start()
        until(one.sealed)
        rows = self.back_up()
        self.go_on()
        until(one.sealed)
        self.signed = one.size()
        one.votes.export(self.before)
        one.sequencer.kill()
        self.restore(rows)
        one.sequencer.start()
        until(lambda: one.stopped() is not None)
        self.revoke()

    def rename(self, origin: str) -> None:
        """This process and every one that is started later have the new name."""
        self.origin = origin
        self.anchored.sequencer.environment["RINGI_AUDIT_ORIGIN"] = origin
        self._patch.setenv("RINGI_AUDIT_ORIGIN", origin)
        get_settings.cache_clear()

    def settings(self) -> Settings:
        """Those of the operator's programs."""
        told = {name.removeprefix("RINGI_").lower(): value for name, value in self.environ().items() if name.startswith("RINGI_")}
        return Settings.model_validate({name: value for name, value in told.items() if name in Settings.model_fields})

    def propose(self, *checkpoints: bytes, origin: str | None = None) -> str:
        """Write statement and trust file; returns the code of a refusal."""
        try:
            done = propose(self.settings(), REASON, origin, list(checkpoints), self.statement)
        except FAILURES as error:
            return refusal_of(error)["code"]
        self.trust_in(done["old_key"], done["last_size"], done["new_key"])
        return ""

    def trust_in(self, old: str, last: int, new: str) -> None:
        """The auditors' trust file: every log so far, and the administrators."""
        self._logs = [line for line in self._logs if line != f"log {old}"] + [f"log {old}", f"#sizes 0-{last}", f"log {new}"]
        admins = [f"#admin {self.vkey(path)}" for path in self.keys.values()]
        self.trust.write_text("\n".join([*self._logs, *admins, "quorum none", ""]))

    @staticmethod
    def vkey(path: Path) -> str:
        """The public half of an administrator's key."""
        return str(Signer.parse(path.read_text().strip()).verifier)

    def approval(self, name: str, *, key: Path | None = None) -> bytes:
        """Signed as `ringi audit approve-origin` does."""
        return approve(self.statement.read_text(), Signer.parse((key or self.keys[name]).read_text().strip()))

    def approvals(self) -> list[bytes]:
        return [self.approval(name) for name in self.keys]

    def open(self, approvals: Sequence[bytes] | None = None) -> int | None:
        """Opened as `ringi audit open-origin` does; how many entries were carried."""
        given = list(approvals) if approvals is not None else self.approvals()
        carried = open_(self.settings(), self.statement.read_text(), given, self.trust.read_bytes())["carried"]
        assert carried is None or isinstance(carried, int)
        return carried

    def succeed(self, origin: str) -> int:
        """From the loss to the log that follows; how many entries were carried."""
        assert self.propose() == ""
        carried = self.open()
        assert carried is not None
        self.rename(origin)
        return carried

    def refused(self, *approvals: bytes) -> str:
        """The code of a refusal, which has changed nothing."""
        before = self.footprint()
        with pytest.raises(FAILURES) as caught:
            self.open(approvals)
        assert self.footprint() == before
        return refusal_of(caught.value)["code"]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`ringi audit …` as a person types it where the platform's settings are set."""
        return self.start("-c", "from ringi.cli.main import run; run()", "audit", *arguments, "--json")

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *arguments], env=self.environ(), capture_output=True, text=True, check=False)

    def environ(self) -> dict[str, str]:
        return self.anchored.sequencer.environment | {"RINGI_OWNER_DATABASE_URL": self.anchored.urls.owner_url}

    def files_of(self, approvals: Sequence[bytes]) -> list[str]:
        """The words of a command that names these approvals, as files."""
        words = []
        for number, approval in enumerate(approvals, 1):
            path = self.folder / f"approval-{number}"
            path.write_bytes(approval)
            words += ["--approve", str(path)]
        return [str(self.statement), *words, "--trust", str(self.trust)]

    def footprint(self) -> list[object]:
        one = self.anchored
        tables = ("audit_leaf", "audit_node", "audit_checkpoint", "audit_event", "audit_origin", "audit_pending")
        counts = [one.scalar(f"SELECT count(*) FROM {table}") for table in tables]
        kept = [path.read_bytes() if path.exists() else None for path in self.files]
        return [*counts, one.scalar("SELECT generation FROM audit_head"), one.stopped(), kept]

    def export(self, name: str, *, origin: str | None = None, organization_id: UUID | None = None) -> Path:
        """Of the log that grows, or of one that has ended."""
        one = self.anchored
        log = None
        if origin is not None:
            with one.sessions() as session:
                log = log_named(session, origin)
        return one.votes.export(self.folder / f"{name}.zip", organization_id=organization_id, log=log)

    def root_before(self, size: int) -> bytes:
        """The root of the first so many entries of the export from before the loss."""
        stored = BundleFile(self.before).read("leaves.bin", 1 << 20)
        return root_of(stored[at : at + HASH_BYTES] for at in range(0, size * HASH_BYTES, HASH_BYTES))

    def verify(self, bundle: Path, *, against: Path | None = None) -> VerifyReport:
        return verify_bundle(bundle, parse_policy(self.trust.read_bytes()), against=against)

    def event_of(self, generation: int, condition: str) -> UUID:
        query = "SELECT e.event_id FROM audit_event e JOIN audit_leaf l ON l.event_id = e.id WHERE generation = {} AND {}"
        with self.anchored.sessions() as session:
            return UUID(str(session.scalar(text(query.format(generation, condition)))))


def codes(report: VerifyReport) -> list[str]:
    return [one.code for one in report.problems]


def document(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The one JSON document that a program of the operator refuses with: nothing else is on standard error."""
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    found: dict[str, str] = json.loads(line)
    assert found.keys() == {"code", "message", "next_step"}
    return found


@pytest.fixture
def lost(database: DatabaseUrls, tmp_path: Path, actor: Actor, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lost]:
    with application(database) as sessions:
        made = Anchored(database, sessions, tmp_path, actor)
        made.sequencer.environment.pop("RINGI_WITNESSES")
        yield Lost(made, tmp_path, monkeypatch)
        made.sequencer.kill()
        made.witness.end()
    get_settings.cache_clear()
