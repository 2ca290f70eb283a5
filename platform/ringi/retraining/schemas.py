"""Retraining in and out: what a project wants to happen with new rows, and how far it is with each adapter."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from ringi.jobs.schemas import JobError
from ringi.web.schemas import Name, Schema, Truth


class RetrainingState(StrEnum):
    """waiting -> training -> evaluating -> requested; `refused` where a step was, `superseded` by a still newer dataset version."""

    WAITING = "waiting"
    TRAINING = "training"
    EVALUATING = "evaluating"
    REQUESTED = "requested"
    REFUSED = "refused"
    SUPERSEDED = "superseded"


OPEN = frozenset({RetrainingState.WAITING, RetrainingState.TRAINING, RetrainingState.EVALUATING})


class SetRetrainingPolicy(Schema):
    """Whether new rows start the retraining of the adapters that depend on them, and for which environment approval is then asked."""

    enabled: Truth
    environment: Name = "production"


class RetrainingPolicyOut(SetRetrainingPolicy):
    """The policy of a project. `row_version` 0: none was ever set."""

    project: str
    row_version: int


class RetrainingOut(Schema):
    """One adapter and one new dataset version. `trained_before`: the dataset version that its last run learnt from."""

    id: UUID
    adapter: str
    dataset: str
    trained_before: str
    environment: str
    state: RetrainingState
    run_id: UUID | None
    version: str | None
    evaluation_id: UUID | None
    request_id: UUID | None
    problem: JobError | None
    on_behalf_of: UUID
    created_at: datetime
    completed_at: datetime | None
