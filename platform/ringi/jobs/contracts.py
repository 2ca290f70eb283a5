"""The one door between the platform and its workers: a frozen payload and a result model per job kind.

Imports pydantic and `kit.digests` only, so that either side can load it. Payloads hold ids, digests and resolved
hyperparameters, never defaults: a payload alone explains a run. A new shape is a new `schema_version`.
"""
# long: one vocabulary on one page; both sides read it from top to bottom, in the order of an adapter's life.

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from ringi.kit.digests import Digest


class Contract(BaseModel):
    """Frozen, closed, and versioned."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1


class Part(BaseModel):
    """A frozen, closed piece of a contract."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JobKind(StrEnum):
    """What a job does; the verb of the trade."""

    VALIDATE_DATASET = "validate_dataset"
    FINGERPRINT = "fingerprint"
    COMPARE_BASES = "compare_bases"
    TRAIN = "train"
    INSPECT = "inspect"
    EVALUATE = "evaluate"


class Queue(StrEnum):
    """The Celery queues: `gpu` loads torch, `cpu` never does."""

    GPU = "gpu"
    CPU = "cpu"


class FileRef(Part):
    """One file of a tree: POSIX path relative to the tree's root, size in bytes, digest of the content."""

    path: str
    size: int = Field(ge=0)
    digest: Digest


class BaseRef(Part):
    """A sealed base model revision. `commit` is the 40-hex id under which the hub serves it, `repository` the hub's name of it."""

    name: str
    repository: str
    revision: int
    commit: str
    digest: Digest
    files: tuple[FileRef, ...]


class AdapterRef(Part):
    """A sealed adapter version's files, named by its manifest digest."""

    name: str
    manifest_digest: Digest
    files: tuple[FileRef, ...]


# --- datasets ---------------------------------------------------------------------------------------------------------


class SplitSpec(Part):
    """Which share of the groups of equal prompts goes to validation; the side of a group depends on seed and text only."""

    validation_fraction: FiniteFloat = Field(gt=0, lt=1)
    seed: int


class ValidateDatasetPayload(Contract):
    """Read `source` (JSON lines, one object with prompt and completion a line), report, and split."""

    dataset_id: UUID
    version_name: str
    source: Digest
    split: SplitSpec


class DatasetReport(Part):
    """What was found. Counts are rows unless named otherwise; `examples` holds a few line numbers per finding."""

    rows: int
    unique_pairs: int
    empty_rows: int
    duplicate_rows: int
    # Pairs that occur more than once: their single copy stays in train and never reaches validation.
    duplicated_pairs: int
    conflicting_prompts: int
    # Groups of equal prompts that a plain row split would have put on both sides; grouping keeps them on one.
    leakage_prevented: int
    train_rows: int
    validation_rows: int
    characters: int
    categories: dict[str, dict[str, int]]
    examples: dict[str, list[int]]


class ValidateDatasetResult(Contract):
    """The two sealed splits as JSON lines blobs."""

    report: DatasetReport
    train: FileRef
    validation: FileRef


# --- base models ------------------------------------------------------------------------------------------------------


class FingerprintPayload(Contract):
    """Parse a base revision's files and compute parts F1 and F2 of its fingerprint."""

    revision_id: UUID
    files: tuple[FileRef, ...]


class BaseFacts(Part):
    """What config and tokenizer say, for lists and for the compatibility rules."""

    model_type: str
    architectures: tuple[str, ...]
    parameters: int
    tensors: int
    weight_bytes: int
    dtypes: tuple[str, ...]
    hidden_size: int | None
    layers: int | None
    vocab_size: int | None
    tokenizer_class: str | None
    tokenizer_vocab_size: int | None
    chat_template: bool


class FingerprintResult(Contract):
    """F1: digest of the canonical config. F2: root over the tensors; `tensors` is the blob with one record a tensor."""

    f1: str
    f1_document: FileRef
    f2: str
    tensors: FileRef
    facts: BaseFacts


class ComparedBase(Part):
    """One side of a comparison: its parts and files, nothing about how it came to be."""

    revision_id: UUID
    revision: int
    f1: str
    f2: str
    f1_document: FileRef
    tensors: FileRef
    files: tuple[FileRef, ...]


class CompareBasesPayload(Contract):
    """Compare two revisions of one base model."""

    base_model_id: UUID
    old: ComparedBase
    new: ComparedBase


class TensorChange(Part):
    """A tensor whose values differ: `relative` = ||new - old|| / ||old|| (Frobenius), None where shapes or kinds forbid it."""

    name: str
    relative: FiniteFloat | None


class CompareBasesResult(Contract):
    """Facts for the rules. `byte_equal_files`: every weight file has the same digest on both sides."""

    byte_equal_files: bool
    config_changes: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    reshaped: tuple[str, ...]
    # Raw bytes or dtype differ but the values agree exactly (f32 upcast), or after rounding to the narrower dtype.
    recast: tuple[str, ...]
    changed: tuple[TensorChange, ...]


