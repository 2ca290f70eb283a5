"""The scheduler of `celery beat`: watches that are due are found in the database, asked for there, and judged when their measurements have come.

    celery -q -A ringi_workers.app beat -S ringi_workers.watching:Watching

Beat's own files hold nothing: a watch's row says when it is due, so beats may be killed, away for a week, or run side by side. Nothing is sent to the
broker from here either; what is asked for is a job with its nudge in the outbox, in the transaction of the look. Loads no torch.
"""

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from celery.beat import Scheduler
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from ringi.audit.read_only import open_stop
from ringi.db.session import get_engine, transaction, work_for_all
from ringi.kit.errors import RingiError
from ringi.observe import logs, serving
from ringi.observe.signs import WATCHER, Signs
from ringi.retraining import steps
from ringi.watches import judging, looking

ROUND_S = 1.0
_LONGEST_PAUSE_S = 5.0
# What passes when the database is back. All else that it says is about one watch: what it refuses of that one must not end the round of the others.
_DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)
log = logging.getLogger("ringi.watcher")


class Watching(Scheduler):  # type: ignore[misc]  # Celery ships no types
    """One round looks for what is due and for what has come. Celery's entries do not exist."""

    signs: Signs
    pause_s = ROUND_S

    def setup_schedule(self) -> None:
        """Called once, before the first round, of the one instance that will tick."""
        work_for_all()
        logs.configure()
        logging.getLogger("ringi").setLevel(logging.INFO)
        self.signs = Signs(WATCHER)
        serving.start(broker=False, signs=self.signs)
        log.info("watching")

    def tick(self, *_: Any, **__: Any) -> float:
        """One round; returns how many seconds until the next. A database that is away is waited for with growing pauses."""
        self.signs.turned()
        try:
            self.signs.came_round()
            with transaction() as session:
                # What is under doubt is not judged, and asks for nothing: looks that were missed are taken once, afterwards.
                stopped = open_stop(session) is not None
            if not stopped:
                self._each(judging.ripe, judging.settle)
                self._each(looking.due, looking.look_if_due)
                self._each(steps.due, steps.advance)
        except _DATABASE_AWAY as error:
            log.warning("the database is away: %s", " ".join(str(error).split())[:300])
            get_engine().dispose()
            self.pause_s = min(2 * self.pause_s, _LONGEST_PAUSE_S)
            return self.pause_s
        self.pause_s = ROUND_S
        return ROUND_S

    def _each(self, find: Callable[[Session], list[UUID]], handle: Callable[[Session, UUID], object]) -> None:
        with transaction() as session:
            found = find(session)
        for one in found:
            self.signs.came_round()
            try:
                with transaction() as session:
                    handle(session, one)
            except _DATABASE_AWAY:
                raise
            except RingiError as refusal:
                log.warning("%s: %s", one, refusal.message)
            except Exception:
                # One watch that nobody foresaw must not stop the others.
                log.exception("watch or look %s failed in a way that nobody foresaw", one)

    @property
    def info(self) -> str:
        """What Celery's banner says."""
        return "    . schedule -> the database"

    def sync(self) -> None:
        """There is nothing to keep."""

    def close(self) -> None:
        """There is nothing to keep."""
