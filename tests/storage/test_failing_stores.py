"""Stores that are away, full, gone half-way or named wrongly: a clear refusal, and nothing half-written to be seen."""

import hashlib
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ringi.storage import blobs
from ringi.storage.blobs import StoreUnavailable, StoreUrlInvalid, store_at
from ringi.storage.schemas import StoredKind
from support.hub_client import free_port
from support.object_store import ObjectStore, object_store_server

MIB = 1024 * 1024


@contextmanager
def cutting_network(target: str, *, after: int) -> Iterator[str]:
    """An address that leads to `target` and cuts the first connection whose answers reach `after` bytes; the later ones pass whole."""
    host, port = urlsplit(target).hostname or "", urlsplit(target).port or 0
    server = socket.create_server(("127.0.0.1", 0))
    cut, ends = threading.Event(), [server]

    def pump(source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        passed = 0
        try:
            while piece := source.recv(65536):
                passed += len(piece)
                if answers and passed > after and not cut.is_set():
                    cut.set()
                    break
                sink.sendall(piece)
        except OSError:
            pass
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            far = socket.create_connection((host, port))
            ends.extend((near, far))
            # thread: this is a network, one direction a thread.
            threading.Thread(target=pump, args=(near, far), kwargs={"answers": False}, daemon=True).start()
            threading.Thread(target=pump, args=(far, near), kwargs={"answers": True}, daemon=True).start()

    # thread: this is a network; the store behind it is a process of its own.
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        assert cut.is_set(), "the connection was never cut"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        for one in ends:
            one.close()


def test_a_read_that_is_cut_off_goes_on_where_it_ended(object_store: ObjectStore) -> None:
    url = object_store.new_bucket()
    data = os.urandom(12 * MIB)
    digest = blobs.put(store_at(url), [data]).digest
    with cutting_network(object_store.endpoint, after=5 * MIB) as through:
        store = store_at(url.replace(object_store.endpoint, through))
        assert hashlib.sha256(b"".join(store.open(digest))).hexdigest() == digest.removeprefix("sha256:")


def test_a_server_that_dies_in_the_middle_of_an_upload_is_a_clear_refusal() -> None:
    with object_store_server() as server:
        store = store_at(server.new_bucket())
        writer = store.writer()
        writer.write(os.urandom(9 * MIB))
        server.kill()
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            writer.write(os.urandom(9 * MIB))
        writer.abort()  # nobody answers it, and it says nothing
        for use in (store.check, store.now, lambda: store.look("sha256:" + "0" * 64), lambda: list(store.objects())):
            with pytest.raises(StoreUnavailable):
                use()


def test_a_bucket_that_is_not_there_is_named_as_the_stores_fault(object_store: ObjectStore) -> None:
    store = store_at(f"s3://no-such-bucket/x?endpoint={object_store.endpoint}")
    with pytest.raises(StoreUnavailable, match=r"404|NoSuchBucket"):
        store.check()
    with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
        blobs.put(store, [b"x"])


def test_objects_that_are_not_ours_are_not_looked_at(object_store: ObjectStore) -> None:
    url = object_store.new_bucket()
    bucket = urlsplit(url).netloc
    for key in ("elsewhere/sha256/aa/file", "ringi/blobs/README.md", "ringi/blobs/sub/parts/x"):
        object_store.client.put_object(Bucket=bucket, Key=key, Body=b"not ours")
    stored = blobs.put(store_at(url), [b"ours"])
    assert [found.name for found in store_at(url).objects()] == [stored.digest]


def test_a_folder_that_is_gone_is_a_clear_refusal(tmp_path: Path) -> None:
    store = store_at(tmp_path.as_uri())
    shutil.rmtree(tmp_path / "incoming")
    with pytest.raises(StoreUnavailable):
        store.check()
    with pytest.raises(StoreUnavailable):
        store.writer()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("gs://bucket", "no blob store speaks 'gs:'"),
        ("s3:///prefix", "s3://bucket/prefix"),
        ("s3://key:secret@bucket/prefix", "credentials in the environment"),
        ("s3://bucket/prefix?endpont=http://x", "unknown options endpont"),
        ("s3://bucket/prefix?endpoint=nowhere", "Invalid endpoint"),
        ("s3://bucket/prefix?region=x&addressing=sideways", "sideways"),
    ],
)
def test_an_address_that_cannot_be_used_says_why(url: str, says: str) -> None:
    with pytest.raises(StoreUrlInvalid, match=says):
        store_at(url)


def test_a_prefix_keeps_two_deployments_in_one_bucket_apart(object_store: ObjectStore) -> None:
    url = object_store.new_bucket()
    ours, theirs = store_at(url), store_at(url.replace("/ringi/blobs", "/other"))
    stored = blobs.put(ours, [b"only here"])
    assert [found.kind for found in ours.objects()] == [StoredKind.BLOB]
    assert list(theirs.objects()) == []
    with pytest.raises(blobs.BlobMissing):
        theirs.look(stored.digest)


def test_a_server_that_nobody_runs_is_noticed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    store = store_at(f"s3://bucket/x?endpoint=http://127.0.0.1:{free_port()}&region=ap-northeast-1")
    with pytest.raises(StoreUnavailable, match="Could not connect"):
        store.check()
