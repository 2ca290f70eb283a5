"""How the demo acts: it types `ringi` commands, as a person would, each under the profile of one user, and keeps what came of it."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ringi.kit.errors import RingiError


class DemoFailed(RingiError):
    """A step of the story ended otherwise than it must."""

    code, status = "demo_failed", 500


@dataclass
class Outcome:
    """One line of the closing table."""

    chapter: str
    what: str
    seconds: float


@dataclass
class Stage:
    """Where the story plays: the data folder, the profiles of its users, the console."""

    data_dir: Path
    console: Console = field(default_factory=lambda: Console(highlight=False))
    outcomes: list[Outcome] = field(default_factory=list)
    _chapter: str = ""
    _begun: float = 0.0

    @property
    def environment(self) -> dict[str, str]:
        """Profiles of the demo live in its data folder, not in the person's own configuration."""
        return os.environ | {"RINGI_CONFIG": str(self.data_dir / "demo-profiles.json"), "PYTHONIOENCODING": "utf-8"}

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """A numbered part of the story."""
        self._chapter, self._begun = title, time.monotonic()
        self.console.rule(f"[bold]{title}", align="left")
        yield

    def note(self, what: str) -> None:
        """Keep a result for the closing table, and say it."""
        self.outcomes.append(Outcome(self._chapter, what, time.monotonic() - self._begun))
        self._begun = time.monotonic()
        self.console.print(f"[green]✓[/] {what}", soft_wrap=True)

    def say(self, text: str) -> None:
        """A remark between commands."""
        self.console.print(f"[dim]{text}[/]", soft_wrap=True)

    def run(self, *command: str, user: str | None = None) -> None:
        """Type a command and show its output as it comes; DemoFailed unless it succeeds."""
        done = subprocess.run(self._typed(command, user), env=self.environment, check=False)
        if done.returncode != 0:
            raise DemoFailed(f"'ringi {shlex.join(command)}' ended with {done.returncode}.", next_step="Its message is above.")

    def read(self, *command: str, user: str | None = None, show: bool = False) -> Any:
        """The JSON that a command answers with."""
        done = subprocess.run(
            self._typed((*command, "--json"), user, show=show), env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise DemoFailed(
                f"'ringi {shlex.join(command)}' ended with {done.returncode}: {done.stderr}", next_step="See the service logs."
            )
        return json.loads(done.stdout)

    def refused(self, *command: str, user: str | None = None, code: str) -> None:
        """Type a command that must be refused with `code`, and show the refusal."""
        done = subprocess.run(self._typed(command, user), env=self.environment, capture_output=True, text=True, check=False)
        self.console.print(f"[yellow]{(done.stderr or done.stdout).strip()}[/]", soft_wrap=True, markup=True)
        if done.returncode == 0 or code not in done.stderr + done.stdout:
            raise DemoFailed(
                f"'ringi {shlex.join(command)}' was not refused with '{code}'.", next_step="This must never happen; report it."
            )

    def python(self, module: str, *arguments: str, environment: dict[str, str]) -> str:
        """Run another process of the story (a team with its own tools); its last line of output is the answer, the rest is shown."""
        command = [sys.executable, "-m", module, *arguments]
        answer = ""
        with subprocess.Popen(
            command, env=self.environment | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            for line in process.stdout or ():
                if answer:
                    self.console.print(answer, style="dim", soft_wrap=True, markup=False)
                answer = line.rstrip()
            errors = process.stderr.read() if process.stderr else ""
        if process.returncode != 0:
            raise DemoFailed(f"{module} ended with {process.returncode}: {errors[-2000:]}", next_step="See the service logs.")
        return answer

    def _typed(self, command: Sequence[str], user: str | None, *, show: bool = True) -> list[str]:
        profile = ("--profile", user) if user else ()
        if show:
            self.console.print(f"[bold cyan]$[/] ringi {shlex.join((*profile, *command))}", soft_wrap=True)
        return [str(Path(sys.executable).with_name("ringi")), *profile, *command]

    def table(self) -> Table:
        """What happened."""
        table = Table(title="What happened", show_lines=False, expand=False)
        table.add_column("chapter", style="bold")
        table.add_column("result", overflow="fold")
        table.add_column("s", justify="right")
        last = ""
        for outcome in self.outcomes:
            table.add_row(outcome.chapter if outcome.chapter != last else "", outcome.what, f"{outcome.seconds:.1f}")
            last = outcome.chapter
        return table
