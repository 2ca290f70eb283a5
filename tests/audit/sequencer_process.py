"""The sequencer as its own process, over the database of a test."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from ringi.audit.ringi_verify import Checkpoint
from ringi.audit.signing import CheckpointFile, load_signers
from ringi.settings import get_settings
from support.postgres import DatabaseUrls


class SequencerProcess:
    """`python -m ringi_workers.sequencer` over the test's database and a data folder of its own."""

    def __init__(self, urls: DatabaseUrls, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir / "sequencer.log"
        self.environment = os.environ | {
            "RINGI_DATABASE_URL": urls.app_url,
            "RINGI_DATA_DIR": str(data_dir),
            "RINGI_PROCESS_NAME": "sequencer-under-test",
            "RINGI_LOG_FORMAT": "json",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "ringi_workers.sequencer"], env=self.environment, stderr=log)

    def starts(self) -> int:
        """How often it has come up."""
        return self.log.read_text().count('"message": "sequencing ')

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(timeout=10)

    def kill(self) -> None:
        """kill -9, where it still runs."""
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)

    def checkpoint(self) -> Checkpoint:
        """The last one that it signed, verified."""
        key = load_signers(self.data_dir / "keys" / "audit.key", get_settings().audit_origin)[0].verifier
        found = CheckpointFile(self.data_dir / "checkpoints").load(key)
        assert found is not None
        return found

    def vkey(self) -> str:
        return str(load_signers(self.data_dir / "keys" / "audit.key", get_settings().audit_origin)[0].verifier)
