"""Training runs in and out, and the bounds and defaults of hyperparameters."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from ringi.jobs.contracts.base_models import BaseFacts
from ringi.jobs.contracts.methods import (
    ALL_LINEAR,
    MOST_RANK,
    SUGGESTED,
    USUAL_RANK,
    Init,
    Method,
    Quantisation,
    TrainingTask,
    clashes,
)
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.training import LoraSpec, Packing, PreflightFinding, RunOrigin, Schedule, TrainMetrics
from ringi.jobs.schemas import JobError, JobState, Placement
from ringi.kit.digests import Digest
from ringi.tags.schemas import Tagged
from ringi.training.rates import USUAL_RATES, with_usual_rate
from ringi.web.schemas import Integer, Name, Schema, Selector, Truth

ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,128}$")]
Target = Annotated[str, StringConstraints(pattern=rf"^([A-Za-z0-9_.]{{1,128}}|{ALL_LINEAR})$")]
# More than any run has, and within the integers that every JSON reader takes.
Steps = Annotated[Integer, Field(ge=1, le=1_000_000_000)]
# `name`, `name:v1` or `name:latest`, of the same project.
DatasetReference = Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}(:[a-z0-9:]{1,80})?$")]


class TrainingPlan(Schema):
    """Hyperparameters of a run; what is left out is filled in and recorded with the run. Lengths in tokens, rates per step.

    `target_modules`: names of the base's modules, or the one word `all-linear` or `suggested` (what peft recommends for the base's family).
    `rank` (16 unless given), `alpha` (twice the rank) and `target_modules` are those of an adapter: full fine-tuning has none of them.
    `learning_rate`: what is usual for the method unless given (0.0002; IA3 0.003, VeRA 0.004, full fine-tuning 0.00002), and for LoRA over Llama and Qwen
    what suits the width of the base.
    """

    rank: Annotated[Integer, Field(ge=1, le=512)] | None = None
    alpha: Annotated[FiniteFloat, Field(gt=0, le=4096)] | None = None
    dropout: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[list[Target], Field(min_length=1, max_length=64)] = [ALL_LINEAR]  # noqa: RUF012  # Pydantic copies it for every instance
    use_rslora: Truth = False
    learning_rate: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    epochs: Annotated[Integer, Field(ge=1, le=1000)] = 3
    max_steps: Steps | None = None
    batch_size: Annotated[Integer, Field(ge=1, le=4096)] = 16
    warmup_fraction: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.05
    weight_decay: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.0
    max_grad_norm: Annotated[FiniteFloat, Field(gt=0)] = 1.0
    max_length: Annotated[Integer, Field(ge=8, le=1_000_000)] = 512
    seed: Annotated[Integer, Field(ge=0, lt=2**53)] = 0
    checkpoint_every: Steps = 50
    micro_batch_size: Annotated[Integer, Field(ge=1, le=4096)] | None = None
    packing: Packing = Packing.AUTO
    pack_length: Annotated[Integer, Field(ge=8, le=1_000_000)] = 1024
    schedule: Schedule = Schedule.LINEAR
    gradient_checkpointing: Truth = False
    early_stopping_patience: Annotated[Integer, Field(ge=1, le=1000)] | None = None
    evaluate_every: Steps = 50
    method: Method = Method.LORA
    init: Init = Init.ZERO
    lora_plus_ratio: Annotated[FiniteFloat, Field(ge=1, le=1024)] | None = None
    rank_pattern: Annotated[dict[ModuleName, Annotated[Integer, Field(ge=1, le=MOST_RANK)]], Field(max_length=512)] = {}  # noqa: RUF012
    alpha_pattern: Annotated[dict[ModuleName, Annotated[FiniteFloat, Field(gt=0, le=4096)]], Field(max_length=512)] = {}  # noqa: RUF012
    quantisation: Quantisation = Quantisation.NONE
    task: TrainingTask = TrainingTask.CAUSAL_LM

    @model_validator(mode="after")
    def _one_run(self) -> Self:
        words = {ALL_LINEAR, SUGGESTED} & set(self.target_modules)
        if words and len(set(self.target_modules)) > 1:
            raise ValueError(f"'{min(words)}' stands for all target modules, so no other is named beside it")
        if found := clashes_of(self) + self._of_adapters():
            raise ValueError(" ".join(found))
        return self

    def _of_adapters(self) -> list[str]:
        if self.method is not Method.FULL:
            return []
        given = {"rank": self.rank is not None, "alpha": self.alpha is not None, "target_modules": self.target_modules != [ALL_LINEAR]}
        return [f"Full fine-tuning trains every weight and has no {name}." for name, named in given.items() if named]

    def resolved(self, base: BaseFacts | None = None) -> LoraSpec:
        """Nothing left to default: `alpha` is twice the rank unless given, modules are sorted and unique. `base`: as far as it is known."""
        form: dict[str, object] = {"target_modules": ()}
        if self.method is not Method.FULL:
            rank = USUAL_RANK if self.rank is None else self.rank
            alpha = 2.0 * rank if self.alpha is None else self.alpha
            form = {"rank": rank, "alpha": alpha, "target_modules": tuple(sorted(set(self.target_modules)))}
        rate = USUAL_RATES[self.method] if self.learning_rate is None else self.learning_rate
        spec = LoraSpec.model_validate(self.model_dump() | form | {"learning_rate": rate})
        return with_usual_rate(spec, base) if self.learning_rate is None else spec


def clashes_of(one: TrainingPlan | LoraSpec) -> list[str]:
    """Why this cannot be one run, in sentences; empty where it can."""
    return clashes(
        method=one.method, init=one.init, rank=max([one.rank or USUAL_RANK, *one.rank_pattern.values()]), use_rslora=one.use_rslora,
        lora_plus_ratio=one.lora_plus_ratio, dropout=one.dropout, patterns=bool(one.rank_pattern or one.alpha_pattern), quantisation=one.quantisation,
        task=one.task, must_pack=one.packing is Packing.ON,
    )  # fmt: skip


class StartRun(Schema):
    """Train `adapter` on a dataset version (`name:v1`) of the same project, over a revision of the adapter's base.

    `start_from`: one of its versions, whose weights learn on and whose form (method, rank, targets) the run has; or, `stacked`, stay frozen
    under a new LoRA, and the sum of both is sealed.
    """

    dataset: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}(:[a-z0-9:]{1,80})?$")]
    base_revision: Selector = "latest"
    plan: TrainingPlan = TrainingPlan()
    placement: Placement | None = None
    start_from: Selector | None = None
    stacked: Truth = False

    @model_validator(mode="after")
    def _on_something(self) -> Self:
        if self.stacked and self.start_from is None:
            raise ValueError("stacked needs start_from: the version to stack on")
        return self


class BranchRun(Schema):
    """What a run that goes on from the last snapshot of another one has otherwise; what is left out stays."""

    learning_rate: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    epochs: Annotated[Integer, Field(ge=1, le=1000)] | None = None
    max_steps: Steps | None = None
    warmup_fraction: Annotated[FiniteFloat, Field(ge=0, lt=1)] | None = None
    max_grad_norm: Annotated[FiniteFloat, Field(gt=0)] | None = None
    checkpoint_every: Steps | None = None
    schedule: Schedule | None = None
    early_stopping_patience: Annotated[Integer, Field(ge=1, le=1000)] | None = None
    evaluate_every: Steps | None = None

    def applied_to(self, spec: LoraSpec) -> LoraSpec:
        """The spec of the new run."""
        return LoraSpec.model_validate(spec.model_dump() | self.model_dump(exclude_none=True))


class RunOut(Tagged):
    """One run; `version` is the reference that it sealed, `preflight` what was known of it when it was started.

    `snapshot_step`: the step of its last snapshot, from which it goes on or another run branches off; null where there is none (any more).
    `pause_requested`: it rests as soon as it has come to the end of its step. `row_version` counts the changes of its job.
    `started_from`: the version that it began with; with `stacked` that version is frozen in it.
    """

    adapter: str
    dataset: str
    base: str
    spec: LoraSpec
    state: JobState
    job_id: UUID
    version: str | None
    progress: Progress | None
    metrics: TrainMetrics | None
    error: JobError | None
    provenance_digest: Digest | None
    mlflow_run_id: str | None
    preflight: list[PreflightFinding]
    origin: RunOrigin | None
    snapshot_step: int | None
    pause_requested: bool
    row_version: int
    started_from: str | None
    stacked: bool
    started_by: UUID
    created_at: datetime


# Whatever may stand in a row: only text that is looked for, and shown to nobody.
Wanted = Annotated[str, StringConstraints(min_length=2, max_length=2000, strip_whitespace=True, pattern=r"^[^\x00]*$")]


class TraceRows(Schema):
    """Whose rows: a `text` that stands in them (compared as NFKC, without regard to case), or an `id`, the item's own or its `source_id`.

    With both, rows that fit either. `dataset` is one dataset of the project; without it all are searched.
    """

    text: Wanted | None = None
    id: Wanted | None = None
    dataset: Name | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.text is None and self.id is None:
            raise ValueError("name a text or an id")
        return self


class TracedRow(Schema):
    """A row that fits: its id, which it has in every version, that of its source, and the part that it stands in."""

    id: str
    source_id: str | None
    part: Literal["train", "validation"]


class TracedVersion(Schema):
    """A dataset version that holds rows that fit; `rows` shows the first hundred."""

    version: str
    digest: Digest
    train_rows: int
    validation_rows: int
    rows: list[TracedRow]


class TracedRun(Schema):
    """A training run on such a version, and the adapter version that it sealed; null where it sealed none."""

    run_id: UUID
    adapter: str
    dataset: str
    state: JobState
    version: str | None


class TraceOut(Schema):
    """Where the rows are, and what was trained on them. Rows of a validation part were not trained on."""

    searched_versions: int
    versions: list[TracedVersion]
    trained: list[TracedRun]
