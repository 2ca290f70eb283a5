"""Processes and how to know them again: a process id alone may have been recycled, so each is kept with its start mark."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from ringi.embedded.folder import write_private
from ringi.kit.errors import RingiError

LAUNCH = Path(__file__).with_name("launch.py")
POLL_S = 0.02


class LaunchFailed(RingiError):
    """The operating system refused to start a program."""

    code, status = "launch_failed", 503


@dataclass(frozen=True)
class Process:
    """A process id and the moment the kernel started it: together they never name two processes."""

    pid: int
    started: str


def process_of(pid: int) -> Process | None:
    """The living process with this id; None when there is none (a zombie is dead)."""
    try:
        found = psutil.Process(pid)
        if found.status() == psutil.STATUS_ZOMBIE:
            return None
        return Process(pid, _start_mark(found))
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


def _start_mark(process: psutil.Process) -> str:
    stat = Path(f"/proc/{process.pid}/stat")
    if not stat.exists():
        return f"time:{process.create_time():.2f}"
    # Field 22, in clock ticks since boot: unlike wall-clock time it stands still when the clock is set. See proc_pid_stat(5).
    ticks = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    return f"boot:{Path('/proc/sys/kernel/random/boot_id').read_text(encoding='ascii').strip()}:{ticks}"


def is_alive(process: Process | None) -> bool:
    """Whether exactly this process, not a later one with its id, is running."""
    return process is not None and process_of(process.pid) == process


def remember(pid_file: Path, process: Process) -> None:
    """Write the pid file of a process."""
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    write_private(pid_file, json.dumps(asdict(process)))


def recall(pid_file: Path) -> Process | None:
    """The process of a pid file if it is still that process and still running."""
    try:
        process = Process(**json.loads(pid_file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return process if is_alive(process) else None


def server_of(pid_file: Path, argument: Path) -> Process | None:
    """The server whose own pid file this is, known again by its data folder among its arguments."""
    try:
        pid = int(pid_file.read_text(encoding="utf-8").split()[0])
        arguments = psutil.Process(pid).cmdline()
    except (FileNotFoundError, ValueError, IndexError, psutil.Error):
        return None
    return process_of(pid) if str(argument) in arguments else None


def terminate(process: Process, *, grace_s: float, first: signal.Signals = signal.SIGTERM, last: signal.Signals = signal.SIGKILL) -> None:
    """Ask a process to leave, and make it leave after `grace_s` seconds. A recycled process id is left alone."""
    for sign, patience in ((first, grace_s), (last, 10.0)):
        if not is_alive(process):
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, sign)
        if wait_gone(process, patience):
            return
    if is_alive(process):
        raise LaunchFailed(f"Process {process.pid} does not end.", next_step=f"End it by hand: kill -9 {process.pid}.")


def wait_gone(process: Process, timeout_s: float) -> bool:
    """Wait until the process is gone; False when it still runs after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while is_alive(process):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def launch(
    command: Sequence[str], *, cwd: Path, log: Path, user: str | None = None, reach: bool = False, environ: Mapping[str, str] | None = None
) -> Process | None:
    """Start a program that outlives this one, with its output appended to `log`; None when it has ended already."""
    printed = _launcher(command, cwd=cwd, log=log, user=user, reach=reach, environ=environ, detach=True)
    return process_of(int(printed))


def run(command: Sequence[str], *, cwd: Path, user: str | None = None, reach: bool = False) -> None:
    """Run a program to its end; raises LaunchFailed with what it printed when it fails."""
    _launcher(command, cwd=cwd, log=None, user=user, reach=reach, environ=None, detach=False)


def _launcher(
    command: Sequence[str],
    *,
    cwd: Path,
    log: Path | None,
    user: str | None,
    reach: bool,
    environ: Mapping[str, str] | None,
    detach: bool,
) -> str:
    plan = {
        "command": list(command),
        "cwd": str(cwd),
        "log": str(log.absolute()) if log else None,
        "user": user,
        "reach": reach,
        "detach": detach,
    }
    # -X utf8: a data folder may have a name that the C locale cannot say.
    launcher = [sys.executable, "-I", "-S", "-X", "utf8", str(LAUNCH), json.dumps(plan)]
    done = subprocess.run(launcher, capture_output=True, text=True, encoding="utf-8", env=environ, check=False)  # our own script
    if done.returncode != 0 or (detach and not done.stdout.strip().isdigit()):
        raise LaunchFailed(
            f"'{Path(command[0]).name}' could not run: {(done.stderr or done.stdout).strip()[-2000:]}.",
            next_step="Mend what the system says; the program must be installed and executable.",
        )
    return done.stdout
