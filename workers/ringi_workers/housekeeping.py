"""What must happen by itself: jobs of silent workers go back to the queue, and lost nudges are sent again. Run by the relay."""

import logging

from ringi.db.session import transaction
from ringi.jobs import service as jobs
from ringi.settings import get_settings

log = logging.getLogger("ringi.housekeeping")


def sweep() -> None:
    """One round."""
    with transaction() as session:
        silent = jobs.reap(session)
    with transaction() as session:
        renudged = jobs.renudge(session, older_than_s=get_settings().renudge_s)
    if silent or renudged:
        log.info("%d jobs of silent workers, %d nudged again", silent, renudged)
