"""The fields of the list of searches."""

from ringi.identity.lists import owner
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.web.listing import Listing, column, word

SEARCHES = Listing(
    "searches", key=Job.id,
    fields={
        "state": column(Job.state, "How far it is.", choices=JobState),
        "subject": column(Job.subject, "The adapter, and how many trials."),
        "adapter": word(Job.payload, "adapter_name", about="The adapter, as `project/adapter`."),
        "dataset": word(Job.payload, "dataset", about="The dataset's version, as `project/dataset:v1`."),
        "owner": owner(Job.created_by, "Who asked for it."),
        "attempt": column(Job.attempt, "Attempts so far."),
        "error": word(Job.error, "code", about="The code of the last attempt's error."),
        "created_at": column(Job.created_at, "When it was asked for."),
        "started_at": column(Job.started_at, "When its first attempt began."),
        "finished_at": column(Job.finished_at, "When it ended."),
    },
)  # fmt: skip
