"""Is it there? Questions to what a process depends on, each answered within a few seconds also when the other side hangs.

Probes use no connection of the pool: a process that is busy is not one whose database is away, and figures are wanted most when it is busy.
"""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

import ringi
from ringi.settings import get_settings

ANSWERS_S = 2
_BROKER_ANSWERS_S = 1.0
_SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
State = Literal["ok", "unavailable", "unknown"]


class Found(NamedTuple):
    """How one dependency stands. `detail` names no address and no secret: load balancers ask without a token."""

    state: State
    detail: str = ""


@cache
def _engine(*, platform: bool) -> Engine:
    # tcp_user_timeout, in milliseconds: a server that vanished from the network in the middle of an answer.
    options = f"-c timezone=UTC -c statement_timeout={1000 * ANSWERS_S}"
    settings = get_settings()
    url = (settings.platform_database_url if platform else None) or settings.database_url
    return create_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True,
        connect_args={
            "connect_timeout": ANSWERS_S, "tcp_user_timeout": 1000 * ANSWERS_S, "options": options,
            "application_name": f"{settings.process_name}-probe"[:63],
        },
    )  # fmt: skip


@contextmanager
def connected(*, platform: bool = False) -> Iterator[Connection]:
    """A database connection of its own, on which every statement is a transaction; raises SQLAlchemyError within a few seconds.

    `platform`: one that sees the rows of every organisation.
    """
    with _engine(platform=platform).connect() as connection:
        yield connection


def database(connection: Connection) -> Found:
    """PostgreSQL answers a query."""
    connection.execute(text("SELECT 1"))
    return Found("ok")


def migrations(connection: Connection) -> Found:
    """The tables are those that this code was written for. A newer database is well: that is how an upgrade without a pause looks."""
    try:
        here = set(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())
    except SQLAlchemyError as error:
        return Found("unavailable", f"the schema has no revision: {reason(error)}")
    known = _revisions()
    if known is None:
        return Found("unknown", "this installation has no migrations to compare with")
    head, older = known
    if here == {head}:
        return Found("ok")
    if here <= older:
        return Found(
            "unavailable", f"the schema is at {', '.join(sorted(here)) or 'nothing'}, this process needs {head}: run the migrations"
        )
    return Found("ok", f"the schema is at {', '.join(sorted(here))}, which is newer than {head} of this process")


@cache
def _revisions() -> tuple[str, frozenset[str]] | None:
    """The newest revision of this installation and all that come before it; None where it has no migrations."""
    folder = Path(ringi.__file__ or "").parents[2] / "migrations"
    if not (folder / "versions").is_dir():
        return None
    from alembic.script import ScriptDirectory  # noqa: PLC0415  # a process that is never asked need not load it

    scripts = ScriptDirectory(str(folder))
    head = scripts.get_current_head()
    return (head, frozenset(one.revision for one in scripts.walk_revisions()) - {head}) if head else None


def broker() -> Found:
    """Valkey or Redis says something to PING; that it wants a password first is an answer too."""
    url = urlsplit(get_settings().broker_url)
    if url.scheme not in _SCHEMES or not url.hostname:
        return Found("unknown", f"brokers of the kind '{url.scheme}' are not asked")
    try:
        with socket.create_connection((url.hostname, url.port or 6379), timeout=_BROKER_ANSWERS_S) as plain:
            secure = ssl.create_default_context().wrap_socket(plain, server_hostname=url.hostname) if _SCHEMES[url.scheme] else None
            with secure or plain as spoken:
                spoken.sendall(b"*1\r\n$4\r\nPING\r\n")
                said = spoken.recv(64)
    except OSError as error:
        return Found("unavailable", reason(error))
    return Found("ok") if said.startswith((b"+PONG", b"-NOAUTH", b"-NOPERM")) else Found("unavailable", "it does not answer PING")


def reason(error: Exception) -> str:
    """The kind of an error: its words may hold an address."""
    return type(getattr(error, "orig", None) or error).__name__
