"""Sweeps on the running platform, with the tiny model: what is measured is bound to its bytes, kept arm by arm, and never measured twice."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from ringi.jobs.schemas import OPEN, JobState
from ringi.measurements.schemas import MeasurementOut, MeasurementState, RequestSweep
from ringi.storage.blobs import store_at
from ringi.suites.schemas import AddSuiteVersion, SuiteVersionOut
from support.own_api import store_url
from support.refusals import refused
from support.running_platform import PROJECT, Platform, Processes
from support.seeds import drawn_seed
from support.story import ADAPTER, BASE, DATASET, Ground, registered, registered_base
from support.tiny_model import make_tiny_base, tiny_rows
from support.waiting import until

pytestmark = pytest.mark.long
# Each lost attempt doubles the pause before the next one.
SEED, KILLS = "RINGI_KILL_SEED", 5


def sealed(platform: Platform, document: dict[str, object]) -> SuiteVersionOut:
    suites, name = platform.as_("contributor").suites, f"s{uuid4().hex[:8]}"
    suites.create(PROJECT, name, description="棚の質問")
    return suites.add_version(PROJECT, name, AddSuiteVersion.model_validate({"off_task": False} | document))


def named(suite: SuiteVersionOut) -> str:
    return suite.reference.partition("/")[2]


@pytest.fixture(scope="module")
def quality(ground: Ground) -> SuiteVersionOut:
    """The validation split of the data that both versions were trained on."""
    task = {
        "name": "faq", "answering": "exact", "scorers": ["exact", "nll"], "max_length": 256,
        "dataset": {"version": DATASET},
    }  # fmt: skip
    wanted = [
        {"task": "faq", "metric": "exact", "tier": "supporting", "margin": 0.2},
        {"task": "faq", "metric": "nll", "lower_is_better": True, "margin": 0.5, "pass_at": 5.0},
    ]
    return sealed(ground.platform, {"tasks": [task], "requirements": wanted})


def asked(ground: Ground, suite: SuiteVersionOut, *versions: str, **body: object) -> tuple[UUID, list[MeasurementOut]]:
    wanted = RequestSweep.model_validate({"suite": named(suite), "versions": list(versions), **body})
    found = ground.platform.as_("contributor").sweeps.request(PROJECT, wanted)
    return found.job_id, found.measurements


def measured(ground: Ground, suite: SuiteVersionOut, *versions: str, **body: object) -> list[MeasurementOut]:
    job, arms = asked(ground, suite, *versions, **body)
    ground.platform.succeeded(job)
    return [ground.platform.as_("viewer").measurements.get(PROJECT, one.id) for one in arms]


@pytest.fixture(scope="module")
def swept(ground: Ground, quality: SuiteVersionOut) -> list[MeasurementOut]:
    return measured(ground, quality, f"{ADAPTER}:v1", f"{ADAPTER}:v2", include_base=True)


def test_every_arm_is_measured_and_bound_to_all_that_it_depends_on(
    ground: Ground, quality: SuiteVersionOut, swept: list[MeasurementOut]
) -> None:
    bare, *versions = swept
    assert [one.version for one in swept] == [None, f"{PROJECT}/{ADAPTER}:v1", f"{PROJECT}/{ADAPTER}:v2"]
    adapters = ground.platform.as_("viewer").adapters
    base = ground.platform.as_("viewer").bases.revision(BASE, "r1")
    for one in swept:
        assert one.state is MeasurementState.MEASURED
        assert one.evidence is not None
        assert one.evidence["suite"] == one.suite_digest == quality.digest
        assert (one.evidence["base"], one.evidence["records"]) == (base.digest, one.records_digest)
        assert one.evidence["runtime"] == one.runtime
        assert one.evidence["decoding"]["faq"]["temperature"] == 0
        assert {"torch", "transformers", "peft", "device", "dtype", "engine"} <= (one.runtime or {}).keys()
        assert (one.operations or {})["faq"]["items"] == quality.items
    manifests = [adapters.version(PROJECT, ADAPTER, selector).manifest_digest for selector in ("v1", "v2")]
    assert [(one.evidence or {})["manifest"] for one in swept] == [None, *manifests]
    assert len({one.evidence_digest for one in swept}) == len(swept)
    likelihoods = [(one.summary or {})["faq"].metrics["nll"] for one in swept]
    assert all(found.n == found.scored == quality.items and found.unscored == 0 for found in likelihoods)
    assert all(found.low is not None and found.high is not None and found.low < (found.mean or 0) < found.high for found in likelihoods)
    # Training lowered it: far more than what the interval leaves open.
    assert all((found.high or 0) < (likelihoods[0].low or 0) for found in likelihoods[1:])
    assert versions[0].job_id == bare.job_id


def test_each_record_is_an_item_of_the_suite_with_its_answer_and_scores(
    ground: Ground, quality: SuiteVersionOut, swept: list[MeasurementOut]
) -> None:
    client = ground.platform.as_("viewer")
    items = list(client.suites.items(PROJECT, quality.reference.partition("/")[2].partition(":")[0], "v1", task="faq"))
    sides = [list(client.measurements.records(PROJECT, one.id)) for one in swept[:2]]
    assert [record.item for record in sides[0]] == [item.id for item in items]
    assert [record.asked for record in sides[0]] == [record.asked for record in sides[1]]
    assert {record.scores["exact"] for record in sides[1]} <= {0.0, 1.0}
    assert any(one.nll != other.nll for one, other in zip(*sides, strict=True))


def test_the_same_bytes_under_the_same_runtime_are_taken_over_unless_again_is_asked(
    ground: Ground, quality: SuiteVersionOut, swept: list[MeasurementOut]
) -> None:
    (reused,) = measured(ground, quality, f"{ADAPTER}:v1")
    assert (reused.reused_from, reused.evidence_digest) == (swept[1].id, swept[1].evidence_digest)
    assert reused.records_digest == swept[1].records_digest
    (again,) = measured(ground, quality, f"{ADAPTER}:v1", again=True)
    assert again.reused_from is None
    # Greedy, on the same machine: the same answers, measured anew.
    assert again.summary == swept[1].summary
    listed = ground.platform.as_("viewer").measurements.all(
        PROJECT, filter=["adapter=bot", "version=1", "state=measured", "metrics.faq.nll>0"]
    )
    assert {again.id, reused.id, swept[1].id} <= {one.id for one in listed}


def test_an_adapter_that_does_not_fit_gets_its_code_and_the_rest_goes_on(ground: Ground, quality: SuiteVersionOut, tmp_path: Path) -> None:
    platform, name = ground.platform, f"n{uuid4().hex[:6]}"
    base = make_tiny_base(tmp_path / "narrow", hidden_size=32)
    revision = registered_base(platform, base, name=name)
    platform.as_("contributor").adapters.create(PROJECT, name, base=name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        model.save_pretrained(str(tmp_path / "alien"))
    told = json.loads((tmp_path / "alien" / "adapter_config.json").read_text())
    (tmp_path / "alien" / "adapter_config.json").write_text(
        json.dumps(told | {"base_model_name_or_path": f"bases/{name}", "revision": revision.commit})
    )
    for extra in (tmp_path / "alien").iterdir():
        if extra.name not in {"adapter_config.json", "adapter_model.safetensors"}:
            extra.unlink()
    registered(platform, tmp_path / "alien", name)
    with refused("sweep_base_unclear", 400):
        asked(ground, quality, f"{ADAPTER}:v1", f"{name}:v1")
    own, alien = measured(ground, quality, f"{ADAPTER}:v1", f"{name}:v1", base_revision=f"{BASE}:r1")
    assert own.state is MeasurementState.MEASURED
    assert (alien.state, alien.problem and alien.problem.code) == (MeasurementState.FAILED, "adapter_does_not_fit")
    assert (alien.summary, alien.evidence_digest, alien.records_digest) == (None, None, None)


def test_a_sweep_of_nothing_and_of_what_is_not_there_is_refused(ground: Ground, quality: SuiteVersionOut) -> None:
    with refused("sweep_empty", 400):
        asked(ground, quality)
    with refused("sweep_base_unclear", 400):
        asked(ground, quality, include_base=True)
    for versions in (["bot:v99"], ["nobody:v1"]):
        with refused("not_found", 404):
            asked(ground, quality, *versions)


def test_generated_answers_are_scored_by_the_catalogues_scorers(ground: Ground) -> None:
    items = [
        {"id": f"q{number}", "prompt": row["prompt"], "references": [row["completion"]]} for number, row in enumerate(tiny_rows(24, seed=8))
    ]
    scorers = ["token_f1", {"name": "regex", "label": "棚", "parameters": {"pattern": "shelf|棚"}}]
    task = {"name": "応答", "answering": "generate", "scorers": scorers, "items": items, "decoding": {"max_new_tokens": 16}}
    wanted = {"task": "応答", "metric": "棚", "tier": "supporting", "margin": 0.3}
    (one,) = measured(ground, sealed(ground.platform, {"tasks": [task], "requirements": [wanted]}), f"{ADAPTER}:v1")
    figures = (one.summary or {})["応答"].metrics
    assert {name: (found.n, found.scored) for name, found in figures.items()} == {"token_f1": (24, 24), "棚": (24, 24)}
    # What it learnt in training.
    assert (figures["token_f1"].mean or 0) > 0.3
    assert ((one.operations or {})["応答"]["tokens_per_s"] or 0) > 0


@pytest.fixture
def long_suite(ground: Ground) -> SuiteVersionOut:
    """An arm takes some seconds, so that something can happen in the middle."""
    items = [
        {"id": f"q{number}", "prompt": row["prompt"] * 6, "references": [row["completion"] * 4], "tags": {"n": str(number % 5)}}
        for number, row in enumerate(tiny_rows(1600, seed=4))
    ]
    task = {"name": "長い", "answering": "likelihood", "scorers": ["nll"], "items": items, "render": "raw"}
    return sealed(ground.platform, {"tasks": [task]})


@pytest.fixture
def worker(shared_platform: Processes) -> Iterator[Processes]:
    """The worker of this process's platform, which is there again afterwards."""
    yield shared_platform
    if not shared_platform.gpu_workers:
        shared_platform.start_worker("worker-gpu", "gpu")


