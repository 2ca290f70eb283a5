"""The fields of the lists of evaluations. `metrics.*` come from the summary; what it does not hold matches no comparison."""

from enum import StrEnum

from sqlalchemy import select

from ringi.adapters.lists import version_of
from ringi.base_models.lists import base_of
from ringi.datasets.lists import dataset_of
from ringi.evaluation.models import Evaluation
from ringi.evaluation.verdict import Verdict
from ringi.identity.lists import owner
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.tags.lists import fill, tags_of
from ringi.web.listing import Listing, column, flag, measured, through

# The numbers of an `EvaluationSummary`.
METRICS = (
    "n", "scored", "unscored", "candidate_nll", "baseline_nll", "improvement", "matched", "candidate_match_rate", "baseline_match_rate",
    "match_difference",
)  # fmt: skip


class Baseline(StrEnum):
    """What a version is compared with."""

    BASE = "base"
    TRAINED_ON = "trained_on"


# unscoped: the list's own rows are scoped.
_JOBS = select(Job.id)

EVALUATIONS = Listing(
    "evaluations", key=Evaluation.id, families=tags_of(Evaluation.id), finish=fill,
    fields={
        **version_of(Evaluation.version_id),
        **dataset_of(Evaluation.dataset_version_id),
        **base_of(Evaluation.base_revision_id),
        "baseline": column(Evaluation.baseline, "What it compares with.", choices=Baseline),
        "state": through(Evaluation.job_id, _JOBS, Job.state, "The state of its job.", choices=JobState),
        "verdict": measured(Evaluation.summary, "verdict", about="What it shows.", choices=Verdict),
        "regressed": flag(Evaluation.summary, "regressed", about="Whether a regression run found harm."),
        **{f"metrics.{name}": measured(Evaluation.summary, name, about=f"The summary's {name}.") for name in METRICS},
        "owner": owner(Evaluation.requested_by, "Who asked for it."),
        "created_at": column(Evaluation.created_at, "When it was asked for."),
        "completed_at": column(Evaluation.completed_at, "When it was judged."),
    },
)  # fmt: skip
