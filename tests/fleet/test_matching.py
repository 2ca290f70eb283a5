"""Which worker may do which job, and the words for why none may."""

from uuid import UUID

import pytest

from ringi.fleet.matching import GIB, Capability, Requirements, fits, why_waiting
from ringi.fleet.schemas import Condition, Device
from ringi.jobs.contracts.datasets import SplitSpec, ValidateDatasetPayload
from ringi.jobs.contracts.kinds import JobKind, Queue
from ringi.jobs.contracts.parts import BaseRef, FileRef
from ringi.jobs.contracts.suites import Answering, Harness, Task
from ringi.jobs.contracts.sweeps import SweepPayload
from ringi.jobs.contracts.training import LoraSpec, TrainPayload
from ringi.jobs.placement import requirements
from ringi.jobs.schemas import Placement
from ringi.training.schemas import TrainingPlan

US, THEM = UUID(int=1), UUID(int=2)
DIGEST = f"sha256:{'0' * 64}"


def worker(name: str = "gpu1@host", **changes: object) -> Capability:
    plain: dict[str, object] = {
        "name": name, "queues": frozenset({"gpu"}), "device": Device.CUDA, "memory_bytes": 16 * GIB, "engines": frozenset({"peft", "transformers"}),
        "organization_id": None, "condition": Condition.ACTIVE, "busy": False,
    }  # fmt: skip
    return Capability(**(plain | changes))  # type: ignore[arg-type]


def need(**changes: object) -> Requirements:
    return Requirements.model_validate({"queue": Queue.GPU, **changes})


@pytest.mark.parametrize(
    ("wanted", "workers", "code", "words"),
    [
        (need(), [], "no_worker", "no active gpu worker"),
        (need(), [worker(queues=frozenset({"cpu"}))], "no_worker", "no active gpu worker"),
        (need(), [worker(condition=Condition.LOST), worker("b", condition=Condition.CORDONED)], "no_worker", "(1 cordoned, 1 lost)"),
        (need(), [worker(organization_id=THEM)], "no_worker", "no active gpu worker"),
        (need(device=Device.CUDA), [worker(device=Device.CPU)], "device", "needs a device 'cuda', the active gpu workers have cpu"),
        (
            need(memory_bytes=24 * GIB),
            [worker(), worker("b", memory_bytes=8 * GIB)],
            "memory",
            "needs 24.0 GiB, the largest active worker has 16.0",
        ),
        (need(memory_bytes=1), [worker(memory_bytes=None)], "memory", "needs"),
        (need(engines=("vllm", "peft")), [worker()], "engine", "missing: vllm"),
        (need(), [worker(busy=True)], "free_worker", "the one that fits is busy"),
        (need(), [worker(busy=True), worker("b", busy=True)], "free_worker", "all 2 that fit are busy"),
    ],
)
def test_a_job_that_nobody_can_take_says_why(wanted: Requirements, workers: list[Capability], code: str, words: str) -> None:
    found = why_waiting(wanted, workers, organization_id=US)
    assert found is not None
    assert found.code == code
    assert words in found.text


def test_the_largest_is_looked_for_among_those_with_the_right_device() -> None:
    found = why_waiting(
        need(device=Device.CUDA, memory_bytes=24 * GIB),
        [worker(), worker("b", device=Device.CPU, memory_bytes=512 * GIB)],
        organization_id=US,
    )
    assert found is not None
    assert found.text == "needs 24.0 GiB, the largest active worker has 16.0"


def test_a_job_that_a_free_worker_can_do_waits_for_nothing() -> None:
    assert why_waiting(need(memory_bytes=16 * GIB, engines=("peft",)), [worker(), worker("b", busy=True)], organization_id=US) is None
    assert why_waiting(need(), [worker(organization_id=US)], organization_id=US) is None


def test_a_worker_that_lost_a_job_twice_is_not_asked_again() -> None:
    lost = {"gpu1@host": 2, "b": 1}
    assert not fits(need(), worker(), organization_id=US, losses=lost)
    assert fits(need(), worker("b"), organization_id=US, losses=lost)
    assert fits(need(), worker("b", busy=True), organization_id=US, losses=lost)
    found = why_waiting(need(), [worker()], organization_id=US, losses=lost)
    assert found is not None
    assert found.code == "other_worker"
    assert "gpu1@host" in found.text


def train_payload(weights: int) -> TrainPayload:
    spec: LoraSpec = TrainingPlan().resolved()
    files = (
        FileRef(path="model-00001.safetensors", size=weights, digest=DIGEST),
        FileRef(path="tokenizer.json", size=10**9, digest=DIGEST),
    )
    base = BaseRef(name="b", repository="bases/b", revision=1, commit="0" * 40, digest=DIGEST, files=files)
    return TrainPayload(run_id=US, adapter_id=US, adapter_name="a", base=base, rows=DIGEST, spec=spec)


def test_a_sweep_with_a_task_of_lm_evaluation_harness_needs_a_worker_that_has_the_library() -> None:
    plain = Task(name="選択", answering=Answering.CHOICE, items=DIGEST, count=1, scorers=())
    theirs = Task(name="棚", answering=Answering.HARNESS, items=DIGEST, count=1, scorers=(), harness=Harness(task="arc_easy"))
    base = train_payload(8 * GIB).base
    for tasks, engines in (((plain,), ("peft", "transformers")), ((plain, theirs), ("lm_eval", "peft", "transformers"))):
        payload = SweepPayload(suite="s:v1", suite_digest=DIGEST, tasks=tasks, base=base, arms=(), batch_size=1)
        needed = requirements(JobKind.SWEEP, payload, None)
        assert needed.engines == engines
        known = why_waiting(needed, [worker()], organization_id=US)
        assert ("lm_eval" in engines) is (known is not None and "missing: lm_eval" in known.text)


def test_what_a_job_needs_comes_from_its_kind_its_payload_and_its_user() -> None:
    by_itself = requirements(JobKind.TRAIN, train_payload(8 * GIB), None)
    assert by_itself == need(memory_bytes=4 * GIB, engines=("peft", "transformers"))
    more = requirements(JobKind.TRAIN, train_payload(8 * GIB), Placement(memory_bytes=24 * GIB, device=Device.CUDA))
    assert (more.memory_bytes, more.device) == (24 * GIB, Device.CUDA)
    less = requirements(JobKind.TRAIN, train_payload(8 * GIB), Placement(memory_bytes=1))
    assert less.memory_bytes == 4 * GIB, "a wish does not make the weights smaller"
    rows = ValidateDatasetPayload(dataset_id=US, version_name="d:v1", source=DIGEST, split=SplitSpec(validation_fraction=0.1, seed=1))
    assert requirements(JobKind.VALIDATE_DATASET, rows, None) == Requirements(queue=Queue.CPU)
