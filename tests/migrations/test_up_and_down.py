"""Empty to head, head equals the models, down and up again, the previous head with data, and a lock that is not waited for."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy import create_engine, make_url

from all_models import metadata
from ringi.embedded.postgres import PostgresHandle
from support.postgres import ROOT, DatabaseUrls, drop_database, empty_database, migrate

SCRIPTS = ScriptDirectory.from_config(Config(toml_file=str(ROOT / "pyproject.toml")))
# One answer for everything that a migration makes: tables, constraints, indexes, triggers, functions, policies, types and rights.
SHAPE = """
    SELECT 'column', table_name, column_name, data_type || is_nullable || coalesce(column_default, '') || coalesce(identity_generation, '')
      FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname::text, tgenabled::text || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'function', proname, '', prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'policy', tablename, policyname::text, permissive || cmd || roles::text || coalesce(qual, '') || coalesce(with_check, '')
      FROM pg_policies WHERE schemaname = 'public'
    UNION ALL SELECT 'row security', oid::regclass::text, relrowsecurity::text, relforcerowsecurity::text
      FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND (relrowsecurity OR relforcerowsecurity)
    UNION ALL SELECT 'type', typname, typtype::text, '' FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd')
    UNION ALL SELECT 'sequence', relname, '', '' FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace
    UNION ALL SELECT 'right', table_name, grantee, privilege_type FROM information_schema.role_table_grants WHERE table_schema = 'public'
    UNION ALL SELECT 'column right', table_name, column_name, grantee || privilege_type
      FROM information_schema.column_privileges WHERE table_schema = 'public'
"""

Connect = Callable[[str], psycopg.Connection]


@pytest.fixture
def urls(postgres_server: PostgresHandle) -> Iterator[DatabaseUrls]:
    """A database without tables."""
    name = f"migrate_{uuid4().hex[:12]}"
    yield empty_database(postgres_server, name)
    drop_database(postgres_server, name)


def alembic(urls: DatabaseUrls, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Alembic as a deployment runs it: its own process, as the owner role."""
    environment = os.environ | {"RINGI_OWNER_DATABASE_URL": urls.owner_url, "RINGI_DATABASE_URL": urls.app_url}
    command = [sys.executable, "-m", "alembic", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


def connect(url: str) -> psycopg.Connection:
    """A plain connection to a SQLAlchemy URL."""
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))


def shape(urls: DatabaseUrls) -> set[tuple[str, ...]]:
    with connect(urls.superuser_url) as connection:
        return set(connection.execute(SHAPE).fetchall())


def revision_of(urls: DatabaseUrls) -> list[tuple[str, ...]]:
    with connect(urls.owner_url) as connection:
        return connection.execute("SELECT version_num FROM alembic_version").fetchall()


def test_the_versions_are_one_line_without_branches() -> None:
    assert len(SCRIPTS.get_heads()) == 1
    assert len(SCRIPTS.get_bases()) == 1
    assert all(not isinstance(script.down_revision, tuple) for script in SCRIPTS.walk_revisions())


def test_what_a_version_says_of_its_parent_is_true() -> None:
    said = {script.revision: str(script.module.__doc__).rpartition("Revises:")[2].strip() or None for script in SCRIPTS.walk_revisions()}
    assert said == {script.revision: script.down_revision for script in SCRIPTS.walk_revisions()}


