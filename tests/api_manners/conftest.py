"""A platform of its own whose API is killed and whose PostgreSQL is restarted."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from ringi.embedded import postgres
from ringi.embedded.postgres import PostgresHandle
from support.postgres import empty_database, migrate
from support.running_platform import Platform, Processes, new_organization, started


@dataclass(frozen=True)
class Alone:
    """The platform, one organisation in it, and its database server."""

    processes: Processes
    platform: Platform
    database: PostgresHandle

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection]:
        """What only tests may do: hold locks, and look."""
        with self.database.connect(self.processes.urls.name) as connection:
            connection.autocommit = False
            yield connection


@pytest.fixture(scope="module")
def alone(broker: str) -> Iterator[Alone]:
    with tempfile.TemporaryDirectory(prefix="ringi-manners-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        database = postgres.start(folder / "database", durable=False)
        urls = empty_database(database, "manners")
        migrate(urls)
        (folder / "platform").mkdir()
        processes = started(folder / "platform", urls, broker)
        try:
            with new_organization(processes) as platform:
                yield Alone(processes, platform, database)
        finally:
            processes.stop()
            postgres.stop(folder / "database", grace_s=10)


@pytest.fixture
def platform(platform: Platform) -> Platform:
    """An organisation whose people have all joined: these tests change the rows of some whom nobody has asked for anything."""
    return platform.with_everybody()
