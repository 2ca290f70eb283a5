"""Whose rows a request sees: what PostgreSQL is shown for its row-level security (docs/decisions/0011).

The application shows the hash of the caller's token, and the database finds the organisation behind it (`ringi_tenant`, tenancy.py). An
organisation's id would be a name that anyone can say; the hash is what only its own callers can show, also to an injected statement.

Nothing shown is no rows. Every transaction of the engine shows what belongs to its request before its first statement (`show`), so what a
connection of the pool was shown for the request before it never counts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

SETTING = "ringi.caller"
_SHOWN = "ringi_shown"


class _Shown:
    """Of one request. Threads that FastAPI starts for it see the same one, so that what a dependency learns holds for all that follows."""

    proof = ""


_request: ContextVar[_Shown | None] = ContextVar("ringi_caller", default=None)


@contextmanager
def request() -> Iterator[None]:
    """Begin a request, of whose caller nothing is known yet."""
    token = _request.set(_Shown())
    try:
        yield
    finally:
        _request.reset(token)


def present(proof: str) -> None:
    """From now on the request's transactions show this; outside a request nothing happens."""
    shown = _request.get()
    if shown is not None:
        shown.proof = proof


def show(connection: Connection) -> None:
    """At the beginning of every transaction of the engine, and of what only reads; asks nothing where the connection was shown the same."""
    shown = _request.get()
    wanted = shown.proof if shown is not None else ""
    if connection.info.get(_SHOWN, "") == wanted:
        return
    driver = connection.connection.driver_connection
    if driver is None:
        return
    # In a transaction it ends with it. What reads in autocommit has none: there it stays until this connection is shown something else.
    lasting = driver.autocommit
    try:
        driver.execute("SELECT set_config(%s, %s, %s)", (SETTING, wanted, not lasting))
    except psycopg.OperationalError as error:
        # The driver's own error would pass by whoever waits for SQLAlchemy's, and a database that went away would look like a fault of ours.
        raise OperationalError("SELECT set_config(…)", None, error) from error
    if lasting:
        connection.info[_SHOWN] = wanted
