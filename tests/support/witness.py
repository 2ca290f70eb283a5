"""A witness of the audit log as its own process: its key, its memory, and what it wrote."""

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from ringi.audit.note import Signer
from ringi.audit.ringi_verify import COSIGNATURE, encode_base64
from support.certificates import Certificate
from support.hub_client import free_port
from support.waiting import until


class WitnessProcess:
    """`ringi-witness serve` over a folder of its own, for the logs of a file that a test may rewrite between starts."""

    def __init__(self, folder: Path, *logs: object, name: str = "witness.example/w1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.state, self.log = folder, folder / "state", folder / "witness.log"
        self.logs = folder / "logs"
        self.know(*logs)
        self.key = folder / "witness.key"
        made = self.run("keygen", "--name", name, "--key", str(self.key))
        assert made.returncode == 0, made.stderr
        self.vkey = made.stdout.strip()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/ringi"
        self._process: subprocess.Popen[bytes] | None = None
        self._certificate: Certificate | None = None

    @property
    def signer(self) -> Signer:
        return Signer.parse(self.key.read_text().strip(), kind=COSIGNATURE)

    def know(self, *logs: object) -> None:
        """Cosign for these keys from the next start on; what is no vkey is a line of its own."""
        lines = [f"log {one}" if "+" in str(one) else str(one) for one in logs]
        self.logs.write_text("".join(f"{line}\n" for line in lines))

    @staticmethod
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        """The command to its end."""
        return subprocess.run([sys.executable, "-m", "ringi.witness.command", *arguments], capture_output=True, text=True, check=False)

    @property
    def serve_arguments(self) -> list[str]:
        tls = ["--tls-cert", str(self._certificate.file), "--tls-key", str(self._certificate.key)] if self._certificate else []
        served = ["--state", str(self.state), "--key", str(self.key), "--log", str(self.logs), "--listen", f"127.0.0.1:{self.port}"]
        return ["serve", *served, *tls]

    def with_tls(self, certificate: Certificate) -> None:
        """Answer https from the next start on."""
        self._certificate, self.url = certificate, self.url.replace("http://", "https://")

    def _client(self) -> httpx.Client:
        return httpx.Client(timeout=20, verify=ssl.create_default_context(cafile=self._certificate.file) if self._certificate else True)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ringi.witness.command", *self.serve_arguments], stderr=log, env=dict(os.environ)
            )

        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()
            try:
                with self._client() as client:
                    return client.get(self.url.replace("/ringi", "/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        until(answers)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=10)
            self._process = None

    def ask(self, old: int, proof: list[bytes], note: bytes) -> httpx.Response:
        """`add-checkpoint`."""
        head = "".join(f"{line}\n" for line in (f"old {old}", *map(encode_base64, proof)))
        return self.post(f"{head}\n".encode() + note)

    def post(self, body: bytes) -> httpx.Response:
        with self._client() as client:
            return client.post(f"{self.url}/add-checkpoint", content=body)


@contextmanager
def witness(folder: Path, *logs: object, name: str = "witness.example/w1") -> Iterator[WitnessProcess]:
    """One that answers, and is gone afterwards."""
    process = WitnessProcess(folder, *logs, name=name)
    process.start()
    try:
        yield process
    finally:
        process.end()
