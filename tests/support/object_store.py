"""A real S3 server for tests: moto as a process of its own, which a test may stop in the middle of an upload."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest

from support.hub_client import free_port
from support.waiting import until

# What the client finds in the environment; moto takes any.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "ap-northeast-1"}


@dataclass
class ObjectStore:
    """The server's address and its process."""

    endpoint: str
    process: subprocess.Popen[bytes]

    @property
    def client(self) -> Any:
        """A client of the test's own, for looking behind the platform's back."""
        return boto3.client("s3", endpoint_url=self.endpoint)

    def new_bucket(self) -> str:
        """The RINGI_BLOB_URL of a bucket of its own."""
        name = f"bucket-{uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": CREDENTIALS["AWS_DEFAULT_REGION"]})
        return f"s3://{name}/ringi/blobs?endpoint={self.endpoint}"

    def kill(self) -> None:
        """The store is gone, and with it what it held."""
        self.process.kill()
        self.process.wait(timeout=10)

    def pause(self) -> None:
        """It neither answers nor refuses."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It answers again."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def object_store_server() -> Iterator[ObjectStore]:
    """A server of its own."""
    os.environ.update(CREDENTIALS)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ringi-s3-") as folder:
        log = Path(folder) / "moto.log"
        with log.open("wb") as out:
            process = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=out, stderr=out, cwd=folder)
        server = ObjectStore(f"http://127.0.0.1:{port}", process)

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return httpx.get(f"{server.endpoint}/moto-api/").status_code < 500
            except httpx.TransportError:
                return False

        try:
            until(answers, timeout_s=120)
            yield server
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(timeout=10)


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """One S3 server for the session."""
    with object_store_server() as server:
        yield server
