"""A database whose log loses entries and is followed by another one, as often as a test asks, with an API over it for the monitor to read."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy.orm import Session, sessionmaker

from ringi.audit.checking import Known, compare
from ringi.audit.note import Signer
from ringi.audit.ringi_verify import Checkpoint, parse_note, parse_policy
from ringi.audit.sequence import sequence_once
from ringi.audit.signing import CheckpointFile, load_or_create_signers, load_signers, sign_head
from ringi.audit.stops import stop
from ringi.identity import people, service
from ringi.identity.models import User
from ringi.identity.schemas import Role, UserKind
from ringi.kit.actor import Actor, ActorKind, system_actor
from ringi.kit.stopping import Stop
from ringi.monitor.main import Monitor, Report
from ringi.monitor.tables import engine_of
from ringi.settings import Settings, get_settings
from ringi.succession.__main__ import open_, propose
from ringi.succession.statement import approve, new_admin_key, next_origin
from support.hub_client import free_port
from support.postgres import DatabaseUrls
from support.running_platform import MONITOR_TOKEN, Processes, environment_of, start_api

TABLES = (
    "audit_pending", "audit_payload", "audit_leaf", "audit_node", "audit_checkpoint", "audit_origin", "audit_stop", "audit_event",
    "audit_head", "tokens", "memberships", "users", "organizations",
)  # fmt: skip


def never() -> Stop:
    """A monitor's own way to be stopped, which leaves the signals to the tests."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    made = Stop()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return made


