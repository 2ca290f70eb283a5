"""Evaluations in and out."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from ringi.evaluation.verdict import EvaluationSummary
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.schemas import JobError, JobState, Placement
from ringi.kit.digests import Digest
from ringi.tags.schemas import Tagged
from ringi.web.schemas import Integer, Schema, Selector

# An evaluation on fewer items cannot support a verdict and says so.
MINIMUM_ITEMS = 100


class RequestEvaluation(Schema):
    """Compare the version on `base_revision` with a baseline, item by item, on the validation split of `dataset`.

    Baseline `base`: the same base revision without the adapter. Baseline `trained_on`: the same version on the base revision that it was
    trained on; with another `base_revision` that is a regression evaluation.
    """

    dataset: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}(:[a-z0-9:]{1,80})?$")]
    base_revision: Selector | None = None
    baseline: Literal["base", "trained_on"] = "base"
    max_new_tokens: Annotated[Integer, Field(ge=1, le=4096)] = 32
    batch_size: Annotated[Integer, Field(ge=1, le=1024)] = 16
    max_length: Annotated[Integer, Field(ge=8, le=1_000_000)] = 512
    placement: Placement | None = None


class EvaluationOut(Tagged):
    """One evaluation. `summary` is there once the job has succeeded; `evidence_digest` is what a grant names."""

    version: str
    base: str
    baseline: str
    dataset: str
    state: JobState
    job_id: UUID
    progress: Progress | None
    summary: EvaluationSummary | None
    records_digest: Digest | None
    evidence_digest: Digest | None
    error: JobError | None
    mlflow_run_id: str | None
    requested_by: UUID
    created_at: datetime
    completed_at: datetime | None
