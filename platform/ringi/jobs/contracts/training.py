"""Train an adapter."""

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Self
from uuid import UUID

from pydantic import Field, FiniteFloat, model_validator

from ringi.jobs.contracts.adapters import AdapterFacts, EffectFacts
from ringi.jobs.contracts.methods import Init, Method, Quantisation, TrainingTask
from ringi.jobs.contracts.parts import AdapterRef, BaseRef, Contract, FileRef, Part
from ringi.kit.digests import Digest


class Packing(StrEnum):
    """Rows behind each other in one sequence, without padding: where the base keeps them apart, always or a refusal, or never."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class Schedule(StrEnum):
    """How the learning rate goes on after the warm-up: in a line to zero, along a cosine to zero, or as it is."""

    LINEAR = "linear"
    COSINE = "cosine"
    CONSTANT = "constant"


class LoraSpec(Part):
    """Resolved hyperparameters of one run.

    A field with a default came later: the default is what runs did before it, so a payload without it is the same run as ever.
    `micro_batch_size`: rows of one forward pass, all rows of the step where None. `pack_length`: tokens of a packed sequence; a longer
    row stands alone. `early_stopping_patience`: measurements of the validation loss, one every `evaluate_every` steps, without a new
    best one before the run ends. `lora_plus_ratio`: how many times the rate of A that of B is. `rank_pattern`, `alpha_pattern`: modules
    (by name or its end) that have their own. `target_modules` may be the one word `all-linear` or `suggested`. Full fine-tuning has no
    adapter, so `rank` and `alpha` are None there and `target_modules` is empty.
    """

    rank: int | None = Field(ge=1, le=512)
    alpha: FiniteFloat | None = Field(gt=0)
    dropout: FiniteFloat = Field(ge=0, lt=1)
    target_modules: tuple[str, ...]
    use_rslora: bool
    learning_rate: FiniteFloat = Field(gt=0, le=1)
    epochs: int = Field(ge=1, le=1000)
    max_steps: int | None = Field(ge=1)
    batch_size: int = Field(ge=1, le=4096)
    warmup_fraction: FiniteFloat = Field(ge=0, lt=1)
    weight_decay: FiniteFloat = Field(ge=0)
    max_grad_norm: FiniteFloat = Field(gt=0)
    max_length: int = Field(ge=8)
    seed: int = Field(ge=0, lt=2**63)
    checkpoint_every: int = Field(ge=1)
    micro_batch_size: int | None = Field(default=None, ge=1, le=4096)
    packing: Packing = Packing.OFF
    pack_length: int = Field(default=1024, ge=8)
    schedule: Schedule = Schedule.LINEAR
    gradient_checkpointing: bool = False
    early_stopping_patience: int | None = Field(default=None, ge=1)
    evaluate_every: int = Field(default=50, ge=1)
    method: Method = Method.LORA
    init: Init = Init.ZERO
    lora_plus_ratio: FiniteFloat | None = Field(default=None, ge=1, le=1024)
    rank_pattern: dict[str, int] = Field(default_factory=dict)
    alpha_pattern: dict[str, FiniteFloat] = Field(default_factory=dict)
    quantisation: Quantisation = Quantisation.NONE
    task: TrainingTask = TrainingTask.CAUSAL_LM

    @model_validator(mode="after")
    def _an_adapter_or_none(self) -> Self:
        absent = {self.rank is None, self.alpha is None, not self.target_modules}
        if absent != {self.method is Method.FULL}:
            raise ValueError("an adapter has a rank, an alpha and target modules, and full fine-tuning has none of them")
        return self

    @property
    def patterns(self) -> frozenset[str]:
        """Names of modules with a rank or an alpha of their own."""
        return frozenset(self.rank_pattern) | frozenset(self.alpha_pattern)

    @property
    def adapter_rank(self) -> int:
        """The rank of a spec that trains an adapter; raises ValueError for full fine-tuning."""
        if self.rank is None:
            raise ValueError("full fine-tuning has no rank")
        return self.rank


# What a run that branches off from a snapshot may have otherwise: the snapshot means the same under any of these.
BRANCHABLE = frozenset({
    "learning_rate", "epochs", "max_steps", "warmup_fraction", "max_grad_norm", "checkpoint_every", "schedule", "early_stopping_patience", "evaluate_every",
})  # fmt: skip


class RunOrigin(Part):
    """The run that another one comes from: branched off from its snapshot of `step`, or done again from the beginning where that is None."""

    run_id: UUID
    step: int | None


class PriceTable(Part):
    """The operator's prices at the time when the run was started: of one hour of one device, by its kind (`a100-80gb`)."""

    currency: str
    as_of: date
    source: str
    per_hour: dict[str, FiniteFloat]


