"""The API over each kind of store."""

from collections.abc import Iterator

import pytest

from support.object_store import ObjectStore
from support.own_api import small_api
from support.running_platform import Platform, Processes


@pytest.fixture(scope="module", params=["local", "s3"])
def served(request: pytest.FixtureRequest, shared_platform: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """An API process of this module's own, which its tests may kill and start again."""
    settings = {}
    if request.param == "s3":
        server: ObjectStore = request.getfixturevalue("object_store")
        settings["RINGI_BLOB_URL"] = server.new_bucket()
    with small_api(shared_platform, tmp_path_factory.mktemp(f"api-{request.param}"), **settings) as platform:
        yield platform
