"""The engine and the two ways to a transaction: the API's request session (`web.session`) and `transaction()` for workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from ringi.settings import get_settings


@cache
def get_engine() -> Engine:
    """One engine per process, on the application role. A dead connection is noticed before use, not in the middle of a request."""
    settings = get_settings()
    # hide_parameters: an error in the log tells the statement, never the values, which are what users wrote.
    return create_engine(
        settings.database_url,
        pool_pre_ping=True,
        hide_parameters=True,
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_size,
        connect_args={"application_name": settings.process_name, "options": "-c timezone=UTC"},
    )


@cache
def get_sessionmaker() -> sessionmaker[Session]:
    """Sessions that keep loaded rows readable after the commit, so that a response can be rendered from them."""
    return sessionmaker(get_engine(), expire_on_commit=False)


@contextmanager
def transaction() -> Iterator[Session]:
    """A short transaction of a worker process: commits at the end, rolls back on any error."""
    with get_sessionmaker().begin() as session:
        yield session
