"""The loop of a process that waits for commits: it listens to the database, and outlives a database that is away."""

import logging
import time
from collections.abc import Callable

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from ringi.db.session import get_engine
from ringi.kit.stopping import Stop
from ringi.observe.signs import Signs
from ringi.settings import get_settings

# What is due later is looked for so often; a notification ends the wait at once.
SWEEP_S = 1.0
_LONGEST_PAUSE_S = 5.0


def listen(channel: str) -> psycopg.Connection:
    """A connection of its own that hears the commits of `channel`."""
    url = get_engine().url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg.connect(url, autocommit=True, application_name=get_settings().process_name)
    connection.execute(f"LISTEN {channel}")
    return connection


def wait(connection: psycopg.Connection) -> None:
    """Until something is committed, or it is time to look."""
    for _ in connection.notifies(timeout=SWEEP_S, stop_after=1):
        pass


def keep_up(work: Callable[[Stop, Signs], None], stop: Stop, signs: Signs, log: logging.Logger) -> None:
    """Do `work` until asked to stop; a database that is away is waited for with growing pauses."""
    pause = SWEEP_S
    while not stop.asked:
        begun = time.monotonic()
        signs.turned()
        try:
            work(stop, signs)
        except (SQLAlchemyError, psycopg.Error) as error:
            log.warning("the database is away: %s", " ".join(str(error).split())[:300])
            get_engine().dispose()
            pause = SWEEP_S if time.monotonic() - begun > _LONGEST_PAUSE_S else min(2 * pause, _LONGEST_PAUSE_S)
            stop.wait(pause)
