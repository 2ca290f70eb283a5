"""What must happen by itself: jobs of silent workers go back to the queue, lost nudges are sent again, and what is no longer needed
goes: sent messages, answers kept for repeated requests, old logs and snapshots, workers long gone, unused bytes.

Run by the relay.
"""

import logging
import time
from collections.abc import Iterator
from datetime import timedelta

from ringi.audit.read_only import open_stop
from ringi.db.session import transaction
from ringi.events import outbox
from ringi.fleet import service as fleet
from ringi.identity import logins, sessions
from ringi.jobs import log as job_log
from ringi.jobs import pausing
from ringi.jobs import service as jobs
from ringi.kit.errors import RingiError
from ringi.retention import service as retention
from ringi.retention.service import Removal
from ringi.settings import get_settings
from ringi.storage.blobs import get_store
from ringi.web import idempotency

KEPT_AFTER_SENDING = timedelta(days=1)
LOG_KEPT_AFTER_THE_END = timedelta(days=30)
SNAPSHOTS_KEPT_AFTER_THE_END = timedelta(days=30)
WORKERS_REMEMBERED = timedelta(days=7)
# Nobody waits for what is old to go.
_PURGE_EVERY_S = 5.0
# The relay has messages to send: a round over a large store is walked in pieces of this length between them.
_COLLECTING_S = 0.25
log = logging.getLogger("ringi.housekeeping")


class Housekeeping:
    """Rounds, one after the other; what a round remembers for the next is where in the log of jobs it stopped."""

    def __init__(self) -> None:
        self._log_looked_at = 0
        self._purged_at = -_PURGE_EVERY_S

    def sweep(self) -> None:
        """One round."""
        _look_after_jobs()
        if time.monotonic() - self._purged_at >= _PURGE_EVERY_S:
            self._purged_at = time.monotonic()
            self._purge()

    def _purge(self) -> None:
        with transaction() as session:
            outbox.purge(session, sent_before=KEPT_AFTER_SENDING)
        with transaction() as session:
            idempotency.purge(session)
            purged = job_log.purge(session, ended_before=LOG_KEPT_AFTER_THE_END, after=self._log_looked_at)
        self._log_looked_at = purged.reached
        with transaction() as session:
            pausing.forget_snapshots(session, ended_before=SNAPSHOTS_KEPT_AFTER_THE_END)
        with transaction() as session:
            logins.purge(session)
            sessions.purge(session)
            fleet.purge(session, silent_for=WORKERS_REMEMBERED)


def _look_after_jobs() -> None:
    with transaction() as session:
        silent = jobs.reap(session)
    with transaction() as session:
        renudged = jobs.renudge(session, older_than_s=get_settings().renudge_s)
    if silent or renudged:
        log.info("%d jobs of silent workers, %d nudged again", silent, renudged)


class Collecting:
    """The collector's rounds, a piece at a time; a new one begins every `collect_every_s`."""

    def __init__(self) -> None:
        self._steps: Iterator[Removal | None] | None = None
        self._begun = -get_settings().collect_every_s
        self._removed = self._bytes = 0

    def go_on(self) -> None:
        """Walk on for a quarter of a second. A store that is away is asked again in the next round; a lost database raises.

        Nothing goes while the platform is read-only: to tables that were restored, the bytes written since look like nobody's.
        """
        if self._steps is None and time.monotonic() - self._begun < get_settings().collect_every_s:
            return
        with transaction() as session:
            if open_stop(session) is not None:
                self._steps = None
                return
        try:
            if self._steps is None:
                self._begun, self._removed, self._bytes = time.monotonic(), 0, 0
                self._steps = retention.collect(get_store(), grace=timedelta(seconds=get_settings().orphan_grace_s))
            if self._walked():
                return
        except (RingiError, OSError) as error:
            log.warning("collecting unused bytes: %s", error)
        if self._removed:
            log.info("removed %d unused objects, %d bytes", self._removed, self._bytes)
        self._steps = None

    def _walked(self) -> bool:
        """Whether there is more."""
        deadline = time.monotonic() + _COLLECTING_S
        for one in self._steps or ():
            if one is not None:
                self._removed, self._bytes = self._removed + 1, self._bytes + one.size
            if time.monotonic() > deadline:
                return True
        return False
