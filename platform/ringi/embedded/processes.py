"""`ringi up`, `ringi down` and `ringi status` for one data folder: what the command line calls."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ringi.embedded import children, postgres, valkey
from ringi.embedded.environment import api_port_of, keep_api_port, uses_embedded_broker, uses_embedded_database
from ringi.embedded.folder import port_is_free, tail
from ringi.embedded.record import Phase, read_record
from ringi.embedded.services import platform_plan
from ringi.embedded.supervise import supervise, sweep
from ringi.kit.errors import RingiError

DOWN_TIMEOUT_S = 90.0


class PortInUse(RingiError):
    """Another program listens where the API should."""

    code, status = "port_in_use", 409

    def __init__(self, port: int) -> None:
        super().__init__(f"Port {port} of this machine is used by another program.", next_step="Choose another one: ringi up --port N.")


class PlatformFailed(RingiError):
    """The platform came down while it was starting; the message is what stopped it."""

    code, status = "platform_failed", 503

    def __init__(self, message: str, log: Path) -> None:
        super().__init__(message, next_step="" if "ringi up" in message else f"Read {log} and start again: ringi up.")


@dataclass(frozen=True)
class ServiceStatus:
    """One process. `state` is running, stopped or restarting; `since` is UTC in ISO 8601, None where it is not known."""

    name: str
    pid: int | None
    state: str
    since: str | None
    restarts: int


@dataclass(frozen=True)
class PlatformStatus:
    """The platform of a data folder. `phase` is down, starting, ready, stopping or failed (`message` says why)."""

    data_dir: Path
    phase: Phase
    message: str
    supervisor_pid: int | None
    api_url: str | None
    docs_url: str | None
    services: tuple[ServiceStatus, ...]


def platform_up(
    data_dir: Path,
    *,
    api_port: int | None = None,
    workers: Mapping[str, int],
    on_progress: Callable[[str], None],
    foreground: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> PlatformStatus:
    """Start the platform and return when its API is ready; when it runs already, return its status. Two calls at once start one platform.

    In the foreground the call returns only after Ctrl-C or `ringi down`. Raises PlatformFailed, PortInUse, OwnDatabaseIncomplete.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    uses_embedded_database(environ)
    running = children.recall(data_dir / "run" / "supervisor.pid")
    if running is not None:
        on_progress(f"already run by process {running.pid}")
        return _wait_ready(data_dir, running, on_progress, log_position=None)
    if api_port is not None:
        keep_api_port(data_dir, api_port)
    if not port_is_free(api_port_of(data_dir)) and children.recall(data_dir / "run" / "api.pid") is None:
        raise PortInUse(api_port_of(data_dir))
    if foreground:
        supervise(data_dir, platform_plan(api_port_of(data_dir), workers), on_progress, environ)
        return platform_status(data_dir)
    platform_plan(api_port_of(data_dir), workers)
    log = _log(data_dir)
    position = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "ringi.embedded.supervise", "--data-dir", str(data_dir), "--workers", json.dumps(dict(workers))]
    started = children.launch(command, cwd=data_dir, log=log, environ=environ)
    return _wait_ready(data_dir, started, on_progress, log_position=position)


def platform_down(data_dir: Path, *, on_progress: Callable[[str], None] = lambda _line: None) -> PlatformStatus:
    """Stop the platform of a data folder, also one whose supervisor was killed; nothing happens when it is down."""
    data_dir = data_dir.resolve()
    supervisor = children.recall(data_dir / "run" / "supervisor.pid")
    if supervisor is not None:
        on_progress(f"stopping process {supervisor.pid} and its services")
        children.terminate(supervisor, grace_s=DOWN_TIMEOUT_S)
    for name in sweep(data_dir):
        on_progress(f"stopped {name}")
    valkey.stop(data_dir)
    postgres.stop(data_dir)
    return platform_status(data_dir)


def platform_status(data_dir: Path, environ: Mapping[str, str] = os.environ) -> PlatformStatus:
    """What runs now; asks the operating system about every process that the supervisor has written down."""
    data_dir = data_dir.resolve()
    supervisor = children.recall(data_dir / "run" / "supervisor.pid")
    record = read_record(data_dir)
    services = [_server_status("postgres", postgres.is_running, postgres.attach, data_dir)] if uses_embedded_database(environ) else []
    services += [_server_status("valkey", valkey.is_running, valkey.attach, data_dir)] if uses_embedded_broker(environ) else []
    gone = "restarting" if supervisor else "stopped"
    for known in record.services:
        pid = known.process.pid if known.process and children.is_alive(known.process) else None
        state, since = ("running", known.since) if pid else (gone, None)
        services.append(ServiceStatus(known.name, pid, state, since, known.restarts))
    phase = record.phase
    if supervisor is None:
        phase = "failed" if phase == "failed" else "down"
    api_url = record.api_url if supervisor else None
    return PlatformStatus(
        data_dir=data_dir,
        phase=phase,
        message=record.message,
        supervisor_pid=supervisor.pid if supervisor else None,
        api_url=api_url,
        docs_url=f"{api_url}/docs" if api_url else None,
        services=tuple(services),
    )


def _server_status(
    name: str,
    running: Callable[[Path], bool],
    attach: Callable[[Path], postgres.PostgresHandle | valkey.ValkeyHandle],
    data_dir: Path,
) -> ServiceStatus:
    if not (data_dir / name / "connection.json").exists() or not running(data_dir):
        return ServiceStatus(name, None, "stopped", None, 0)
    return ServiceStatus(name, attach(data_dir).pid, "running", None, 0)


def _wait_ready(
    data_dir: Path, started: children.Process | None, on_progress: Callable[[str], None], *, log_position: int | None
) -> PlatformStatus:
    """Follow the supervisor's progress until the platform is ready, or until no supervisor is left."""
    position = log_position
    while True:
        # The order matters: who is alive is asked before the state is read, so that a last word is not missed.
        alive = children.is_alive(started) or children.recall(data_dir / "run" / "supervisor.pid") is not None
        status = platform_status(data_dir)
        if position is not None:
            position = _follow(_log(data_dir), position, on_progress)
        if status.phase == "ready":
            return status
        if not alive:
            raise PlatformFailed(status.message or f"The supervisor ended without a word.\n{tail(_log(data_dir))}", _log(data_dir))
        time.sleep(0.05)


def _follow(log: Path, position: int, on_progress: Callable[[str], None]) -> int:
    """Pass on the complete lines after `position`; returns the position after them."""
    if not log.exists():
        return position
    with log.open("rb") as stream:
        stream.seek(position)
        whole, newline, _ = stream.read().rpartition(b"\n")
    for line in whole.decode("utf-8", "replace").splitlines():
        on_progress(line)
    return position + len(whole) + len(newline)


def _log(data_dir: Path) -> Path:
    return data_dir / "logs" / "supervisor.log"
