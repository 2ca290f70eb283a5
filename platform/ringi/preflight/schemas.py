"""The words of a forecast: what is to be trained, what it needs, how long it takes and what it costs, and what was found against it.

`None` means "not measured" everywhere in this file; it never stands for zero.
"""

from datetime import date
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, FiniteFloat, StringConstraints, model_validator

from ringi.jobs.contracts.methods import Quantisation
from ringi.jobs.contracts.training import PreflightFinding
from ringi.web.schemas import PRINTABLE, Schema

Target = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
Positive = Annotated[FiniteFloat, Field(gt=0)]


class Precision(StrEnum):
    """In what the base computes: float32, or bfloat16 with an adapter and optimiser in float32."""

    FP32 = "fp32"
    BF16 = "bf16"


class Trained(StrEnum):
    """What is trained: the two small matrices of a LoRA, or every parameter."""

    LORA = "lora"
    FULL = "full"


class Gpu(StrEnum):
    """Kinds of devices that a forecast is made for."""

    A100 = "a100-80gb"
    H100 = "h100-80gb"
    L4 = "l4"
    RTX_4090 = "rtx-4090"
    CPU = "cpu"


class Workload(Schema):
    """What is to be trained. `batch_size`: rows that are in memory at once. `max_length`: tokens of the longest row of such a batch.

    `tokens_per_row` and `label_tokens_per_row` are means, in tokens; without rows and tokens no time is forecast. `logit_positions`: positions
    of a batch at which logits are computed; every position unless it is known. `snapshot_every`: steps between snapshots. `keeps_best`: early
    stopping keeps the best weights beside the last ones. `classes`: of a classifier, None is a language model.
    """

    method: Trained = Trained.LORA
    rank: Annotated[int, Field(ge=1, le=512)] = 16
    target_modules: Annotated[list[Target], Field(min_length=1, max_length=64)] = ["all-linear"]  # noqa: RUF012  # Pydantic copies it
    dropout: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.0
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    max_length: Annotated[int, Field(ge=8, le=1_000_000)] = 512
    precision: Precision = Precision.BF16
    quantisation: Quantisation = Quantisation.NONE
    checkpointing: bool = False
    rows: Annotated[int, Field(ge=1, le=10**10)] | None = None
    tokens_per_row: Annotated[FiniteFloat, Field(gt=0, le=1_000_000)] | None = None
    label_tokens_per_row: Annotated[FiniteFloat, Field(gt=0, le=1_000_000)] | None = None
    logit_positions: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[int, Field(ge=1, le=1000)] = 3
    max_steps: Annotated[int, Field(ge=1)] | None = None
    snapshot_every: Annotated[int, Field(ge=1)] | None = None
    keeps_best: bool = False
    classes: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _of_one_run(self) -> Self:
        if self.method is Trained.FULL and self.quantisation is not Quantisation.NONE:
            raise ValueError("weights that are stored in four or eight bits cannot be trained: full has no quantisation")
        if self.tokens_per_row is not None and (self.label_tokens_per_row or 0) > self.tokens_per_row:
            raise ValueError("label_tokens_per_row is a part of tokens_per_row, and no more than that")
        if self.tokens_per_row is not None and self.tokens_per_row > self.max_length:
            raise ValueError("tokens_per_row is the mean of rows that are cut at max_length, and no more than that")
        return self

    @property
    def tokens(self) -> float | None:
        """Tokens that the whole run reads; None where rows or their tokens are not known."""
        if self.rows is None or self.tokens_per_row is None:
            return None
        rows = self.rows * self.epochs
        return min(rows, self.max_steps * self.batch_size if self.max_steps else rows) * self.tokens_per_row


class AskEstimate(Workload):
    """A workload as a query asks for it, and the kinds of devices that are meant: all of them where none is named.

    `dataset` (`project/name:v1`) gives rows and tokens a row, as far as they are known and not given here.
    """

    gpu: list[Gpu] = []  # noqa: RUF012  # Pydantic copies it
    dataset: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}/[a-z0-9._-]{1,64}(:[a-z0-9]{1,20})?$")] | None = None

    @model_validator(mode="after")
    def _of_every_weight(self) -> Self:
        # What is not named has a value too, which full fine-tuning does not use.
        named = [name for name in ("rank", "target_modules") if name in self.model_fields_set]
        if self.method is Trained.FULL and named:
            raise ValueError(f"Full fine-tuning trains every weight and has no {' and no '.join(named)}")
        return self

    @property
    def workload(self) -> Workload:
        """The workload alone."""
        return Workload.model_validate(self.model_dump(exclude={"gpu", "dataset"}))


class MemoryTerm(Schema):
    """One part of the peak: `bytes`, and what it is made of in words. `certain`: it does not depend on how long the rows are."""

    name: str
    bytes: int
    certain: bool
    about: str


class Memory(Schema):
    """Peak memory of one device while it trains, in bytes. `least` is the sum of the certain terms: below it nothing can run."""

    terms: list[MemoryTerm]
    total: int
    least: int


class RateSource(StrEnum):
    """Where a speed comes from: finished runs on this base, finished runs on this kind of device, or an assumption."""

    SAME_BASE = "runs of this base"
    SAME_DEVICE = "runs on this device"
    ASSUMED = "assumed"


class Rate(Schema):
    """Model FLOPs a second, real tokens only. `runs` counts what it was measured on: 0 where it is assumed."""

    low: Positive
    typical: Positive
    high: Positive
    source: RateSource
    runs: int


class Cost(Schema):
    """What the hours cost by the operator's price table; `example` tells that the table still holds example prices."""

    currency: str
    low: FiniteFloat
    typical: FiniteFloat
    high: FiniteFloat
    per_hour: FiniteFloat
    as_of: date
    example: bool


class Duration(Schema):
    """Seconds of the training loop alone: fetching, loading and measuring the effect come on top."""

    low: FiniteFloat
    typical: FiniteFloat
    high: FiniteFloat


class DeviceForecast(Schema):
    """One kind of device. `fits` is None where its memory is not known. No `duration` and no `cost` where something is not measured."""

    device: str
    memory_bytes: int | None
    fits: bool | None
    rate: Rate | None
    duration: Duration | None
    cost: Cost | None
    note: str


class Estimate(Schema):
    """What a workload needs on a base. `flops`: of the whole run, None without tokens. `disk_bytes`: base, two snapshots and the adapter."""

    base: str
    model_type: str
    parameters: int
    trainable_parameters: int
    memory: Memory
    disk_bytes: int
    tokens: FiniteFloat | None
    flops: FiniteFloat | None
    devices: list[DeviceForecast]
    workload: Workload


class PreflightOut(Schema):
    """What was found before a run: `refused` where a finding refuses it. `estimate` is None where the base's shape is not known."""

    refused: bool
    findings: list[PreflightFinding]
    estimate: Estimate | None


def _currency(code: str) -> str:
    if not (len(code) == 3 and code.isascii() and code.isupper()):  # noqa: PLR2004  # ISO 4217
        raise ValueError("a currency has three capital letters (ISO 4217), such as JPY")
    return code


class Prices(Schema):
    """The operator's price table: what one hour of one device costs, since when, and where that is written."""

    currency: Annotated[str, AfterValidator(_currency)]
    as_of: date
    source: Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=PRINTABLE)]
    example: bool = False
    per_hour: dict[Gpu, Annotated[FiniteFloat, Field(ge=0, le=1_000_000_000)]]
