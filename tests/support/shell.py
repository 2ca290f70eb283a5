"""`ringi` as a person or a script runs it, in a home of its own; and a platform whose jobs nobody takes."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ringi.cli.contexts import Profile, save_profile
from ringi.cli.main import run as ringi
from ringi.embedded.postgres import PostgresHandle
from support.postgres import DatabaseUrls, fresh_database
from support.running_platform import Platform, Processes, started

PROGRAM = (sys.executable, "-c", "from ringi.cli.main import run; run()")


def entry_point(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`ringi` in this process and environment: exit code, output and errors of one command."""

    def called(*arguments: str) -> tuple[int, str, str]:
        code: Any = 0
        try:
            ringi(arguments)
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return called


@dataclass
class Shell:
    """Runs `ringi` with a home of its own; other people's variables are left out."""

    home: Path
    server: str

    def environ(self, **more: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RINGI_", "HF_"))}
        return inherited | {"RINGI_CONFIG": str(self.home / "config.json"), "COLUMNS": "200"} | more

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The program's own entry point, called here: the same code without the seconds of a new process."""
        out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        before = dict(os.environ)
        code: object = 0
        os.environ.clear()
        os.environ.update(self.environ(**environment))
        try:
            with contextlib.chdir(self.home), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                ringi(arguments)
        except SystemExit as end:
            code = end.code or 0
        finally:
            os.environ.clear()
            os.environ.update(before)
        texts = []
        for stream in (out, err):
            stream.flush()
            stream.seek(0)
            texts.append(stream.read())
        assert isinstance(code, int)
        return subprocess.CompletedProcess(arguments, code, *texts)

    def process(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """A process of its own."""
        return subprocess.run(
            [*PROGRAM, *arguments], input=stdin, capture_output=True, text=True, encoding="utf-8", check=False, cwd=self.home,
            env=self.environ(**environment), timeout=120,
        )  # fmt: skip

    def ok(self, *arguments: str, **environment: str) -> str:
        done = self.run(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str, **environment: str) -> Any:
        return json.loads(self.ok(*arguments, "--json", **environment))

    def refused(self, *arguments: str, code: str, exit_code: int = 1, **environment: str) -> str:
        done = self.run(*arguments, **environment)
        assert (done.returncode, f"[{code}]" in done.stderr) == (exit_code, True), done.stderr
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        return done.stderr


@pytest.fixture
def shell(platform: Platform, tmp_path: Path) -> Shell:
    """A home in which everybody of the organisation has a profile."""
    for user, token in platform.with_everybody().tokens.items():
        save_profile(tmp_path / "config.json", user, Profile(server=platform.server, token=token), replace=False)
    return Shell(tmp_path, platform.server)


@pytest.fixture
def idle(
    postgres_server: PostgresHandle, migrated_template: DatabaseUrls, broker: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Processes]:
    """A platform of the test's own without workers: its jobs stay queued."""
    urls = fresh_database(postgres_server, f"idle_{uuid4().hex[:8]}", template=migrated_template.name)
    processes = started(tmp_path_factory.mktemp("idle"), urls, broker)
    yield processes
    processes.stop()