class Gravity(StrEnum):
    """How grave a finding before a run is: it refuses the run, it warns, or it says what could not be looked at."""

    REFUSE = "refuse"
    WARN = "warn"
    NOT_MEASURED = "not_measured"


class PreflightFinding(Part):
    """What was found before the run under a stable code, and what to do about it."""

    code: str
    gravity: Gravity
    message: str
    next_step: str


class TrainPayload(Contract):
    """Train a LoRA on `rows` (a sealed part of a dataset version: pairs, conversations or documents) over `base`.

    `preflight`: what was known of it when it was started. `validation`: rows of the same form for early stopping. `origin`: the run that it
    comes from. `prices`: None where the operator has no table. `earlier`: the version whose weights the run begins with; with `stacked` they stay
    as they are, and what is trained comes beside them.
    """

    run_id: UUID
    adapter_id: UUID
    adapter_name: str
    base: BaseRef
    rows: Digest
    spec: LoraSpec
    preflight: tuple[PreflightFinding, ...] = ()
    validation: Digest | None = None
    origin: RunOrigin | None = None
    prices: PriceTable | None = None
    earlier: AdapterRef | None = None
    stacked: bool = False


class CurvePoint(Part):
    """The mean loss in nats per label token of the steps since the point before, up to and with `step`; and the validation loss at it."""

    step: int
    loss: FiniteFloat
    validation_loss: FiniteFloat | None = None


class TrainMetrics(Part):
    """What the run measured. `skipped_rows` are rows where truncation left no label token.

    `micro_batch_size`: rows of a forward pass at the end, after `memory_halvings` times out of memory. `validation_loss` is the best one,
    that of the exported weights, found at `best_step`. `tokens`: read, padding not counted. `gpu_seconds`, `energy_j` (joules) and `cost` (in
    `currency`) are of the loop and of the devices of all its `processes` (those of the last attempt); None where there was no GPU, no counter,
    no price. Of full fine-tuning alone: `trained_loss` on some training rows with the weights as they were trained, and `sealed_loss` on the same
    with the sealed files. `peak_memory_bytes`: of the (first) process that ended the run, while its loop ran: resident memory on a CPU, else what
    torch had allocated on the GPU. `validation_accuracy`: of a classifier, the share of the validation rows with a known label that it gets
    right, with the exported weights.
    """

    steps: int
    rows: int
    skipped_rows: int
    first_loss: FiniteFloat | None
    final_loss: FiniteFloat | None
    label_tokens: int
    tokens_per_s: FiniteFloat | None
    seconds: FiniteFloat
    resumed_from_step: int
    micro_batch_size: int | None = None
    memory_halvings: int = 0
    validation_loss: FiniteFloat | None = None
    best_step: int | None = None
    packed: bool = False
    stopped_early: bool = False
    curve: tuple[CurvePoint, ...] = ()
    tokens: int | None = None
    gpu_seconds: FiniteFloat | None = None
    energy_j: FiniteFloat | None = None
    cost: FiniteFloat | None = None
    currency: str | None = None
    trained_loss: FiniteFloat | None = None
    sealed_loss: FiniteFloat | None = None
    processes: int = 1
    peak_memory_bytes: int | None = None
    validation_accuracy: FiniteFloat | None = None


class TrainResult(Contract):
    """The exported files and the same facts that an inspected adapter has. `libraries`: every distribution of the worker and its version."""

    files: tuple[FileRef, ...]
    facts: AdapterFacts
    effect: EffectFacts
    metrics: TrainMetrics
    runtime: dict[str, str]
    mlflow_run_id: str | None
    libraries: Mapping[str, str] = {}
