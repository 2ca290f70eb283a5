"""One hub and one world for the tests of this folder; each test makes adapters of its own in it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ringi.embedded.postgres import PostgresHandle
from support.hub_client import HubClient, HubServer, hub_server
from support.hub_world import HubWorld, close, hub_world
from support.postgres import DatabaseUrls, drop_database, fresh_database


@dataclass(frozen=True)
class Hub:
    """The running hub, its world, and clients for it."""

    server: HubServer
    pid: int
    world: HubWorld

    def endpoint(self, channel: str = "production") -> str:
        """HF_ENDPOINT of a channel."""
        return f"{self.server.url}/hf/{channel}"

    def headers(self, token: str) -> dict[str, str]:
        """Authorization by a token's name."""
        return {"Authorization": f"Bearer {self.world.tokens[token]}"}


@pytest.fixture(scope="package")
def hub(postgres_server: PostgresHandle, migrated_template: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    urls = fresh_database(postgres_server, "hub", template=migrated_template.name)
    world = hub_world(urls, folder / "blobs")
    with hub_server(folder, urls=urls, blobs=folder / "blobs") as (server, pid):
        yield Hub(server, pid, world)
    close(world)
    drop_database(postgres_server, urls.name)


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Callable[..., HubClient]:
    """A client by its token's name; the same `home` means the same cache."""

    def make(token: str | None = "viewer", *, channel: str = "production", home: str = "home") -> HubClient:
        return HubClient(tmp_path / home, hub.endpoint(channel), hub.world.tokens[token] if token else None)

    return make
