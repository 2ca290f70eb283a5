"""Full fine-tuning through the API and real workers: sealed as another kind, measured beside base and LoRA, and refused wherever an adapter is meant."""

from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from ringi.adapters.schemas import VersionKind, VersionOut
from ringi.cli.contexts import Profile, save_profile
from ringi.compatibility.rules import Action, Code, Verdict
from ringi.jobs.schemas import JobState
from ringi.measurements.schemas import MeasurementOut, RequestSweep
from ringi.suites.schemas import AddSuiteVersion
from ringi.training.schemas import RunOut, TrainingPlan
from support.refusals import refused
from support.running_platform import PROJECT
from support.shell import Shell
from support.story import BASE, DATASET, Ground, evaluated, registered_base, trained
from support.tiny_model import make_tiny_base
from support.waiting import until

PLAN = TrainingPlan.model_validate(
    {"method": "full", "max_steps": 24, "batch_size": 8, "learning_rate": 0.005, "max_length": 128, "checkpoint_every": 10}
)
LORA = TrainingPlan(rank=8, max_steps=24, batch_size=8, learning_rate=0.01, max_length=128)


@pytest.fixture(scope="module")
def adapter(ground: Ground) -> str:
    name = f"full-{uuid4().hex[:8]}"
    ground.platform.as_("contributor").adapters.create(PROJECT, name, base=BASE)
    return name


@pytest.fixture(scope="module")
def run(ground: Ground, adapter: str) -> RunOut:
    """v1 is full weights, v2 a LoRA."""
    full = trained(ground.platform, adapter, plan=PLAN)
    trained(ground.platform, adapter, plan=LORA)
    return full


@pytest.fixture(scope="module")
def version(ground: Ground, adapter: str, run: RunOut) -> VersionOut:
    assert run.version == f"{PROJECT}/{adapter}:v1"
    return ground.platform.as_("viewer").adapters.version(PROJECT, adapter, "v1")


@pytest.fixture(scope="module")
def suite(ground: Ground) -> str:
    suites, name = ground.platform.as_("contributor").suites, f"s{uuid4().hex[:8]}"
    suites.create(PROJECT, name, description="棚の質問")
    task = {"name": "faq", "answering": "exact", "scorers": ["exact", "nll"], "max_length": 256, "dataset": {"version": DATASET}}
    suites.add_version(PROJECT, name, AddSuiteVersion.model_validate({"off_task": False, "tasks": [task]}))
    return f"{name}:v1"


@pytest.fixture(scope="module")
def swept(ground: Ground, adapter: str, run: RunOut, suite: str) -> list[MeasurementOut]:
    """The base, the LoRA and the full weights, and then the first two again."""
    found = []
    for versions in ([f"{adapter}:v2", f"{adapter}:v1"], [f"{adapter}:v2"]):
        wanted = RequestSweep.model_validate({"suite": suite, "versions": versions, "include_base": True, "again": True})
        asked = ground.platform.as_("contributor").sweeps.request(PROJECT, wanted)
        ground.platform.succeeded(asked.job_id)
        found += [ground.platform.as_("viewer").measurements.get(PROJECT, one.id) for one in asked.measurements]
    return found


def test_a_version_of_full_weights_is_clearly_another_kind(ground: Ground, adapter: str, run: RunOut, version: VersionOut) -> None:
    viewer = ground.platform.as_("viewer")
    assert version.kind is VersionKind.FULL_WEIGHTS
    assert viewer.adapters.manifest(PROJECT, adapter, "v1").manifest["format"] == "full-weights/1"
    assert {"model.safetensors", "config.json", "tokenizer.json", "full_weights.json"} <= {file.path for file in version.files}
    assert (version.facts.peft_type, version.facts.rank, version.facts.alpha, version.facts.target_modules) == ("FULL", None, None, ())
    assert viewer.adapters.version(PROJECT, adapter, "v2").kind is VersionKind.ADAPTER
    # The record has no rank that nobody used.
    assert (run.spec.method, run.spec.rank, run.spec.alpha, run.spec.target_modules) == ("full", None, None, ())
    record = viewer.training.provenance(PROJECT, adapter, run.id)
    assert (record.recipe["rank"], record.recipe["target_modules"]) == (None, [])
    assert record.spent.flops is not None
    assert run.metrics is not None
    assert record.spent.tokens is not None
    # 6 a parameter and token at most, less the embeddings, whose rows are looked up.
    assert 3 * version.facts.parameters < record.spent.flops / record.spent.tokens < 7 * version.facts.parameters
    assert run.metrics.sealed_loss == pytest.approx(run.metrics.trained_loss, rel=1e-3)
    listed = viewer.adapters.versions(PROJECT, adapter, filter=["method=FULL"])
    assert [one.number for one in listed] == [1]


def test_it_is_measured_beside_the_base_and_a_lora_and_leaves_nothing_behind(swept: list[MeasurementOut]) -> None:
    base, lora, full, base_again, lora_again = swept
    nll = [(one.summary or {})["faq"].metrics["nll"] for one in swept]
    assert all(one.mean is not None and one.unscored == 0 for one in nll)
    assert nll[1].mean < nll[0].mean  # type: ignore[operator]  # None would fail here as it should
    assert nll[2].mean < nll[0].mean - 0.5  # type: ignore[operator]  # None would fail here as it should
    # To the last bit: whoever is measured after the full weights sees nothing of them.
    assert (base_again.records_digest is None, nll[3].mean, nll[4].mean) == (False, nll[0].mean, nll[1].mean)
    assert nll[2].mean not in {nll[0].mean, nll[1].mean}
    assert {one.evidence_digest is None for one in (base, lora, full, base_again, lora_again)} == {False}


