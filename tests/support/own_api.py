"""An API process with a blob store of its own, on the session's database; the store is a folder or a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.hub_client import free_port
from support.running_platform import Platform, Processes, environment_of, new_organization, start_api


@contextmanager
def small_api(shared: Processes, folder: Path, **settings: str) -> Iterator[Platform]:
    """The API with these settings, and an organisation on it."""
    (folder / "data").mkdir(parents=True)
    environment = environment_of(folder, shared.urls, shared.broker_url, free_port()) | settings
    processes = Processes(folder, shared.urls, shared.broker_url, environment)
    try:
        start_api(processes)
        with new_organization(processes) as platform:
            yield platform
        # Shown when the test fails.
        print(processes.log_of("api")[-4000:])
    finally:
        processes.stop()


def store_url(platform: Platform) -> str:
    """The RINGI_BLOB_URL of its store."""
    return platform.processes.environment.get("RINGI_BLOB_URL") or (platform.processes.data / "blobs").as_uri()
