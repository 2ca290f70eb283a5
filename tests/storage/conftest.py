"""Both stores, for the tests of what they have in common."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from ringi.storage.blobs import BlobStore, store_at
from ringi.storage.local import LocalBlobStore
from ringi.storage.s3 import S3BlobStore
from ringi.storage.schemas import StoredKind
from support.object_store import ObjectStore


class Bench(NamedTuple):
    """A store, and a hand that changes stored bytes behind its back."""

    store: BlobStore
    spoil: Callable[[str, bytes], None]

    def lies_there(self, kind: StoredKind | None = None) -> list[str]:
        """Names of what is in the store."""
        return sorted(found.name for found in self.store.objects() if kind in {None, found.kind})

    @property
    def an_hour(self) -> timedelta:
        """For comparing times without minding the seconds that S3 cuts off."""
        return timedelta(hours=1)


@pytest.fixture(params=["local", "s3"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    """An empty store of each kind."""
    if request.param == "local":
        local = store_at((tmp_path / "blobs").as_uri())
        assert isinstance(local, LocalBlobStore)

        def spoil_file(digest: str, content: bytes) -> None:
            local.path(digest).chmod(0o644)
            local.path(digest).write_bytes(content)

        return Bench(local, spoil_file)
    server: ObjectStore = request.getfixturevalue("object_store")
    bucket = store_at(server.new_bucket())
    assert isinstance(bucket, S3BlobStore)
    return Bench(bucket, lambda digest, content: server.client.put_object(Bucket=bucket.bucket, Key=bucket.key(digest), Body=content))