def states(ground: Ground, arms: list[MeasurementOut]) -> list[MeasurementState]:
    client = ground.platform.as_("viewer").measurements
    return [client.get(PROJECT, one.id).state for one in arms]


def test_a_sweep_whose_worker_is_killed_goes_on_with_what_is_left_and_measures_nothing_twice(
    ground: Ground, long_suite: SuiteVersionOut, worker: Processes
) -> None:
    platform = ground.platform
    job, arms = asked(ground, long_suite, f"{ADAPTER}:v1", f"{ADAPTER}:v2", include_base=True, batch_size=4)

    def some() -> bool:
        assert platform.as_("contributor").jobs.get(job).state in OPEN, "it ended before it was killed"
        return MeasurementState.MEASURED in states(ground, arms)

    until(some, timeout_s=120, pause_s=0.02)
    for name in worker.gpu_workers:
        worker.kill(name)
    kept = [platform.as_("viewer").measurements.get(PROJECT, one.id) for one in arms]
    digests = {one.id: one.records_digest for one in kept if one.state is MeasurementState.MEASURED}
    worker.start_worker("worker-gpu", "gpu")
    ended = platform.succeeded(job)
    assert ended.attempt >= 2
    client = platform.as_("viewer").measurements
    found = [client.get(PROJECT, one.id) for one in arms]
    assert [one.state for one in found] == [MeasurementState.MEASURED] * 3
    # What was kept before the kill is what is there at the end.
    assert {one.id: one.records_digest for one in found}.items() >= digests.items()
    assert digests
    entries = Counter(entry.object_id for entry in platform.logged("evaluation.measurement.complete", job=str(job)))
    assert entries == {str(one.id): 1 for one in arms}
    for one in found:
        records = [record.item for record in client.records(PROJECT, one.id)]
        assert len(records) == len(set(records)) == long_suite.items


