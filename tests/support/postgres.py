"""One embedded PostgreSQL per test session, and databases copied from a migrated template in a few hundredths of a second.

`tests/conftest.py` does `from support.postgres import postgres_server, migrated_template, database`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from ringi.embedded import postgres
from ringi.embedded.postgres import APPLICATION, OWNER, PLATFORM, SUPERUSER, PostgresHandle

ROOT = Path(__file__).parents[2]
TEMPLATE = "ringi_template"


@dataclass(frozen=True)
class DatabaseUrls:
    """One database, as SQLAlchemy URLs of its roles: `app_url` has the application's rights over every row, `tenant_url` is the API's."""

    name: str
    owner_url: str
    app_url: str
    tenant_url: str
    superuser_url: str


def urls_of(handle: PostgresHandle, name: str) -> DatabaseUrls:
    """The URLs of a database of this server."""
    return DatabaseUrls(
        name, handle.url(OWNER, name), handle.url(PLATFORM, name), handle.url(APPLICATION, name), handle.url(SUPERUSER, name)
    )


def migrate(urls: DatabaseUrls, revision: str = "head") -> None:
    """Run Alembic as its own process, as a deployment does; its output is the failure's message."""
    environment = os.environ | {"RINGI_OWNER_DATABASE_URL": urls.owner_url, "RINGI_DATABASE_URL": urls.app_url}
    command = [sys.executable, "-m", "alembic", "upgrade", revision]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def empty_database(handle: PostgresHandle, name: str) -> DatabaseUrls:
    """A database with the roles' rights and no tables."""
    postgres.create_database(handle, name)
    return urls_of(handle, name)


def migrated_template_of(handle: PostgresHandle, name: str = TEMPLATE) -> DatabaseUrls:
    """The database at Alembic's head that fresh ones are copied from. Nobody may stay connected to it."""
    urls = empty_database(handle, name)
    migrate(urls)
    return urls


def fresh_database(handle: PostgresHandle, name: str, *, template: str = TEMPLATE) -> DatabaseUrls:
    """A migrated, empty database of its own."""
    postgres.create_database(handle, name, template=template)
    return urls_of(handle, name)


def drop_database(handle: PostgresHandle, name: str) -> None:
    """Remove a database, ending the connections to it."""
    with handle.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def application(urls: DatabaseUrls) -> Iterator[sessionmaker[Session]]:
    """Sessions as the application."""
    engine = create_engine(urls.app_url)
    try:
        yield sessionmaker(engine, expire_on_commit=False)
    finally:
        engine.dispose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresHandle]:
    """The session's server; its folder is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="ringi-test-") as folder:
        handle = postgres.start(Path(folder), durable=False)
        yield handle
        postgres.stop(Path(folder), grace_s=10)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresHandle) -> DatabaseUrls:
    """The migrated template of the session."""
    return migrated_template_of(postgres_server)


@pytest.fixture
def database(postgres_server: PostgresHandle, migrated_template: DatabaseUrls) -> Iterator[DatabaseUrls]:
    """A migrated, empty database for one test."""
    urls = fresh_database(postgres_server, f"test_{uuid4().hex[:12]}", template=migrated_template.name)
    yield urls
    drop_database(postgres_server, urls.name)
