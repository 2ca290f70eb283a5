"""The engines, and the ways to the database: the API's request session (`web.session`) and `transaction()` for workers.

A process that answers requests sees the rows of its caller's organisation (callers.py), whichever way it asks; what it must ask about all
organisations, it asks in `platform_transaction`, and a test knows every place that does. The other processes work for all (`work_for_all`).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, exc
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from ringi.db import callers
from ringi.settings import get_settings

# A connection that was used so short a time ago is not asked again whether it lives.
_TRUSTED_S = 2.0
# The execution option of the few things that are noted while reading.
NOTED = {"ringi_noted": True}
_READING = "ringi_reading"


class WroteWhileReading(RuntimeError):
    """A read has no transaction that would keep two changes together."""


_for_all = False
# Of a process that answers requests: what it asks about all organisations is little.
_PLATFORM_POOL = 2


def work_for_all() -> None:
    """Said by a process that is the platform's own: it answers nobody, and works for every organisation. Before it first asks anything."""
    global _for_all  # noqa: PLW0603  # what a process is for does not change
    _for_all = True


@cache
def get_engine() -> Engine:
    """One engine per process. A dead connection is noticed before use, not in the middle of a request."""
    settings = get_settings()
    url = settings.platform_database_url if _for_all else None
    return _engine(url or settings.database_url, pool_size=settings.database_pool_size)


def get_platform_engine() -> Engine:
    """The engine that sees every organisation's rows; the same one in a process that works for all."""
    url = get_settings().platform_database_url
    return get_engine() if _for_all or url is None else _platform_engine(url)


@cache
def _platform_engine(url: str) -> Engine:
    return _engine(url, pool_size=_PLATFORM_POOL, overflow=get_settings().database_pool_size)


def _engine(url: str, *, pool_size: int, overflow: int | None = None) -> Engine:
    # hide_parameters: an error in the log tells the statement, never the values, which are what users wrote.
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=overflow or pool_size,
        connect_args={"application_name": get_settings().process_name, "options": "-c timezone=UTC"},
    )
    event.listen(engine, "begin", callers.show)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", _ask_if_idle)
    return engine


def _note_use(_connection: Any, entry: ConnectionPoolEntry) -> None:
    entry.info["used_at"] = time.monotonic()


def _ask_if_idle(connection: psycopg.Connection, entry: ConnectionPoolEntry, _proxy: Any) -> None:
    # As pool_pre_ping does, but not for a connection that has just answered: a request is a handful of questions, and this was one of them.
    if time.monotonic() - entry.info.get("used_at", time.monotonic()) < _TRUSTED_S:
        return
    try:
        connection.execute("SELECT 1")
        connection.rollback()
    except psycopg.Error as error:
        raise exc.DisconnectionError(str(error)) from error


@cache
def get_sessionmaker() -> sessionmaker[Session]:
    """Sessions that keep loaded rows readable after the commit, so that a response can be rendered from them."""
    return sessionmaker(get_engine(), expire_on_commit=False)


@cache
def get_reading() -> sessionmaker[Session]:
    """Sessions of requests that only read: no BEGIN and no COMMIT, so two questions less; writing raises WroteWhileReading.

    Every statement sees what is committed when it begins, as in a READ COMMITTED transaction.
    """
    reading = sessionmaker(get_engine().execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False, info={_READING: True})
    event.listen(reading, "do_orm_execute", _refuse_writes)
    event.listen(reading, "before_flush", _refuse_flush)
    return reading


def must_write(session: Session) -> None:
    """What is kept with a change asks for a session that keeps changes. Raises WroteWhileReading."""
    if session.info.get(_READING):
        raise WroteWhileReading


def _refuse_writes(state: ORMExecuteState) -> None:
    if (state.is_insert or state.is_update or state.is_delete) and not state.execution_options.get("ringi_noted"):
        raise WroteWhileReading


def _refuse_flush(session: Session, _context: Any, _instances: Any) -> None:
    if session.new or session.dirty or session.deleted:
        raise WroteWhileReading


@contextmanager
def transaction() -> Iterator[Session]:
    """A short transaction of a worker process: commits at the end, rolls back on any error."""
    with get_sessionmaker().begin() as session:
        yield session


@contextmanager
def platform_transaction() -> Iterator[Session]:
    """The same for what a request must ask about all organisations: counts, the store's care, the log as a whole."""
    with sessionmaker(get_platform_engine(), expire_on_commit=False).begin() as session:
        yield session


def serve_platform(session: Session) -> None:
    """The request is the operator's, and of no organisation: its session, which has asked nothing yet, sees all of them."""
    session.bind = get_platform_engine()


@contextmanager
def transaction_beside(session: Session) -> Iterator[Session]:
    """A transaction of its own that sees what `session` sees."""
    with sessionmaker(session.get_bind(), expire_on_commit=False).begin() as own:
        yield own
