"""`ringi` as a process of its own, for somebody who moves adapters in, and an MLflow server's address."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.running_platform import Platform
from support.waiting import until

PROGRAM = (sys.executable, "-c", "from ringi.cli.main import run; run()")
BASE_NAME = "example/tiny-base"


@dataclass(frozen=True)
class Registry:
    """An MLflow server."""

    url: str


@dataclass
class Mover:
    """Somebody who moves adapters into a project, as a user of the platform."""

    platform: Platform
    home: Path

    def environ(self, user: str, **more: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RINGI_", "HF_", "MLFLOW_"))}
        mine = {
            "RINGI_CONFIG": str(self.home / "none.json"),
            "RINGI_SERVER": self.platform.server,
            "RINGI_TOKEN": self.platform.tokens[user],
        }
        return inherited | mine | {"COLUMNS": "250"} | more

    def run(self, *arguments: str, user: str = "contributor", **environment: str) -> subprocess.CompletedProcess[str]:
        """`ringi` to its end."""
        return subprocess.run(
            [*PROGRAM, *arguments], capture_output=True, text=True, encoding="utf-8", check=False, cwd=self.home,
            env=self.environ(user, **environment), timeout=600,
        )  # fmt: skip

    def report(self, *arguments: str, exit_code: int = 0, **environment: str) -> dict[str, Any]:
        """The JSON report of an import that ends with `exit_code`."""
        done = self.run("import", *arguments, "--project", "support", "--json", **environment)
        assert done.returncode == exit_code, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def killed(self, *arguments: str, when: str) -> str:
        """Start an import and kill it (-9) when it has said `when`; returns what it said."""
        log = self.home / "killed.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*PROGRAM, "import", *arguments, "--project", "support"], stderr=stderr, stdout=subprocess.DEVNULL, cwd=self.home,
                env=self.environ("contributor"),
            )  # fmt: skip
            until(lambda: when in log.read_text(encoding="utf-8") or process.poll() is not None, timeout_s=400, pause_s=0.002)
            process.send_signal(signal.SIGKILL)
            assert process.wait(timeout=30) == -signal.SIGKILL, log.read_text(encoding="utf-8")
        return log.read_text(encoding="utf-8")


def by_version(report: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The lines of a report."""
    return {(line["name"], line["version"]): line for line in report["lines"]}