def test_the_head_equals_the_models(database: DatabaseUrls) -> None:
    engine = create_engine(database.owner_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == [], "the models changed: add a migration (alembic revision --autogenerate)"


def test_empty_to_head_down_to_nothing_and_up_to_the_same_again(urls: DatabaseUrls) -> None:
    migrate(urls)
    first = shape(urls)
    assert {table for kind, table, *_ in first if kind == "column"} == {*metadata.tables, "alembic_version"}
    down = alembic(urls, "downgrade", "base")
    assert down.returncode == 0, down.stderr
    assert {(kind, name) for kind, name, *_ in shape(urls) if name not in {"alembic_version", "alembic_version_pkc"}} == set()
    migrate(urls)
    assert shape(urls) == first


def test_what_the_previous_head_holds_survives_the_step_to_the_head_and_back(urls: DatabaseUrls) -> None:
    previous = SCRIPTS.get_revision("head").down_revision
    assert isinstance(previous, str)
    migrate(urls, previous)
    fill(urls)
    before = contents(urls)
    migrate(urls)
    assert contents(urls, of=before) == before
    back = alembic(urls, "downgrade", "-1")
    assert back.returncode == 0, back.stderr
    assert contents(urls) == before
    migrate(urls)
    assert contents(urls, of=before) == before


def test_what_was_sealed_before_there_were_quotas_is_counted(urls: DatabaseUrls) -> None:
    migrate(urls, "0004")
    fill(urls)
    source, train, validation = ("sha256:" + one * 64 for one in "abc")
    with connect(urls.app_url) as connection:
        (project,) = connection.execute("SELECT id FROM projects").fetchone() or (None,)
        connection.execute("INSERT INTO blobs (digest, size) VALUES (%s, 20), (%s, 5)", (train, validation))
        for number in (1, 2):
            dataset = uuid4()
            connection.execute(
                "INSERT INTO datasets (id, project_id, name, description) VALUES (%s, %s, %s, '')", (dataset, project, f"faq{number}")
            )
            connection.execute(
                """INSERT INTO dataset_versions (id, project_id, dataset_id, number, digest, source_digest, split, train_digest, train_size,
                validation_digest, validation_size, report, created_by) VALUES (%s, %s, %s, 1, 'd', %s, '{}', %s, 20, %s, 5, '{}', %s)""",
                (uuid4(), project, dataset, source, train, validation, uuid4()),
            )
    migrate(urls, "0005")
    with connect(urls.app_url) as connection:
        held = connection.execute("SELECT digest, size FROM project_bytes ORDER BY digest").fetchall()
    assert held == [(source, 3), (train, 20), (validation, 5)]


def fill(urls: DatabaseUrls) -> None:
    """An organisation with a project, a user, a stored blob, a job, a message and an audit event, written as the application would."""
    organization, project, user, job = (str(uuid4()) for _ in range(4))
    digest = "sha256:" + "a" * 64
    with connect(urls.app_url) as connection:
        for statement, values in (
            ("INSERT INTO organizations (id, name, display_name) VALUES (%s, 'acme', '稟議株式会社')", (organization,)),
            ("INSERT INTO projects (id, organization_id, name, display_name) VALUES (%s, %s, 'support', '')", (project, organization)),
            ("INSERT INTO users (id, organization_id, name, display_name, kind) VALUES (%s, %s, 'ada', '', 'human')", (user, organization)),
            ("INSERT INTO blobs (digest, size) VALUES (%s, 3)", (digest,)),
            (
                """INSERT INTO jobs (id, organization_id, kind, queue, subject, state, payload, attempt, max_attempts, created_by)
                VALUES (%s, %s, 'train', 'gpu', 'x', 'queued', '{"n": 1}', 0, 5, %s)""",
                (job, organization, user),
            ),
            ("INSERT INTO outbox (topic, key, payload, attempts) VALUES ('job.ready', %s, '{}', 0)", (job,)),
            (
                """INSERT INTO audit_event (event_id, body, leaf_hash, ts, action, outcome, actor_type, actor_id, object_type, object_id)
                VALUES (%s, 'body', sha256('\\x00'::bytea || 'body'), now(), 'project.create', 'ok', 'user', 'ada', 'project', 'p')""",
                (str(uuid4()),),
            ),
        ):
            connection.execute(statement, values)


Contents = dict[str, list[dict[str, object]]]


def contents(urls: DatabaseUrls, *, of: Contents | None = None) -> Contents:
    """Every row of every table that a user's action fills; with `of` only the tables and columns that were there then."""
    own = {"alembic_version", "audit_head"}
    with connect(urls.superuser_url) as connection:
        connection.row_factory = dict_row  # type: ignore[assignment]  # the connection is typed for tuples
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
        names = {str(dict(one)["tablename"]) for one in tables} - own
        rows: Contents = {name: [dict(one) for one in connection.execute(f'SELECT * FROM "{name}" ORDER BY 1')] for name in names}
    found = {name: rows[name] for name in sorted(rows) if rows[name]}
    if of is None:
        return found
    return {name: [{column: row[column] for column in of[name][0]} for row in found[name]] for name in of}


def test_a_migration_gives_up_on_a_locked_table_and_changes_nothing(urls: DatabaseUrls) -> None:
    migrate(urls)
    before, revision = shape(urls), revision_of(urls)
    with connect(urls.app_url) as reader:
        # A reader in the middle of a long query is all that it takes, of whichever table the newest step changes.
        tables = sql.SQL(", ").join(sql.Identifier(name) for name in metadata.tables)
        reader.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(tables))
        started = time.monotonic()
        # All the way: whatever the newest migration is about, an earlier one needs this table. All are one transaction.
        refused = alembic(urls, "downgrade", "base")
        waited_s = time.monotonic() - started
    assert refused.returncode != 0
    assert "lock timeout" in refused.stderr
    assert waited_s < 30
    assert revision_of(urls) == revision
    assert shape(urls) == before


def test_without_an_owner_url_nothing_is_migrated_and_the_message_names_the_setting(urls: DatabaseUrls) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RINGI_OWNER_DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"], cwd=ROOT, env=environment | {"RINGI_DATABASE_URL": urls.app_url},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "RINGI_OWNER_DATABASE_URL" in done.stderr
