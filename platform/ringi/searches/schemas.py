"""Searches in and out: what is tried, how each trial stands, and what is recommended."""

from datetime import datetime
from enum import StrEnum
from itertools import product
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from ringi.jobs.contracts.methods import Method
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.searches import Comparison, HalvingRule
from ringi.jobs.contracts.training import LoraSpec, PreflightFinding
from ringi.jobs.schemas import JobError, JobState, Placement
from ringi.training.schemas import TrainingPlan
from ringi.web.schemas import Integer, Name, Schema, Selector

FEWEST_TRIALS, MOST_TRIALS = 2, 64
Rank = Annotated[Integer, Field(ge=1, le=512)]
LearningRate = Annotated[FiniteFloat, Field(gt=0, le=1)]


class TrialState(StrEnum):
    """waiting -> finished | stopped | failed. `cancelled` is one that was waiting when its job ended."""

    WAITING = "waiting"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RequestSearch(Schema):
    """Try every rank with every learning rate on a dataset version; everything else is as in `plan`, which names neither.

    `reduction`: one of so many goes on at each comparison. `first_steps`: no comparison before so many steps. `tie`: validation losses no
    further than this share above the best one count as equal, and the smaller rank is taken.
    """

    adapter: Name
    dataset: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}(:[a-z0-9:]{1,80})?$")]
    base_revision: Selector = "latest"
    ranks: list[Rank] = Field(min_length=1, max_length=16)
    learning_rates: list[LearningRate] = Field(min_length=1, max_length=16)
    plan: TrainingPlan = TrainingPlan()
    reduction: Integer = Field(default=3, ge=2, le=8)
    first_steps: Integer = Field(default=20, ge=1, le=1_000_000)
    tie: FiniteFloat = Field(default=0.01, ge=0, lt=1)
    placement: Placement | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        count = len(set(self.ranks)) * len(set(self.learning_rates))
        if not FEWEST_TRIALS <= count <= MOST_TRIALS:
            raise ValueError(f"{count} different trials were named; a search has {FEWEST_TRIALS} to {MOST_TRIALS}")
        named = {"rank", "learning_rate"} & self.plan.model_fields_set
        if named:
            raise ValueError(f"the plan names {' and '.join(sorted(named))}, which is what is searched for")
        if self.plan.method is Method.IA3:
            raise ValueError("IA3 has no rank to search for")
        if self.plan.method is Method.FULL:
            raise ValueError("full fine-tuning has no rank to search for")
        # A pair that is no plan is refused here, with the words of the plan.
        self.specs()
        return self

    def specs(self) -> list[LoraSpec]:
        """One for each trial, the smallest rank first. `alpha` follows the rank unless the plan names it."""
        pairs = product(sorted(set(self.ranks)), sorted(set(self.learning_rates)))
        plan = self.plan.model_dump()
        return [TrainingPlan.model_validate(plan | {"rank": rank, "learning_rate": rate}).resolved() for rank, rate in pairs]


class TrialOut(Schema):
    """One trial. `stopped_after`: the step at which others were better. `comparisons`: where it was measured, earliest first."""

    id: UUID
    rank: int
    learning_rate: float
    alpha: float
    state: TrialState
    comparisons: list[Comparison]
    stopped_after: int | None
    problem: JobError | None


class RecommendationOut(Schema):
    """What to train, and why: hyperparameters of the trial, its figures, the reasons, and what speaks for caution."""

    trial_id: UUID
    spec: LoraSpec
    validation_loss: float
    reasons: list[str]
    cautions: list[str]


class SearchLine(Schema):
    """One search. `steps`: of a whole trial, and `compared_after` the steps of the comparisons; null and empty until a worker has read the rows."""

    job_id: UUID
    state: JobState
    adapter: str
    dataset: str
    base: str
    rule: HalvingRule
    trials: dict[TrialState, int]
    steps: int | None
    compared_after: list[int]
    progress: Progress | None
    attempt: int
    cancel_requested: bool
    error: JobError | None
    row_version: int
    requested_by: UUID
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class SearchOut(SearchLine):
    """A search with its trials in their order, the recommendation once there is one, and what was found before it."""

    children: list[TrialOut]
    recommendation: RecommendationOut | None
    preflight: list[PreflightFinding]
