"""Where the platform of a data folder keeps what a backup holds: its embedded servers, or those of the deployment, by its variables."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, NullPool, create_engine, make_url
from sqlalchemy.orm import Session

from ringi.embedded import postgres
from ringi.embedded.environment import uses_embedded_database
from ringi.embedded.folder import EmbeddedServerFailed
from ringi.kit.errors import RingiError
from ringi.storage.blobs import BlobStore, store_at

# As the embedded platform names them, and as a deployment's variables point at them.
KEYS = {
    "audit-key": "RINGI_AUDIT_KEY_FILE",
    "personal-key": "RINGI_PERSONAL_KEY_FILE",
    "setup-key": None,
    "metrics-token": None,
}
# Without these two no log goes on and nobody's text can be read.
INDISPENSABLE = frozenset({"audit-key", "personal-key"})


class DatabaseToolFailed(RingiError):
    """pg_dump or pg_restore is missing, older than the server, or was refused."""

    code, status = "database_tool_failed", 503

    def __init__(self, tool: str, said: str) -> None:
        super().__init__(
            f"{tool} did not do its work: {said.strip()[-1500:] or 'it said nothing'}.",
            next_step="Mend what it says: rights that the owner's role lacks, client programs older than the server, or RINGI_OWNER_DATABASE_URL.",
        )


@dataclass(frozen=True)
class Places:
    """One platform. `databases` by name, as the owner of their tables."""

    data_dir: Path
    databases: Mapping[str, URL]
    store: BlobStore
    keys: Mapping[str, Path]
    checkpoints: Path


@contextmanager
def reading(url: URL) -> Iterator[Session]:
    """One snapshot of a database, in which nothing is changed."""
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"), poolclass=NullPool, hide_parameters=True, isolation_level="REPEATABLE READ"
    ).execution_options(postgresql_readonly=True)
    with Session(engine) as session:
        yield session


def _owned(url: str) -> URL:
    return make_url(url).set(drivername="postgresql")


@contextmanager
def places_of(data_dir: Path, environ: Mapping[str, str] = os.environ) -> Iterator[Places]:
    """The places of a data folder's platform, with its embedded PostgreSQL running; it is stopped again where it did not run before."""
    data_dir = data_dir.resolve()
    started = None
    if uses_embedded_database(environ):
        started = None if postgres.is_running(data_dir) else data_dir
        server = postgres.start(data_dir)
        databases = {"ringi": _owned(server.owner_url), "mlflow": _owned(server.mlflow_url)}
    else:
        databases = {"ringi": _owned(environ["RINGI_OWNER_DATABASE_URL"])}
    secrets = data_dir / "secrets"
    keys = {name: Path(environ.get(variable or "", "") or secrets / name) for name, variable in KEYS.items()}
    store = store_at(environ.get("RINGI_BLOB_URL") or (data_dir / "blobs").as_uri())
    checkpoints = Path(environ.get("RINGI_AUDIT_CHECKPOINT_DIR") or data_dir / "checkpoints")
    try:
        yield Places(data_dir, databases, store, keys, checkpoints)
    finally:
        if started is not None:
            postgres.stop(started)


def run_tool(name: str, url: URL, *arguments: str) -> None:
    """Run pg_dump or pg_restore on a database: the one of the embedded distribution, else the one that is installed."""
    # The password in the environment: arguments are shown to every user of the machine.
    environment = os.environ | {"PGPASSWORD": str(url.password or ""), "PGTZ": "UTC"}
    address = url.set(password=None).render_as_string(hide_password=False)
    _done(name, *arguments, "--dbname", address, environment=environment)


def tool_output(name: str, *arguments: str) -> str:
    """What such a tool prints about a file, without a database."""
    return _done(name, *arguments, environment=dict(os.environ))


def _done(name: str, *arguments: str, environment: dict[str, str]) -> str:
    try:
        found: str | None = str(postgres.binaries() / name)
    except EmbeddedServerFailed:
        found = shutil.which(name)
    if found is None:
        raise DatabaseToolFailed(name, "it is not installed")
    done = subprocess.run([found, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DatabaseToolFailed(name, done.stderr)
    return done.stdout
