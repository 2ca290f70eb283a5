"""Row-level security: whatever a request asks, the database shows it the rows of its caller's organisation and no other.

Two organisations with a row in every table stand in one database. The questions here name no organisation at all, as a forgotten scope or
an injected statement would.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session, sessionmaker

from all_models import metadata
from identity.matrix.world import World, world
from identity.more_rows import fill
from ringi.adapters.models import Adapter
from ringi.db import callers
from ringi.db.session import get_engine, get_platform_engine, get_reading, get_sessionmaker, platform_transaction
from ringi.embedded.postgres import PostgresHandle
from ringi.identity import tokens
from ringi.identity.models import Token, User
from ringi.settings import get_settings
from support.postgres import ROOT, DatabaseUrls, drop_database, fresh_database

# Tables of nobody's rows.
OF_NO_TENANT = {
    "alembic_version": "the schema's own revision",
    "audit_checkpoint": "signed notes over the whole log, which are made to be shown",
    "audit_cosignature": "what witnesses signed over the whole log, which is made to be shown",
    "audit_guard": "the name of the log and whether the platform is read-only, for the policy that looks there",
    "audit_head": "one number and hashes",
    "audit_leaf": "hashes of entries, which hold random ids and so tell nothing",
    "audit_node": "hashes of hashes",
    "audit_origin": "the names of the logs of this database, which are made to be shown",
    "audit_pending": "numbers of entries that have no leaf yet",
    "audit_stop": "why the platform is read-only, which everybody is told who tries to change something",
    "blobs": "digests and sizes of bytes that are stored once, whoever sent them; who did stands in `uploads`",
    "outbox": "a job's id for the relay, and nothing of the job",
    "process_signs": "when the platform's own processes were last heard of",
}
PROTECTED = sorted(set(metadata.tables) - set(OF_NO_TENANT))
every_table = pytest.mark.parametrize("table", PROTECTED)


@dataclass(frozen=True)
class Ground:
    """The database with two full organisations."""

    urls: DatabaseUrls
    here: World
    there: World

    def proof(self, of: World, caller: str = "viewer") -> str:
        """What the application shows for a caller of a world."""
        secret = of.secrets[caller]
        assert secret is not None
        return tokens.hashed(secret)

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self.urls.superuser_url.replace("+psycopg", ""), autocommit=True) as connection:
            yield connection


@pytest.fixture(scope="module")
def ground(postgres_server: PostgresHandle, migrated_template: DatabaseUrls) -> Iterator[Ground]:
    urls = fresh_database(postgres_server, f"tenants_{uuid4().hex[:8]}", template=migrated_template.name)
    engine = create_engine(urls.app_url)
    sessions: sessionmaker[Session] = sessionmaker(engine, expire_on_commit=False)
    worlds = [world(sessions, "http://127.0.0.1:1") for _ in range(2)]
    for one in worlds:
        fill(sessions, one)
    engine.dispose()
    yield Ground(urls, *worlds)
    drop_database(postgres_server, urls.name)


@pytest.fixture
def application(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """This process as an API with one connection."""
    caches = (get_settings, get_engine, get_sessionmaker, get_reading)
    told = {
        "DATABASE_URL": ground.urls.tenant_url,
        "PLATFORM_DATABASE_URL": ground.urls.app_url,
        "DATABASE_POOL_SIZE": "1",
        "DATA_DIR": str(tmp_path),
    }
    for name, value in told.items():
        monkeypatch.setenv(f"RINGI_{name}", value)
    for cached in caches:
        cached.cache_clear()
    yield ground
    get_engine().dispose()
    get_platform_engine().dispose()
    for cached in caches:
        cached.cache_clear()


def rows_of(session: Session, table: str) -> set[str]:
    """Where the rows of a table lie, of all that the session sees."""
    return set(session.scalars(text(f'SELECT ctid::text FROM "{table}"')))


def seen(table: str, proof: str | None, *, reading: bool) -> set[str]:
    """What an unscoped question of a request finds."""
    with callers.request(), (get_reading() if reading else get_sessionmaker())() as session:
        if proof is not None:
            callers.present(proof)
        return rows_of(session, table)


def test_a_table_is_protected_or_stands_on_the_list_with_a_reason(ground: Ground) -> None:
    with ground.superuser() as connection:
        guarded = dict(
            connection.execute(
                """SELECT c.relname::text, (SELECT array_agg(p.policyname::text ORDER BY p.policyname) FROM pg_policies p WHERE p.tablename = c.relname)
                   FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relrowsecurity AND c.relforcerowsecurity"""
            ).fetchall()
        )
        everything = {name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert set(guarded) == everything - set(OF_NO_TENANT)
    # What an event must be is a fourth policy of its table alone (audit/guard.py).
    assert {name: tuple(policies) for name, policies in guarded.items()} == {
        name: ("entry", "owner", "platform", "tenant") if name == "audit_event" else ("owner", "platform", "tenant") for name in guarded
    }
    owned = {name for name, table in metadata.tables.items() if {"organization_id", "project_id"} & set(table.columns.keys())}
    assert not owned & set(OF_NO_TENANT)


@every_table
@pytest.mark.parametrize("reading", [True, False], ids=["read", "transaction"])
def test_an_unscoped_question_finds_the_callers_rows_alone(application: Ground, table: str, *, reading: bool) -> None:
    here, there = (seen(table, application.proof(one), reading=reading) for one in (application.here, application.there))
    with application.superuser() as connection:
        query = sql.SQL("SELECT ctid::text FROM {}").format(sql.Identifier(table))
        everything = {place for (place,) in connection.execute(query)}
    # A worker of no organisation serves both.
    shared = here & there if table == "workers" else set()
    assert here - shared, "without a row of each this proves nothing"
    assert there - shared, "without a row of each this proves nothing"
    assert (here & there) == shared
    foreigners = seen(table, application.proof(application.here, "foreign"), reading=reading) | seen(
        table, application.proof(application.there, "foreign"), reading=reading
    )
    assert here | there | foreigners == everything
    assert (here & foreigners) == shared


@every_table
@pytest.mark.parametrize("proof", [None, "", "0" * 64], ids=["nothing", "empty", "unknown"])
def test_who_shows_nothing_sees_nothing(application: Ground, table: str, proof: str | None) -> None:
    found = seen(table, proof, reading=True)
    assert len(found) == (1 if table == "workers" else 0)


def test_a_model_asked_for_without_its_scope_is_scoped_all_the_same(application: Ground) -> None:
    with callers.request(), get_reading()() as session:
        callers.present(application.proof(application.here))
        found = session.scalars(select(Adapter)).all()
    assert [str(one.id) for one in found] == [application.here.values["object_id"]]


def test_what_one_request_has_shown_the_next_one_on_its_connection_has_not(application: Ground) -> None:
    here, there = application.proof(application.here), application.proof(application.there)
    backends = set()

    def projects(proof: str | None, *, reading: bool) -> set[str]:
        with callers.request(), (get_reading() if reading else get_sessionmaker())() as session:
            if proof is not None:
                callers.present(proof)
            found = set(session.scalars(text("SELECT id::text FROM projects WHERE name = 'risk'")))
            backends.add(session.scalar(text("SELECT pg_backend_pid()")))
            if not reading:
                session.commit()
            return found

    mine, theirs = {application.here.values["project_id"]}, {application.there.values["project_id"]}
    for first, second, expected in ((True, True, theirs), (True, False, theirs), (False, True, theirs), (False, False, theirs)):
        assert projects(here, reading=first) == mine
        assert projects(there, reading=second) == expected
        assert projects(None, reading=first) == set()
        assert projects(here, reading=second) == mine
        assert projects(None, reading=second) == set()
    with get_engine().connect() as plain:
        assert plain.scalar(text("SELECT count(*) FROM projects")) == 0, "outside a request nothing is shown"
    assert len(backends) == 1, "all of this was about one connection"


def test_a_request_that_failed_leaves_nothing_on_its_connection(application: Ground) -> None:
    for maker in (get_reading(), get_sessionmaker()):
        with callers.request(), maker() as session:
            callers.present(application.proof(application.here))
            assert session.scalar(text("SELECT count(*) FROM projects")) == 2
            with pytest.raises(ProgrammingError):
                session.execute(text("SELECT no_such_column FROM projects"))
        with callers.request(), maker() as session:
            assert session.scalar(text("SELECT count(*) FROM projects")) == 0


def test_a_row_of_another_organisation_is_neither_added_nor_changed_nor_removed(application: Ground) -> None:
    other = application.there.values
    with callers.request(), get_sessionmaker()() as session:
        callers.present(application.proof(application.here))
        for statement in (
            "UPDATE projects SET display_name = '盗' WHERE id = :project",
            "UPDATE adapters SET description = '盗' WHERE id = :adapter",
            "DELETE FROM tags WHERE object_id = :adapter",
            "UPDATE tokens SET revoked_at = now() WHERE id = :token",
        ):
            done = session.execute(
                text(statement), {"project": other["project_id"], "adapter": other["object_id"], "token": other["token_id"]}
            )
            assert done.rowcount == 0, statement  # type: ignore[attr-defined]  # of a statement that changes
        session.rollback()
        for statement in (
            """INSERT INTO tags (id, organization_id, object_type, object_id, key, value, set_by)
            VALUES (gen_random_uuid(), :organization, 'adapter', :adapter, 'k', 'v', :adapter)""",
            "INSERT INTO datasets (id, project_id, name, description) VALUES (gen_random_uuid(), :project, 'mine', '')",
            "UPDATE users SET organization_id = :organization",
        ):
            with pytest.raises(ProgrammingError, match="row-level security"):
                session.execute(
                    text(statement),
                    {"project": other["project_id"], "adapter": other["object_id"], "organization": other["organization_id"]},
                )
            session.rollback()


def test_an_injected_statement_cannot_show_what_it_may_not_read(application: Ground) -> None:
    other = application.there
    with callers.request(), get_reading()() as session:
        callers.present(application.proof(application.here))
        known = session.execute(select(Token.secret_hash, User.name).join(User)).all()
        assert other.secrets["viewer"]
        assert application.proof(other) not in {row.secret_hash for row in known}
        # Everything about the others that may leak somewhere, said in their place.
        guesses = [
            other.values["organization_id"],
            other.values["project_id"],
            other.values["token_id"],
            other.secrets["viewer"] or "",
            "*",
            "%",
            "ringi_platform",
        ]
        for guess in guesses:
            injected = text(
                "WITH said AS MATERIALIZED (SELECT set_config('ringi.caller', :guess, false)) SELECT projects.id::text FROM said, projects"
            )
            found = set(session.scalars(injected, {"guess": guess}))
            assert not found & {other.values["project_id"]}, guess
        for statement in ("SET ROLE ringi_platform", "SET ROLE ringi_owner", "SET SESSION AUTHORIZATION ringi_platform"):
            with pytest.raises(ProgrammingError):
                session.execute(text(statement))
        session.execute(text("SET row_security = off"))
        with pytest.raises(ProgrammingError, match="row-level security"):
            session.execute(text("SELECT * FROM projects"))
        session.execute(text("RESET row_security"))


def test_the_platforms_own_questions_see_everyone(application: Ground) -> None:
    with callers.request(), platform_transaction() as session:
        projects = set(session.scalars(text("SELECT id FROM projects")))
    assert {UUID(application.here.values["project_id"]), UUID(application.there.values["project_id"])} <= projects


# Where a process that answers requests asks about all organisations, and why.
ASKS_ABOUT_ALL = {
    "api/audit.py": "an export tells what is withheld from what is missing, by the whole log",
    "api/audit_log.py": "entries of others are told from entries that are gone, by the whole log",
    "api/gauges.py": "figures of the deployment, for who holds its metrics token",
    "fleet/service.py": "whether a shared worker serves anybody else",
    "identity/dependencies.py": "the operator's setup key is of no organisation, and makes new ones",
    "identity/logins.py": "whose login it is, before there is a caller",
    "identity/refused_logins.py": "a refusal is of nobody, or of the organisation whose token was shown",
    "identity/sessions.py": "whose login it is, before there is a caller",
    "jobs/endpoints.py": "how many workers a queue could keep busy",
    "jobs/feed.py": "one reader for the streams of all, each of which is given what its sight shows",
    "retention/service.py": "the store is one: what is nobody's any more is asked of everybody's rows",
}


def test_every_place_that_asks_about_all_organisations_is_known() -> None:
    doors = ("platform_transaction", "get_platform_engine", "serve_platform", "platform=True")
    root = ROOT / "platform" / "ringi"
    found = {
        path.relative_to(root).as_posix() for path in root.rglob("*.py") if path.parent.name not in {"db", "embedded"}
        and any(door in path.read_text() for door in doors)
    }  # fmt: skip
    assert found == set(ASKS_ABOUT_ALL)