def test_it_is_evaluated_against_the_base(ground: Ground, adapter: str, run: RunOut) -> None:
    found = evaluated(ground.platform, "v1", adapter)
    assert found.summary is not None
    assert found.summary.verdict == "better"


def test_what_is_no_adapter_is_refused_where_one_is_meant(ground: Ground, adapter: str, run: RunOut, tmp_path: Path) -> None:
    contributor = ground.platform.as_("contributor")
    with refused("version_full_weights", 409) as why:
        contributor.approvals.request(PROJECT, adapter, "v1", environment="production")
    assert "no adapter" in why.message
    for stacked in (False, True):
        with refused("version_full_weights", 409):
            contributor.training.start(PROJECT, adapter, dataset=DATASET, plan=LORA, start_from="v1", stacked=stacked)
    with refused("training_warm_start_differs", 400):
        contributor.training.start(PROJECT, adapter, dataset=DATASET, plan=PLAN, start_from="v2")
    with refused("training_warm_start_not_stackable", 400):
        contributor.training.start(PROJECT, adapter, dataset=DATASET, plan=PLAN, start_from="v2", stacked=True)
    body = {"adapter": adapter, "dataset": DATASET, "ranks": [4, 8], "learning_rates": [0.001], "plan": {"method": "full"}}
    answer = ground.platform.call("contributor", "POST", f"/projects/{PROJECT}/searches", json=body)
    assert (answer.status_code, "no rank to search for" in answer.text) == (422, True)
    channel = f"c-{uuid4().hex[:8]}"
    deployer = ground.platform.as_("deployer").releases
    deployer.create_channel(PROJECT, channel, environment="production")
    with refused("release_refused", 409) as refusal:
        deployer.publish(PROJECT, adapter, version="v1", channel=channel, reason="比較のために学習した全重みの版")
    assert "release_gate_kind" in refusal.codes
    # Neither as a candidate, to whom an adapter's version is served without any approval.
    for number, status in (("v1", 403), ("v2", 200)):
        path = f"{ground.platform.server}/hf/{channel}/api/models/{PROJECT}/{adapter}/revision/{number}"
        pulled = httpx.get(path, headers={"Authorization": f"Bearer {ground.platform.tokens['contributor']}"})
        assert pulled.status_code == status, pulled.text
    assert list(deployer.history(PROJECT, adapter, channel=channel)) == []


def test_on_a_newer_base_it_is_incompatible_and_neither_evaluated_nor_swept(ground: Ground, suite: str, tmp_path: Path) -> None:
    """Adapters are judged for a newer revision and measured on it; full weights have their base in themselves."""
    platform, name, own = ground.platform, f"full-{uuid4().hex[:8]}", f"own-{uuid4().hex[:8]}"
    registered_base(platform, make_tiny_base(tmp_path / "r1", seed=5), name=own)
    contributor = platform.as_("contributor")
    contributor.adapters.create(PROJECT, name, base=own)
    trained(platform, name, plan=PLAN.model_copy(update={"max_steps": 4}))
    registered_base(platform, make_tiny_base(tmp_path / "r2", seed=6), name=own)
    with refused("version_full_weights", 409) as why:
        evaluated(platform, "v1", name, base_revision="r2", baseline="trained_on")
    assert f"{own}:r2" in why.message
    wanted = RequestSweep.model_validate({"suite": suite, "versions": [f"{name}:v1"], "base_revision": f"{own}:r2"})
    with refused("version_full_weights", 409):
        contributor.sweeps.request(PROJECT, wanted)
    (judged,) = until(lambda: list(contributor.compatibility.of_version(PROJECT, name, "v1")), timeout_s=60)
    assert (judged.assessment.verdict, judged.assessment.action) == (Verdict.INCOMPATIBLE, Action.BLOCK)
    assert Code.FULL_WEIGHTS in {finding.code for finding in judged.assessment.findings}
    assert evaluated(platform, "v1", name).base == f"{own}:r1"


def test_the_command_line_trains_shows_and_forecasts_it(ground: Ground, adapter: str, run: RunOut, tmp_path: Path) -> None:
    shell = Shell(tmp_path, ground.platform.server)
    profile = Profile(server=ground.platform.server, token=ground.platform.tokens["contributor"])
    save_profile(tmp_path / "config.json", "contributor", profile, replace=False)
    me = ("--profile", "contributor")
    assert "FULL WEIGHTS, no adapter" in shell.ok("adapters", "show", f"{PROJECT}/{adapter}:v1", *me)
    listed = shell.ok("adapters", "versions", f"{PROJECT}/{adapter}", *me)
    assert listed.count("FULL WEIGHTS") == 1
    assert "full, on every weight of the base" in shell.ok("runs", "show", f"{PROJECT}/{adapter}", str(run.id), *me)
    train = ("train", f"{PROJECT}/{adapter}", "--dataset", DATASET, "--method", "full", *me)
    forecast = shell.json(*train, "--check", "--checkpoint-every", "5")
    assert [one["code"] for one in forecast["findings"]] == ["preflight_no_licence", "preflight_near_leakage", "preflight_large_snapshots"]
    assert forecast["estimate"]["trainable_parameters"] == forecast["estimate"]["parameters"]
    assert forecast["estimate"]["workload"]["method"] == "full"
    for wrong in (("--rank", "16"), ("--alpha", "4"), ("--target-module", "q_proj"), ("--dropout", "0.1"), ("--quantisation", "nf4")):
        done = shell.run(*train, *wrong, "--check")
        assert done.returncode == 2
        assert "Full fine-tuning" in done.stdout + done.stderr or "full fine-tuning" in done.stdout + done.stderr
    job = ground.platform.as_("contributor").jobs.get(run.job_id)
    assert job.state is JobState.SUCCEEDED
