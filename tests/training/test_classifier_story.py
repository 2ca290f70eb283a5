"""A classifier on a running platform: an encoder is registered, a classifier is trained, evaluated, released and pulled; what writes texts refuses it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from ringi.adapters.schemas import VersionOut
from ringi.cli.contexts import Profile, save_profile
from ringi.evaluation.verdict import Verdict
from ringi.jobs.contracts.datasets import Recipe
from ringi.jobs.contracts.methods import TrainingTask
from ringi.jobs.contracts.training import Gravity
from ringi.measurements.schemas import RequestSweep
from ringi.suites.schemas import AddSuiteVersion
from ringi.training.schemas import RunOut, TrainingPlan
from support.hub_client import HubClient
from support.refusals import refused
from support.running_platform import PROJECT, Platform, Processes, new_organization
from support.shell import Shell
from support.story import approved, evaluated, published, registered_base, trained
from support.tiny_classes import LABELS, make_text_label_file, make_tiny_encoder
from training.test_classes import Client

ADAPTER, BASE, DATASET, CHANNEL = "desk", "minibert", "tickets", "production"
PLAN = TrainingPlan(
    task=TrainingTask.SEQUENCE_CLASSIFICATION, max_steps=40, batch_size=8, learning_rate=0.01, max_length=64, early_stopping_patience=9,
    evaluate_every=20,
)  # fmt: skip


@dataclass(frozen=True)
class Desk:
    """An organisation with an encoder, labelled rows, and a classifier trained on them."""

    platform: Platform
    base: Path
    run: RunOut

    @property
    def version(self) -> VersionOut:
        """What the run sealed."""
        return self.platform.as_("contributor").adapters.version(PROJECT, ADAPTER, "v1")


@pytest.fixture(scope="module")
def desk(shared_platform: Processes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    base = make_tiny_encoder("bert", folder / "base")
    with new_organization(shared_platform) as platform:
        registered_base(platform, base, name=BASE)
        contributor = platform.as_("contributor")
        contributor.datasets.create(PROJECT, DATASET)
        # Rows of a few templates are all near each other.
        added = contributor.datasets.add_version(
            PROJECT, DATASET, make_text_label_file(folder / "tickets.jsonl", 700), recipe=Recipe(near_duplicates="ignore")
        )
        platform.succeeded(added.job_id)
        contributor.adapters.create(PROJECT, ADAPTER, base=BASE)
        yield Desk(platform, base, trained(platform, ADAPTER, plan=PLAN, dataset=DATASET))


def test_an_encoder_is_registered_like_any_base_and_its_classifier_is_sealed_with_its_labels(desk: Desk) -> None:
    revision = desk.platform.as_("viewer").bases.revision(BASE, "r1")
    assert revision.facts is not None
    assert (revision.facts.model_type, revision.facts.hidden_size, revision.facts.layers) == ("bert", 64, 2)
    assert (revision.fingerprint.F1 or "").startswith("blake3:")
    assert (revision.fingerprint.F2 or "").startswith("blake3:")
    assert desk.version.facts.labels == LABELS
    assert {file.path for file in desk.version.files} == {"adapter_config.json", "adapter_model.safetensors", "labels.json"}
    assert desk.run.spec.task is TrainingTask.SEQUENCE_CLASSIFICATION
    assert not any("label" in one.code for one in desk.run.preflight)
    assert desk.run.metrics is not None
    assert desk.run.metrics.validation_accuracy is not None
    assert desk.run.metrics.validation_accuracy > 0.75
    record = desk.platform.as_("viewer").training.provenance(PROJECT, ADAPTER, desk.run.id)
    assert record.recipe["task"] == "sequence-classification"
    assert record.spent.flops is not None


def test_a_dry_run_counts_the_head_and_a_language_model_on_an_encoder_is_refused_before_a_worker(desk: Desk) -> None:
    training = desk.platform.as_("contributor").training
    found = training.check(PROJECT, ADAPTER, dataset=DATASET, plan=PLAN)
    assert not found.refused
    assert found.estimate is not None
    assert found.estimate.workload.classes == 3
    assert found.estimate.workload.label_tokens_per_row == 1
    lora = sum(
        tensor.shape[0] * tensor.shape[1] for tensor in desk.version.facts.tensors if ".encoder." in tensor.name
    )  # fmt: skip
    assert found.estimate.trainable_parameters == lora + 3 * 64 + 3
    refusing = [one.code for one in training.check(PROJECT, ADAPTER, dataset=DATASET, plan=TrainingPlan(max_length=64)).findings
                if one.gravity is Gravity.REFUSE]  # fmt: skip
    assert refusing == ["preflight_base_is_encoder"]
    with refused("training_preflight_refused", 409) as refusal:
        training.start(PROJECT, ADAPTER, dataset=DATASET, plan=TrainingPlan(max_length=64))
    assert "--task sequence-classification" in refusal.next_step


def test_the_commands_ask_for_a_classifier_and_show_its_classes(desk: Desk, tmp_path: Path) -> None:
    desk.platform.as_("contributor")
    shell = Shell(tmp_path, desk.platform.server)
    profile = Profile(server=desk.platform.server, token=desk.platform.tokens["contributor"])
    save_profile(tmp_path / "config.json", "contributor", profile, replace=False)
    asked = ("train", f"{PROJECT}/{ADAPTER}", "--dataset", DATASET, "--max-length", "64", "--profile", "contributor", "--check")
    assert "preflight_no_licence" in shell.ok(*asked, "--task", "sequence-classification")
    done = shell.run(*asked)
    assert (done.returncode, "preflight_base_is_encoder" in done.stdout) == (1, True)
    assert "3: 0 解約, 1 返金, 2 配送" in shell.ok("adapters", "show", f"{PROJECT}/{ADAPTER}:v1", "--profile", "contributor")
    shown = shell.ok("runs", "show", f"{PROJECT}/{ADAPTER}", str(desk.run.id), "--profile", "contributor")
    assert "a classifier, lora, rank 16" in shown
    assert "of the rows right" in shown


def test_a_classifier_goes_on_and_does_not_become_a_language_model_or_a_stack(desk: Desk) -> None:
    training = desk.platform.as_("contributor").training
    found = training.check(PROJECT, ADAPTER, dataset=DATASET, plan=TrainingPlan(max_length=64), start_from="v1")
    assert not found.refused, "without a word of its own a plan has the version's task"
    with refused("training_warm_start_not_stackable", 400):
        training.check(PROJECT, ADAPTER, dataset=DATASET, plan=PLAN, start_from="v1", stacked=True)


def test_no_suite_asks_it_for_texts(desk: Desk) -> None:
    contributor, name = desk.platform.as_("contributor"), f"s{uuid4().hex[:8]}"
    contributor.suites.create(PROJECT, name, description="分類できるか")
    task = {"name": "faq", "answering": "exact", "scorers": ["exact"], "max_length": 64, "dataset": {"version": DATASET}}
    contributor.suites.add_version(PROJECT, name, AddSuiteVersion.model_validate({"off_task": False, "tasks": [task]}))
    before = len(list(contributor.jobs.all()))
    with refused("adapter_version_classifies", 409):
        contributor.sweeps.request(PROJECT, RequestSweep.model_validate({"suite": f"{name}:v1", "versions": [f"{ADAPTER}:v1"]}))
    assert len(list(contributor.jobs.all())) == before


def test_it_is_evaluated_approved_released_and_read_by_a_real_client(desk: Desk, tmp_path: Path) -> None:
    summary = evaluated(desk.platform, "v1", ADAPTER, dataset=DATASET, max_length=64).summary
    assert summary is not None
    assert (summary.scored, summary.unscored) == (summary.n, 0)
    assert summary.candidate_match_rate is not None
    assert summary.baseline_match_rate is not None
    assert summary.candidate_match_rate > summary.baseline_match_rate + 0.2
    assert summary.verdict in {Verdict.BETTER, Verdict.INSUFFICIENT}
    desk.platform.as_("deployer").releases.create_channel(PROJECT, CHANNEL, environment="production")
    approved(desk.platform, "v1", ADAPTER)
    published(desk.platform, "v1", ADAPTER, channel=CHANNEL)
    hub = HubClient(tmp_path / "home", f"{desk.platform.server}/hf/{CHANNEL}", desk.platform.tokens["viewer"])
    pulled = hub.call(f"snapshot_download('{PROJECT}/{ADAPTER}')")
    assert pulled.error is None, pulled.message
    said = json.loads((Path(pulled.value) / "labels.json").read_bytes())
    assert said["id2label"] == {str(place): name for place, name in enumerate(LABELS)}
    assert Client(desk.base, Path(pulled.value)).names == dict(enumerate(LABELS))
