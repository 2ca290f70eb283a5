"""A database with the audit tables, and where a process leaves its sign,, made by the models and `ddl.install`, as owner; everything else works as the application role."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from audit.new_origin import lost
from audit.test_anchoring import anchored
from audit.votes import Votes
from ringi.audit import ddl, entry_policy, guard
from ringi.audit.note import Signer
from ringi.audit.sequence import sequence_once
from ringi.audit.signing import CheckpointFile, sign_head
from ringi.db import tenancy
from ringi.db.base import Base
from ringi.embedded.postgres import PostgresHandle
from ringi.kit.actor import Actor, ActorKind
from ringi.observe.models import ProcessSign
from ringi.settings import get_settings
from support.postgres import DatabaseUrls, drop_database, empty_database, fresh_database
from support.seeds import drawn_seed, kept_seed

__all__ = ["anchored", "lost"]


@pytest.fixture(scope="session")
def audit_template(postgres_server: PostgresHandle) -> str:
    """The database that each test's own is copied from."""
    made = empty_database(postgres_server, "audit_template")
    engine = create_engine(made.owner_url)
    tables = [table for name, table in Base.metadata.tables.items() if name.startswith("audit_")]
    tables.append(Base.metadata.tables[ProcessSign.__tablename__])  # where the sequencer says that it lives
    with engine.begin() as connection:
        Base.metadata.create_all(connection, tables=tables)
        ddl.install(lambda statement: connection.execute(text(statement)))
        connection.execute(text(f"GRANT SELECT, INSERT, UPDATE ON audit_person_key TO {ddl.APPLICATION_ROLE}"))
        ddl.install_anchoring(lambda statement: connection.execute(text(statement)))
        ddl.install_origins(lambda statement: connection.execute(text(statement)))
        ddl.install_snapshot(lambda statement: connection.execute(text(statement)))
        ddl.install_by_statement(lambda statement: connection.execute(text(statement)))
        tenancy.protect(lambda statement: connection.execute(text(statement)), "audit_event", "true")
        entry_policy.install(lambda statement: connection.execute(text(statement)))
        guard.install(lambda statement: connection.execute(text(statement)))
    engine.dispose()
    return made.name


@pytest.fixture
def urls(postgres_server: PostgresHandle, audit_template: str) -> Iterator[DatabaseUrls]:
    made = fresh_database(postgres_server, f"audit_{uuid4().hex[:12]}", template=audit_template)
    yield made
    drop_database(postgres_server, made.name)


@pytest.fixture
def sessions(urls: DatabaseUrls) -> Iterator[sessionmaker[Session]]:
    engine = create_engine(urls.app_url)
    yield sessionmaker(engine)
    engine.dispose()


@pytest.fixture
def superuser(urls: DatabaseUrls) -> Iterator[Callable[[str], None]]:
    """Run SQL as superuser with the audit triggers disabled by name: what a hostile administrator can do."""
    engine = create_engine(urls.superuser_url)

    def run(statement: str) -> None:
        with engine.begin() as connection:
            guarded = (*ddl.APPEND_ONLY_TABLES, "audit_head")
            for table in guarded:
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
            connection.execute(text(statement))
            for table in guarded:
                connection.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER ALL"))

    yield run
    engine.dispose()


@pytest.fixture
def actor() -> Actor:
    return Actor(kind=ActorKind.USER, id=uuid4(), name="Aiko Example", organization_id=uuid4(), token_id=uuid4(), request_id="request-1")


@pytest.fixture
def signer() -> Signer:
    return Signer.generate(get_settings().audit_origin)


@pytest.fixture
def last_signed(tmp_path: Path) -> CheckpointFile:
    return CheckpointFile(tmp_path / "checkpoints")


@pytest.fixture
def seal(sessions: sessionmaker[Session], signer: Signer, last_signed: CheckpointFile) -> Callable[[], None]:
    """Sequence and sign everything committed so far."""

    def run() -> None:
        with sessions.begin() as session:
            sequence_once(session)
        with sessions.begin() as session:
            sign_head(session, signer, last_signed)

    return run


@pytest.fixture(params=[kept_seed, pytest.param(drawn_seed, marks=pytest.mark.proof)], ids=["kept", "drawn"])
def seed(request: pytest.FixtureRequest) -> int:
    """What the test draws from; RINGI_AUDIT_SEED gives another one."""
    found: int = request.param("RINGI_AUDIT_SEED")
    print(f"seed {found}")
    return found


@pytest.fixture
def votes(sessions: sessionmaker[Session], actor: Actor) -> Votes:
    return Votes(sessions, actor)


@pytest.fixture
def bodies(sessions: sessionmaker[Session]) -> Callable[[], list[bytes]]:
    """Every event's bytes in the order of their leaves."""

    def read() -> list[bytes]:
        with sessions() as session:
            query = text("SELECT e.body FROM audit_leaf l JOIN audit_event e ON e.id = l.event_id ORDER BY l.leaf_index")
            return [bytes(body) for body in session.scalars(query)]

    return read
