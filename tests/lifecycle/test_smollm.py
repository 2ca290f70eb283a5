"""The core of the story with the real SmolLM2-135M and real text: train, evaluate, approve, release, pull."""

import json
from pathlib import Path

import pytest

from ringi.evaluation.verdict import Verdict
from ringi.training.schemas import TrainingPlan
from support.real_base import chat_corpus, smollm
from support.running_platform import PROJECT, Platform
from support.story import approved, evaluated, published, registered_base, sealed_dataset, trained

pytestmark = pytest.mark.long

# Short rows and few steps: enough to show an effect, on two cores in a minute.
PLAN = TrainingPlan(rank=8, max_steps=12, batch_size=8, max_length=64, learning_rate=1e-3, checkpoint_every=50)


@pytest.fixture(scope="module")
def model() -> Path:
    return smollm()


@pytest.fixture(scope="module")
def corpus() -> Path:
    return chat_corpus()


@pytest.fixture
def rows(corpus: Path, tmp_path: Path) -> Path:
    """The English pairs with short answers."""
    found = (json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines())
    short = [row for row in found if row["language"] == "en" and len(row["prompt"]) < 80 and len(row["completion"]) < 80]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in short), encoding="utf-8")
    return path


@pytest.mark.smollm
@pytest.mark.proof
@pytest.mark.timeout(600)
def test_smollm_learns_to_chat_and_is_released(platform: Platform, model: Path, rows: Path) -> None:
    revision = registered_base(platform, model, name="smollm2")
    assert revision.facts is not None
    assert revision.facts.model_type == "llama"
    assert revision.facts.parameters > 130_000_000
    dataset = sealed_dataset(platform, rows)
    assert dataset.report.validation_rows >= 30
    assert dataset.report.duplicated_pairs > 0
    contributor = platform.as_("contributor")
    contributor.adapters.create(PROJECT, "chat", base="smollm2")
    run = trained(platform, "chat", plan=PLAN)
    assert run.metrics is not None
    assert run.metrics.final_loss is not None
    version = contributor.adapters.version(PROJECT, "chat", "v1")
    assert version.effect.change is not None
    assert version.effect.noise is not None
    assert version.effect.change > 10 * version.effect.noise
    evaluation = evaluated(platform, "v1", "chat", max_new_tokens=2, max_length=64)
    summary = evaluation.summary
    assert summary is not None
    assert summary.scored == summary.n >= summary.minimum_items
    assert summary.verdict is Verdict.BETTER, summary
    assert summary.improvement_interval is not None
    assert summary.improvement_interval.low > 0
    platform.as_("deployer").releases.create_channel(PROJECT, "production", environment="production")
    approved(platform, "v1", "chat")
    assert published(platform, "v1", "chat").sequence == 1
