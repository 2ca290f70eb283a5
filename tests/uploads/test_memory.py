"""The memory of the API process while large files come and go: 300 MB on the local store in every run, S3 and 2 GB behind the marker `proof`."""

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import httpx
import psutil
import psycopg
import pytest
from sqlalchemy import make_url

from ringi.kit.digests import sha256_file
from support.running_platform import Platform

pytestmark = pytest.mark.long

MIB = 1024 * 1024
BOUND = 300 * 10**6  # bytes of resident memory of the whole process
FEW, MANY = 300 * 10**6, 2 * 10**9


class Watch:
    """Samples the resident memory of the API every 10 ms; `most` in bytes."""

    def __init__(self, platform: Platform) -> None:
        self._process = psutil.Process(platform.processes.running["api"].pid)
        self._end = threading.Event()
        # thread: it looks at another process while the test is busy sending to it.
        self._thread = threading.Thread(target=self._look)
        self.most = 0

    def _look(self) -> None:
        while not self._end.wait(0.01):
            self.most = max(self.most, self._process.memory_info().rss)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()


def made(path: Path, size: int) -> Path:
    """A file without repetition, made in a moment."""
    with path.open("wb") as out:
        for number in range(size // MIB):
            out.write(hashlib.sha256(str(number).encode()).digest() * (MIB // 32))
        out.write(b"x" * (size % MIB))
    return path


def served_as_a_base(platform: Platform, file: Path, digest: str) -> str:
    """Rows as the sealing of a base revision leaves them; returns the path under which the hub serves the file."""
    name, job = f"base-{uuid4().hex[:8]}", uuid4()
    platform.as_("deployer").releases.create_channel(platform.project, f"c-{name}", environment="staging")
    url = make_url(platform.processes.urls.app_url).set(drivername="postgresql").render_as_string(hide_password=False)
    files = json.dumps([{"path": "model.safetensors", "size": file.stat().st_size, "digest": digest}])
    with psycopg.connect(url) as connection:
        (organization,) = connection.execute("SELECT id FROM organizations WHERE name = %s", (platform.organization,)).fetchone() or (None,)
        base = platform_base(connection, organization, name)
        connection.execute(
            "INSERT INTO jobs (id, organization_id, kind, queue, subject, state, payload, attempt, max_attempts, created_by)"
            " VALUES (%s, %s, 'fingerprint', 'cpu', 'made for a test', 'succeeded', '{}', 0, 5, %s)",
            (job, organization, uuid4()),
        )
        connection.execute(
            "INSERT INTO base_revisions (id, organization_id, base_model_id, number, state, digest, files, note, parts, facts, job_id, created_by)"
            " VALUES (%s, %s, %s, 1, 'sealed', %s, %s, '', '{}', '{}', %s, %s)",
            (uuid4(), organization, base, digest, files, job, uuid4()),
        )
    return f"/hf/c-{name}/bases/{name}/resolve/main/model.safetensors"


def platform_base(connection: psycopg.Connection, organization: object, name: str) -> object:
    base = uuid4()
    connection.execute(
        "INSERT INTO base_models (id, organization_id, name, description) VALUES (%s, %s, %s, '')", (base, organization, name)
    )
    return base


def up_and_down(platform: Platform, file: Path) -> None:
    digest, size = sha256_file(file), file.stat().st_size
    with Watch(platform) as watch:
        # In one request; then in parts, as the client sends large files.
        headers = {"Authorization": f"Bearer {platform.tokens['contributor']}", "X-Content-Digest": digest}
        answer = httpx.post(f"{platform.server}/api/v1/uploads", content=pieces(file), headers=headers, timeout=600)
        assert (answer.status_code, answer.json()) == (201, {"digest": digest, "size": size})
        one_by_one = watch.most
        assert platform.as_("contributor").upload(file).digest == digest
        in_parts = watch.most
        found, count = hashlib.sha256(), 0
        path = served_as_a_base(platform, file, digest)
        token = {"Authorization": f"Bearer {platform.tokens['viewer']}"}
        with httpx.stream("GET", f"{platform.server}{path}", headers=token, timeout=600) as download:
            assert download.status_code == 200
            for piece in download.iter_raw(MIB):
                found.update(piece)
                count += len(piece)
        assert (count, "sha256:" + found.hexdigest()) == (size, digest)
    print(f"resident memory of the API: whole {one_by_one / 1e6:.0f} MB, in parts {in_parts / 1e6:.0f} MB, down {watch.most / 1e6:.0f} MB")
    assert watch.most < BOUND


def pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(MIB):
            yield piece


# The server that stands for S3 here holds what it is sent in memory, and is slow: `make proof` asks it.
@pytest.mark.parametrize("served", ["local", pytest.param("s3", marks=pytest.mark.proof)], indirect=True)
def test_300_mb_up_and_down_within_300_mb_of_memory(served: Platform, tmp_path: Path) -> None:
    up_and_down(served, made(tmp_path / "large.bin", FEW))


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_2_gb_up_and_down_within_300_mb_of_memory(served: Platform, tmp_path: Path) -> None:
    up_and_down(served, made(tmp_path / "huge.bin", MANY))
