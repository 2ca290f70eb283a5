"""What must happen by itself: jobs of silent workers go back to the queue, lost nudges are sent again, sent messages and answers kept for
repeated requests are removed.

Run by the relay.
"""

import logging
from datetime import timedelta

from ringi.db.session import transaction
from ringi.events import outbox
from ringi.fleet import service as fleet
from ringi.jobs import log as job_log
from ringi.jobs import service as jobs
from ringi.settings import get_settings
from ringi.web import idempotency

KEPT_AFTER_SENDING = timedelta(days=1)
LOG_KEPT_AFTER_THE_END = timedelta(days=30)
WORKERS_REMEMBERED = timedelta(days=7)
log = logging.getLogger("ringi.housekeeping")


def sweep() -> None:
    """One round."""
    with transaction() as session:
        silent = jobs.reap(session)
    with transaction() as session:
        renudged = jobs.renudge(session, older_than_s=get_settings().renudge_s)
    with transaction() as session:
        outbox.purge(session, sent_before=KEPT_AFTER_SENDING)
    with transaction() as session:
        idempotency.purge(session)
        job_log.purge(session, ended_before=LOG_KEPT_AFTER_THE_END)
    with transaction() as session:
        fleet.purge(session, silent_for=WORKERS_REMEMBERED)
    if silent or renudged:
        log.info("%d jobs of silent workers, %d nudged again", silent, renudged)
