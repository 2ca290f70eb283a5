"""A platform of its own on the session's servers: these tests start, stop and kill its workers."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from ringi.embedded.postgres import PostgresHandle
from support.postgres import DatabaseUrls, fresh_database
from support.running_platform import new_organization, started
from support.workbench import Workbench


@pytest.fixture(scope="package")
def bench(
    postgres_server: PostgresHandle, migrated_template: DatabaseUrls, broker: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workbench]:
    urls = fresh_database(postgres_server, f"fleet_{uuid4().hex[:8]}", template=migrated_template.name)
    folder: Path = tmp_path_factory.mktemp("fleet")
    processes = started(folder, urls, broker)
    try:
        with new_organization(processes) as platform:
            yield Workbench(processes, platform, postgres_server, folder)
    finally:
        processes.stop()
