"""The fields of the list of jobs."""

from ringi.identity.lists import owner, project
from ringi.jobs.contracts.kinds import JobKind, Queue
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.tags.lists import fill, tags_of
from ringi.web.listing import Listing, column, measured, word

JOBS = Listing(
    "jobs", key=Job.id, search=(Job.search.expression,), families=tags_of(Job.id), also=("state", "kind"), finish=fill,
    fields={
        "kind": column(Job.kind, "What is done.", choices=JobKind),
        "state": column(Job.state, "How far it is.", choices=JobState),
        "queue": column(Job.queue, "Which workers do it.", choices=Queue),
        "subject": column(Job.subject, "What it works for."),
        "produced": column(Job.produced, "The reference of what it sealed."),
        "project": project(Job.project_id),
        "owner": owner(Job.created_by, "Who started it."),
        "attempt": column(Job.attempt, "Attempts so far."),
        "error": word(Job.error, "code", about="The code of the last attempt's error."),
        "loss": measured(Job.progress, "loss", about="Its loss at the last heartbeat."),
        "tokens_per_s": measured(Job.progress, "tokens_per_s", about="Its speed at the last heartbeat."),
        "created_at": column(Job.created_at, "When it was asked for."),
        "started_at": column(Job.started_at, "When its first attempt began."),
        "finished_at": column(Job.finished_at, "When it ended."),
    },
)  # fmt: skip
