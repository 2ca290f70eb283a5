"""What every part of the embedded platform keeps in its data folder: private files, locks and ports that are remembered."""

import fcntl
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ringi.kit.errors import RingiError

LOOPBACK = "127.0.0.1"
# Below the kernel's range for outgoing connections (ip_local_port_range, from 32768 on Linux), above the well-known services.
_PORTS, _TRIES, _PORT_POLL_S = range(15_000, 32_000), 50, 0.05


class EmbeddedServerFailed(RingiError):
    """A server of `ringi up` could not be started; the message ends with the last lines of its log."""

    code, status = "embedded_server_failed", 503

    def __init__(self, name: str, reason: str, *, log: Path | None = None) -> None:
        lines = tail(log) if log is not None else ""
        super().__init__(
            f"The embedded {name} did not start: {reason.rstrip('.')}." + (f"\n{lines}" if lines else ""),
            next_step=f"Read {log} and start again: ringi up." if log is not None else "Start again: ringi up.",
            details={"server": name},
        )


class NotStarted(RingiError):
    """The data folder has never been started, so it has no addresses and no passwords yet."""

    code, status = "platform_not_started", 409

    def __init__(self, name: str, data_dir: Path) -> None:
        super().__init__(f"The embedded {name} of '{data_dir}' has never been started.", next_step="Start it: ringi up.")


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log file; empty when there is none."""
    if not log.is_file():
        return ""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; only its owner can read it (mode 0600)."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    aside.replace(path)


def remembered(path: Path, make: Callable[[], str]) -> str:
    """The text of a private file, drawn with `make` the first time. Two processes at once agree on one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            write_private(path, make())
        return path.read_text(encoding="utf-8")


def secret() -> str:
    """A fresh secret of 192 bits that needs no quoting in a URL, a configuration file or a shell."""
    return secrets.token_urlsafe(24)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path` against other processes (flock: the kernel drops it when the holder dies)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def port_is_free(port: int) -> bool:
    """Whether this process could listen on the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None) -> int:
    """`preferred` when it is free, else a free one below those that the kernel gives to outgoing connections.

    Among these, a client that calls a server which is just away can be given the server's own port, and holds it by talking to itself.
    """
    if preferred is not None and port_is_free(preferred):
        return preferred
    for port in random.sample(_PORTS, k=min(_TRIES, len(_PORTS))):
        if port_is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        any_port: int = probe.getsockname()[1]
    return any_port


def awaited_port(server: str, port: int, deadline: float, *, log: Path) -> int:
    """`port` once it is free. Raises EmbeddedServerFailed when it is not before `deadline` (monotonic)."""
    while not port_is_free(port):
        if time.monotonic() >= deadline:
            raise EmbeddedServerFailed(server, f"its port {port} is taken by another process", log=log)
        time.sleep(_PORT_POLL_S)
    return port
