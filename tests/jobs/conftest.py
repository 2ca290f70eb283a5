"""A platform whose servers may be stopped: a PostgreSQL and a Valkey of its own. Workers are started and killed by the tests."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from ringi.embedded import postgres, valkey
from support.postgres import empty_database, migrate
from support.running_platform import new_organization, started
from support.workbench import Workbench


@dataclass(frozen=True)
class Rig(Workbench):
    """The platform, one organisation in it, and the servers beneath."""

    valkey_folder: Path

    @contextmanager
    def broker(self) -> Iterator["redis.Redis"]:
        """A client of the broker."""
        client = redis.Redis.from_url(self.processes.broker_url)
        yield client
        client.close()


@pytest.fixture(scope="package")
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="ringi-jobs-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        database = postgres.start(folder / "database", durable=False)
        broker = valkey.start(folder / "broker")
        urls = empty_database(database, "jobs")
        migrate(urls)
        (folder / "platform").mkdir()
        processes = started(folder / "platform", urls, broker.url)
        try:
            with new_organization(processes) as platform:
                yield Rig(processes, platform, database, folder, folder / "broker")
        finally:
            processes.stop()
            valkey.stop(folder / "broker")
            postgres.stop(folder / "database", grace_s=10)
