"""The one door between the platform and its workers: a frozen payload and a result model per job kind.

Payloads hold ids, digests and resolved hyperparameters, never defaults: a payload alone explains a run. A new shape is a new
`schema_version`. The models stand beside this page, in the order of an adapter's life; either side can load them.
"""

from dataclasses import dataclass
from enum import StrEnum

from ringi.jobs.contracts.adapters import InspectPayload, InspectResult
from ringi.jobs.contracts.base_models import CompareBasesPayload, CompareBasesResult, FingerprintPayload, FingerprintResult
from ringi.jobs.contracts.datasets import ValidateDatasetPayload, ValidateDatasetResult
from ringi.jobs.contracts.evaluation import EvaluatePayload, EvaluateResult
from ringi.jobs.contracts.parts import Contract
from ringi.jobs.contracts.searches import SearchPayload, SearchResult
from ringi.jobs.contracts.sweeps import SweepPayload, SweepResult
from ringi.jobs.contracts.training import TrainPayload, TrainResult


class JobKind(StrEnum):
    """What a job does; the verb of the trade."""

    VALIDATE_DATASET = "validate_dataset"
    FINGERPRINT = "fingerprint"
    COMPARE_BASES = "compare_bases"
    TRAIN = "train"
    SEARCH_RANK = "search_rank"
    INSPECT = "inspect"
    EVALUATE = "evaluate"
    SWEEP = "sweep"


class Queue(StrEnum):
    """The Celery queues: `gpu` loads torch, `cpu` never does."""

    GPU = "gpu"
    CPU = "cpu"


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
    JobKind.SEARCH_RANK: JobContract(SearchPayload, SearchResult, Queue.GPU, 7 * 24 * 3600),
    JobKind.INSPECT: JobContract(InspectPayload, InspectResult, Queue.GPU, 3600),
    JobKind.EVALUATE: JobContract(EvaluatePayload, EvaluateResult, Queue.GPU, 24 * 3600),
    JobKind.SWEEP: JobContract(SweepPayload, SweepResult, Queue.GPU, 7 * 24 * 3600),
}
