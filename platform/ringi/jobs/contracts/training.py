"""Train an adapter."""

from enum import StrEnum
from uuid import UUID

from pydantic import Field, FiniteFloat

from ringi.jobs.contracts.adapters import AdapterFacts, EffectFacts
from ringi.jobs.contracts.parts import BaseRef, Contract, FileRef, Part
from ringi.kit.digests import Digest


class LoraSpec(Part):
    """Resolved hyperparameters of one run."""

    rank: int = Field(ge=1, le=512)
    alpha: FiniteFloat = Field(gt=0)
    dropout: FiniteFloat = Field(ge=0, lt=1)
    target_modules: tuple[str, ...] = Field(min_length=1)
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

    `preflight`: what was known of it when it was started.
    """

    run_id: UUID
    adapter_id: UUID
    adapter_name: str
    base: BaseRef
    rows: Digest
    spec: LoraSpec
    preflight: tuple[PreflightFinding, ...] = ()


class TrainMetrics(Part):
    """What the run measured. `skipped_rows` are rows where truncation left no label token."""

    steps: int
    rows: int
    skipped_rows: int
    first_loss: FiniteFloat | None
    final_loss: FiniteFloat | None
    label_tokens: int
    tokens_per_s: FiniteFloat | None
    seconds: FiniteFloat
    resumed_from_step: int


class TrainResult(Contract):
    """The exported files and the same facts that an inspected adapter has."""

    files: tuple[FileRef, ...]
    facts: AdapterFacts
    effect: EffectFacts
    metrics: TrainMetrics
    runtime: dict[str, str]
    mlflow_run_id: str | None
