"""Uploads through the API: whole or not at all, in bounded memory, and of use to whoever sent them only."""

import hashlib
import os
import resource
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from ringi.identity.schemas import Role
from ringi.storage.blobs import store_at
from ringi.storage.schemas import StoredKind
from support.at_once import at_once, codes
from support.object_store import ObjectStore
from support.own_api import small_api, store_url
from support.running_platform import PROJECT, Platform, Processes
from support.tiny_model import make_tiny_rows
from support.waiting import until

MIB = 1024 * 1024


@pytest.fixture(scope="module", autouse=True)
def nothing_incoming(shared_platform: Processes) -> None:
    """Workers that other files of tests killed half-way leave what they were writing, for the hours until a collection takes it."""
    for left in (shared_platform.data / "blobs" / "incoming").glob("*.part"):
        left.unlink()


def blobs(platform: Platform) -> Path:
    return platform.processes.data / "blobs"


def incoming(platform: Platform) -> list[Path]:
    return list((blobs(platform) / "incoming").iterdir())


def stored(platform: Platform, digest: str) -> bool:
    name = digest.removeprefix("sha256:")
    return (blobs(platform) / "sha256" / name[:2] / name).exists()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def test_the_same_bytes_are_stored_once_and_audited_once(platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "twice.bin"
    file.write_bytes(os.urandom(1000))
    first = platform.as_("contributor").upload(file)
    assert platform.as_("contributor").upload(file) == first
    events = list(platform.as_("auditor").audit.events(action="upload.store", object_id=first.digest))
    assert len(events) == 1


def test_other_bytes_than_announced_are_refused_and_not_kept(platform: Platform) -> None:
    data = os.urandom(5000)
    answer = platform.call("contributor", "POST", "/uploads", content=data, headers={"X-Content-Digest": digest_of(b"other")})
    assert (answer.status_code, answer.json()["code"]) == (400, "blob_digest_mismatch")
    assert answer.json()["details"] == {"expected": digest_of(b"other"), "found": digest_of(data)}
    assert not stored(platform, digest_of(data))
    assert incoming(platform) == []


def test_a_digest_that_is_none_is_malformed(platform: Platform) -> None:
    answer = platform.call("contributor", "POST", "/uploads", content=b"x", headers={"X-Content-Digest": "md5:abc"})
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


def test_uploads_need_a_token_and_a_role(platform: Platform) -> None:
    answer = platform.call(None, "POST", "/uploads", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    answer = platform.call("viewer", "POST", "/uploads", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@contextmanager
def unfinished(platform: Platform, data: bytes, *, announced: int, user: str = "contributor") -> Iterator[socket.socket]:
    """An upload of which only `data` was sent so far."""
    address = urlsplit(platform.server)
    head = f"POST /api/v1/uploads HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {platform.tokens[user]}\r\n"
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(f"{head}Content-Length: {announced}\r\n\r\n".encode() + data)
        yield connection


def test_a_client_that_goes_away_leaves_nothing(platform: Platform) -> None:
    data = os.urandom(3 * MIB)
    with unfinished(platform, data, announced=6 * MIB):
        until(lambda: sum(path.stat().st_size for path in incoming(platform)) >= MIB)
    until(lambda: incoming(platform) == [])
    assert not stored(platform, digest_of(data))
    assert platform.as_("contributor").identity.whoami().name == "contributor"


def test_a_client_that_goes_away_leaves_no_upload_open_in_a_bucket(
    shared_platform: Processes, object_store: ObjectStore, tmp_path: Path
) -> None:
    with small_api(shared_platform, tmp_path / "own", RINGI_BLOB_URL=object_store.new_bucket()) as platform:
        store = store_at(store_url(platform))
        # More than two parts of a multipart upload.
        with unfinished(platform, os.urandom(17 * MIB), announced=24 * MIB):
            until(lambda: [found.kind for found in store.objects()] == [StoredKind.MULTIPART])
        until(lambda: list(store.objects()) == [])
        assert platform.as_("contributor").identity.whoami().name == "contributor"


def test_a_slow_upload_holds_up_no_other_request_of_the_same_token(platform: Platform) -> None:
    platform.add_user("slow", Role.CONTRIBUTOR)
    with unfinished(platform, b"x" * 100_000, announced=MIB, user="slow") as connection:
        until(lambda: len(incoming(platform)) == 1)
        answer = platform.call("slow", "GET", "/whoami")
        assert answer.json()["name"] == "slow"
        connection.sendall(b"x" * (MIB - 100_000))
        assert b" 201 " in connection.recv(65536).splitlines()[0]


def test_many_slow_uploads_leave_the_database_to_others(platform: Platform) -> None:
    with_all = [unfinished(platform, b"x", announced=MIB) for _ in range(30)]
    for one in with_all:
        one.__enter__()
    try:
        until(lambda: len(incoming(platform)) == 30)
        assert platform.as_("viewer").identity.whoami().name == "viewer"
    finally:
        for one in with_all:
            one.__exit__(None, None, None)
    until(lambda: incoming(platform) == [])


def test_a_digest_is_no_right_to_the_bytes_behind_it(platform: Platform, tmp_path: Path) -> None:
    """Another user of the same project knows the digest and still cannot register the file."""
    rows = make_tiny_rows(tmp_path / "rows.jsonl", 30, seed=11)
    digest = platform.as_("contributor").upload(rows).digest
    platform.add_user("colleague", Role.CONTRIBUTOR)
    platform.as_("colleague").datasets.create(PROJECT, "taken")
    path = f"/projects/{PROJECT}/datasets/taken/versions"
    answer = platform.call("colleague", "POST", path, json={"source": digest})
    assert (answer.status_code, answer.json()["code"]) == (400, "file_not_uploaded")
    platform.as_("colleague").upload(rows)
    accepted = platform.call("colleague", "POST", path, json={"source": digest})
    assert accepted.status_code == 202
    # A worker that is still sealing writes where the next tests look.
    platform.succeeded(UUID(accepted.json()["job_id"]))


def test_two_uploads_of_equal_bytes_at_once_are_one_blob(platform: Platform, tmp_path: Path) -> None:
    file = tmp_path / "same.bin"
    file.write_bytes(os.urandom(MIB))
    results = at_once(platform, *[("contributor", lambda c: c.upload(file))] * 4)
    assert codes(results) == ["done"] * 4
    assert stored(platform, digest_of(file.read_bytes()))
    assert incoming(platform) == []


@pytest.fixture(scope="module")
def limited(shared_platform: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """An API that takes uploads of at most 4 MiB."""
    with small_api(shared_platform, tmp_path_factory.mktemp("limited"), RINGI_MAX_UPLOAD_BYTES=str(4 * MIB)) as platform:
        yield platform


def test_an_upload_past_the_limit_is_refused_announced_or_not(limited: Platform) -> None:
    data = os.urandom(4 * MIB + 1)

    def pieces() -> Iterator[bytes]:
        yield data[: 3 * MIB]
        yield data[3 * MIB :]

    for content in (data, pieces()):
        answer = limited.call("contributor", "POST", "/uploads", content=content)
        assert (answer.status_code, answer.json()["code"]) == (413, "upload_too_large")
    assert incoming(limited) == []
    assert limited.call("contributor", "POST", "/uploads", content=data[:-1]).status_code == 201


@pytest.mark.parametrize("size", [2 * MIB + 1, 3 * MIB + 77])
def test_a_full_disk_refuses_the_upload_and_keeps_nothing_of_it(limited: Platform, size: int) -> None:
    """The API process may write no file past 2 MiB: the kernel refuses the write half-way, as a full disk does, without root."""
    api, data = limited.processes.running["api"].pid, os.urandom(size)
    usual = resource.prlimit(api, resource.RLIMIT_FSIZE)
    resource.prlimit(api, resource.RLIMIT_FSIZE, (2 * MIB, usual[1]))
    try:
        answer = limited.call("contributor", "POST", "/uploads", content=data)
    finally:
        resource.prlimit(api, resource.RLIMIT_FSIZE, usual)
    assert (answer.status_code, answer.json()["code"]) == (507, "blob_store_full")
    assert incoming(limited) == []
    assert not stored(limited, digest_of(data))
    assert limited.call("contributor", "POST", "/uploads", content=data).status_code == 201


def test_a_store_on_a_full_file_system_refuses_and_keeps_nothing(shared_platform: Processes, tmp_path: Path) -> None:
    store = tmp_path / "tiny-disk"
    store.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(store)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root; the test above meets the same refusal through a limit")
    try:
        with small_api(shared_platform, tmp_path / "own", RINGI_BLOB_URL=store.as_uri()) as platform:
            answer = platform.call("contributor", "POST", "/uploads", content=os.urandom(3 * MIB))
            assert (answer.status_code, answer.json()["code"]) == (507, "blob_store_full")
            assert [path for path in store.rglob("*") if path.is_file()] == []
            assert platform.call("contributor", "POST", "/uploads", content=os.urandom(MIB)).status_code == 201
    finally:
        subprocess.run(["umount", str(store)], check=True)