@pytest.mark.proof
@pytest.mark.timeout(3600)
def test_a_sweep_survives_kills_at_drawn_moments(ground: Ground, long_suite: SuiteVersionOut, worker: Processes, tmp_path: Path) -> None:
    """Nine arms, five kills; RINGI_KILL_SEED draws the moments again."""
    platform, draw = ground.platform, random.Random(drawn_seed(SEED))
    versions = [f"{ADAPTER}:v1", f"{ADAPTER}:v2", *(_stronger(ground, tmp_path / str(number), 1 + number / 100) for number in range(1, 7))]
    job, arms = asked(ground, long_suite, *versions, include_base=True, batch_size=8)
    kills, jobs = 0, platform.as_("contributor").jobs
    while kills < KILLS and jobs.get(job).state in OPEN:
        until(lambda: jobs.get(job).state is not JobState.QUEUED, timeout_s=240)
        moment = time.monotonic() + draw.uniform(0, 4)
        until(lambda at=moment: time.monotonic() > at or jobs.get(job).state not in OPEN, pause_s=0.01, timeout_s=60)  # type: ignore[misc]  # bound now
        if jobs.get(job).state is JobState.RUNNING:
            for name in worker.gpu_workers:
                worker.kill(name)
            kills += 1
            worker.start_worker("worker-gpu", "gpu")
            # Until another worker's lease, or the end of this one's, the job is still called running.
            attempt = jobs.get(job).attempt
            until(lambda before=attempt: jobs.get(job).attempt > before or jobs.get(job).state not in OPEN, timeout_s=240)  # type: ignore[misc]  # as above
    ended = platform.succeeded(job, timeout_s=900)
    print(f"{kills} kills, {ended.attempt} attempts, {len(arms)} arms")
    assert kills >= 3
    assert states(ground, arms) == [MeasurementState.MEASURED] * len(arms)
    entries = Counter(entry.object_id for entry in platform.logged("evaluation.measurement.complete", job=str(job)))
    assert entries == {str(one.id): 1 for one in arms}
    for one in arms:
        records = [record.item for record in platform.as_("viewer").measurements.records(PROJECT, one.id)]
        assert len(records) == len(set(records)) == long_suite.items