class Followed:
    """What an operator, two administrators and the platform do, each by the functions that they use; an API process serves the logs."""

    def __init__(
        self, urls: DatabaseUrls, sessions: sessionmaker[Session], folder: Path, broker_url: str, told: pytest.MonkeyPatch
    ) -> None:
        self.urls, self.sessions, self.folder, self._told = urls, sessions, folder, told
        (folder / "data").mkdir()
        self.processes = Processes(folder, urls, broker_url, environment_of(folder, urls, broker_url, free_port()))
        self.origin = get_settings().audit_origin
        self.signers = [load_or_create_signers(self.settings.audit_key_path, self.origin)[0]]
        self.logs = [f"log {self.signers[0].verifier}"]
        self.admins: list[Signer] = []
        # What `open-origin` printed at each succession.
        self.printed: list[list[str]] = []
        self._backups, self._never = 0, never()

    @property
    def settings(self) -> Settings:
        """Of the operator, at the log that grows."""
        data = self.folder / "data"
        return Settings(
            owner_database_url=self.urls.owner_url, audit_key_file=data / "audit.key", audit_checkpoint_dir=data / "checkpoints",
            audit_origin=self.origin,
        )  # fmt: skip

    def start(self) -> None:
        """The API."""
        start_api(self.processes)

    def found(self, organization: str, admin: str) -> Actor:
        """A new organisation; its administrator, who has a key for openings."""
        with self.sessions.begin() as session:
            made, user = service.create_organization(
                session, system_actor("setup"), name=organization, display_name=organization, admin=admin
            )
            self.admins.append(new_admin_key(user.id))
            return Actor(kind=ActorKind.USER, id=user.id, name=admin, organization_id=made.id)

    def create(self, actor: Actor, name: str) -> None:
        """A user with a role, by the log that grows."""
        with self.sessions.begin() as session:
            service.create_user(session, actor, name=name, display_name=name, kind=UserKind.HUMAN)
            service.grant_role(session, actor, user=name, role=Role.AUDITOR, project=None, days=30)

    def disable(self, actor: Actor, name: str) -> None:
        """From now on nobody believes this user."""
        with self.sessions.begin() as session:
            people.disable(session, actor, service.find_user(session, actor, name))

    def user(self, name: str) -> str:
        """The id of a user."""
        with self.sessions() as session:
            return str(session.query(User).filter_by(name=name).one().id)

    def seal(self) -> Checkpoint:
        """Sequence and sign what is committed."""
        with self.sessions.begin() as session:
            sequence_once(session)
        with self.sessions.begin() as session:
            sign_head(session, self.signers[-1], CheckpointFile(self.settings.audit_checkpoint_path))
        return Checkpoint.parse(parse_note(self.note())[0])

    def note(self) -> bytes:
        """The signer's last word."""
        found = CheckpointFile(self.settings.audit_checkpoint_path).read()
        assert found is not None
        return found

    def superuser(self, *statements: str) -> None:
        """What no trigger sees."""
        with psycopg.connect(self.urls.superuser_url.replace("+psycopg", "")) as connection:
            connection.execute("SET session_replication_role = replica")
            for change in ("DISABLE", "ENABLE"):
                for table in TABLES:
                    connection.execute(f"ALTER TABLE {table} {change} TRIGGER USER".encode())
                for statement in statements if change == "DISABLE" else ():
                    connection.execute(statement.encode())

    def back_up(self) -> None:
        """All that the tests write."""
        self._backups += 1
        copies = [f"CREATE TABLE backup{self._backups}.{table} AS TABLE {table}" for table in TABLES]
        self.superuser(f"CREATE SCHEMA backup{self._backups}", *copies)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Whatever is done meanwhile was never done."""
        last = self.note()
        self.back_up()
        try:
            yield
        finally:
            self._restore()
            CheckpointFile(self.settings.audit_checkpoint_path).store(last)

    def restore(self) -> None:
        """The last backup in the place of everything; then the platform notices."""
        self._restore()
        with self.sessions.begin() as session:
            finding = compare(session, [Known(Checkpoint.parse(parse_note(self.note())[0]), "the signer's file")])
            assert finding is not None
            assert stop(session, self.origin, finding)

    def _restore(self) -> None:
        copies = [
            statement
            for table in TABLES
            for statement in (
                f"DELETE FROM {table}",
                f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM backup{self._backups}.{table}",
            )
        ]
        self.superuser(*copies)

    def succeed(self, reason: str) -> dict[str, Any]:
        """Two administrators approve that another log follows; everybody works with that one afterwards."""
        statement = self.folder / "statement"
        propose(self.settings, reason, None, [], statement)
        text = statement.read_text(encoding="utf-8")
        opened = open_(self.settings, text, [approve(text, key) for key in self.admins], self.trust().encode())
        self.origin = str(opened["origin"])
        self.printed.append(opened["trust"])
        self.logs[-1:] = opened["trust"]
        self.signers.append(load_signers(self.settings.audit_key_path, self.origin)[0])
        self._told.setenv("RINGI_AUDIT_ORIGIN", self.origin)
        get_settings.cache_clear()
        return opened

    def trust(self, *, logs: list[str] | None = None, admins: list[Signer] | None = None) -> str:
        """A trust file; of the logs and administrators as they are, unless others are given."""
        listed = [f"#admin {key.verifier}" for key in (self.admins if admins is None else admins)]
        return "\n".join([*(self.logs if logs is None else logs), *listed, "quorum none", ""])

    def next_key(self) -> str:
        """The line of the log that is to come: its key may lie there before it is needed."""
        path = self.settings.audit_key_path
        return f"log {load_or_create_signers(path.with_name(f'{path.name}.next'), next_origin(self.origin))[0].verifier}"

    @contextmanager
    def monitor(self, state: Path, *, trust: str | None = None) -> Iterator[Monitor]:
        """One with this state folder."""
        policy = parse_policy((self.trust() if trust is None else trust).encode())
        engine = engine_of(self.urls.superuser_url)
        headers = {"Authorization": f"Bearer {MONITOR_TOKEN}"}
        with httpx.Client(base_url=self.processes.server, headers=headers) as client:
            try:
                yield Monitor(client, engine, policy, CheckpointFile(state), wait_s=20, stop=self._never)
            finally:
                engine.dispose()

    def look(self, state: Path, *, trust: str | None = None) -> Report:
        """What a monitor that starts now says."""
        with self.monitor(state, trust=trust) as made:
            return made.round()