# --- adapters ---------------------------------------------------------------------------------------------------------


class TensorFact(Part):
    """One tensor of an adapter file, read from the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class AdapterFacts(Part):
    """What the adapter's files say and how they meet the base. Module names are the base's own full names."""

    peft_type: str
    task_type: str | None
    rank: int
    alpha: FiniteFloat
    use_rslora: bool
    use_dora: bool
    target_modules: tuple[str, ...]
    # Base modules that carry adapter weights, resolved against the base.
    adapted_modules: tuple[str, ...]
    # Tensors in the file that match nothing in the base; expected tensors that the file does not fill.
    unmatched_tensors: tuple[str, ...]
    unfilled_tensors: tuple[str, ...]
    # Base tensors that loading would replace (modules_to_save, embedding base_layer).
    replaced_tensors: tuple[str, ...]
    non_finite_tensors: tuple[str, ...]
    tensors: tuple[TensorFact, ...]
    parameters: int


class EffectFacts(Part):
    """The effect proof's measurement. `change`: largest absolute logit difference with and without the adapter on the probe
    prompts. `noise`: largest difference between two passes of the bare base with other batch shapes. Logits, no unit.
    """

    prompts: int
    probe_digest: Digest
    change: FiniteFloat | None
    noise: FiniteFloat | None
    dtype: str


class InspectPayload(Contract):
    """Check a PEFT folder that was trained elsewhere."""

    adapter_id: UUID
    adapter_name: str
    base: BaseRef
    files: tuple[FileRef, ...]


class InspectResult(Contract):
    """`files` are the canonical files to seal (weights as they came, config rewritten)."""

    files: tuple[FileRef, ...]
    facts: AdapterFacts
    effect: EffectFacts
    runtime: dict[str, str]


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


class TrainPayload(Contract):
    """Train a LoRA on `rows` (JSON lines: prompt, completion) over `base`."""

    run_id: UUID
    adapter_id: UUID
    adapter_name: str
    base: BaseRef
    rows: Digest
    spec: LoraSpec


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


# --- evaluation -------------------------------------------------------------------------------------------------------


class Arm(Part):
    """One side of a paired evaluation: a base revision, with an adapter version or bare."""

    base: BaseRef
    adapter: AdapterRef | None


class EvaluatePayload(Contract):
    """Answer every row of `rows` with both arms."""

    evaluation_id: UUID
    candidate: Arm
    baseline: Arm
    rows: Digest
    max_new_tokens: int
    max_length: int
    batch_size: int


class ArmRecord(Part):
    """One arm on one item. `nll` is the mean negative log-likelihood per reference token, in nats; None where not scored."""

    nll: FiniteFloat | None
    tokens: int
    output: str
    match: bool | None


class ItemRecord(Part):
    """One validation item answered by both arms; the unit of pairing."""

    item: str
    slices: dict[str, str]
    prompt_digest: Digest
    reference: str
    candidate: ArmRecord
    baseline: ArmRecord


class EvaluateResult(Contract):
    """`records` is a JSON lines blob of `ItemRecord`; judgement happens in the platform."""

    records: FileRef
    items: int
    seconds: FiniteFloat
    runtime: dict[str, str]
    mlflow_run_id: str | None


class Progress(Part):
    """Live state of a running job; every field but `phase` is None until it is known."""

    phase: str
    step: int | None = None
    total: int | None = None
    loss: FiniteFloat | None = None
    tokens_per_s: FiniteFloat | None = None
    eta_s: FiniteFloat | None = None


@dataclass(frozen=True)
class JobContract:
    """Which models a job kind speaks, where it runs, and after how many seconds it is given up."""

    payload: type[Contract]
    result: type[Contract]
    queue: Queue
    time_limit_s: int


CONTRACTS: dict[JobKind, JobContract] = {
    JobKind.VALIDATE_DATASET: JobContract(ValidateDatasetPayload, ValidateDatasetResult, Queue.CPU, 3600),
    JobKind.FINGERPRINT: JobContract(FingerprintPayload, FingerprintResult, Queue.CPU, 4 * 3600),
    JobKind.COMPARE_BASES: JobContract(CompareBasesPayload, CompareBasesResult, Queue.CPU, 4 * 3600),
    JobKind.TRAIN: JobContract(TrainPayload, TrainResult, Queue.GPU, 7 * 24 * 3600),
    JobKind.INSPECT: JobContract(InspectPayload, InspectResult, Queue.GPU, 3600),
    JobKind.EVALUATE: JobContract(EvaluatePayload, EvaluateResult, Queue.GPU, 24 * 3600),
}


def as_document(contract: BaseModel) -> dict[str, Any]:
    """The JSON form in which a contract is stored in the jobs table."""
    return contract.model_dump(mode="json")