def _stronger(ground: Ground, folder: Path, factor: float) -> str:
    """Another version: v1 with its weights a little larger."""
    folder.mkdir()
    store = store_at(store_url(ground.platform))
    for file in ground.platform.as_("contributor").adapters.version(PROJECT, ADAPTER, "v1").files:
        (folder / file.path).write_bytes(b"".join(store.open(file.digest)))
    weights = folder / "adapter_model.safetensors"
    save_file({name: tensor * factor for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    return registered(ground.platform, folder).reference.partition("/")[2]


def test_a_cancelled_sweep_keeps_what_was_done(ground: Ground, long_suite: SuiteVersionOut) -> None:
    platform = ground.platform
    job, arms = asked(ground, long_suite, f"{ADAPTER}:v1", f"{ADAPTER}:v2", include_base=True, batch_size=4)
    until(lambda: MeasurementState.MEASURED in states(ground, arms), timeout_s=120, pause_s=0.02)
    seen = platform.as_("contributor").jobs.get(job)
    assert seen.progress is not None
    assert seen.progress.total is not None
    platform.as_("contributor").jobs.cancel(job)
    assert platform.ended(job).state is JobState.CANCELLED
    found = states(ground, arms)
    assert found[0] is MeasurementState.MEASURED
    assert found[-1] is MeasurementState.CANCELLED
    assert set(found) == {MeasurementState.MEASURED, MeasurementState.CANCELLED}
