"""The fields of the list of sweeps."""

from ringi.identity.lists import owner
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.web.listing import Listing, column, word

SWEEPS = Listing(
    "sweeps", key=Job.id,
    fields={
        "state": column(Job.state, "How far it is.", choices=JobState),
        "subject": column(Job.subject, "The suite, and how many arms on which base."),
        "suite": word(Job.payload, "suite", about="The suite's version."),
        "owner": owner(Job.created_by, "Who asked for it."),
        "attempt": column(Job.attempt, "Attempts so far."),
        "error": word(Job.error, "code", about="The code of the last attempt's error."),
        "created_at": column(Job.created_at, "When it was asked for."),
        "started_at": column(Job.started_at, "When its first attempt began."),
        "finished_at": column(Job.finished_at, "When it ended."),
    },
)  # fmt: skip
