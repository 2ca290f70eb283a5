"""A classifier asked for classes: paired with another one or with the shares of the labels, and judged by the same verdict as any version."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from ringi.evaluation.verdict import Verdict, judge
from ringi.jobs.contracts.evaluation import ItemRecord
from ringi.jobs.contracts.methods import TrainingTask
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.suites import Answering, Item, ScorerSpec, Task
from ringi_workers.evaluation.classify import ClassArm, classifies, evaluate_classes, load_class_arm
from ringi_workers.evaluation.generate import EvaluationStopped
from ringi_workers.evaluation.swapping import SwappableBase
from ringi_workers.evaluation.sweep import NotMeasured, sweep
from support.recipes import SPEC, run
from support.refusals import refused
from support.tiny_classes import class_rows, make_class_base, make_class_rows, write_rows

LEARNT = SPEC.model_copy(
    update={
        "task": TrainingTask.SEQUENCE_CLASSIFICATION,
        "target_modules": ("all-linear",),
        "learning_rate": 1e-2,
        "max_steps": 30,
        "dropout": 0.0,
    }
)


class Quiet:
    """A real sink, which stops the work once it was told so often."""

    def __init__(self, most: int = 1000) -> None:
        self.told: list[Progress] = []
        self.most = most

    def report(self, progress: Progress) -> None:
        self.told.append(progress)

    def should_stop(self) -> bool:
        return len(self.told) >= self.most


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_class_base("bert", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    return run(base, make_class_rows(folder / "rows.jsonl", 160), folder / "out", spec=LEARNT).directory


@pytest.fixture(scope="module")
def arm(base: Path, adapter: Path) -> ClassArm:
    return load_class_arm(base, adapter)


def records(arm: ClassArm, other: ClassArm | None, rows: Path, *, batch_size: int = 16, sink: Quiet | None = None) -> list[ItemRecord]:
    return list(evaluate_classes(arm, other, rows, max_length=64, batch_size=batch_size, sink=sink or Quiet()))


def test_a_classifier_that_has_learnt_is_better_than_the_shares_of_the_labels(arm: ClassArm, tmp_path: Path) -> None:
    rows = make_class_rows(tmp_path / "unseen.jsonl", 120, seed=9)
    found = records(arm, None, rows)
    wanted = [json.loads(line)["completion"] for line in rows.read_text(encoding="utf-8").splitlines()]
    assert [one.reference for one in found] == wanted
    counts = Counter(wanted)
    assert [one.baseline.nll for one in found] == pytest.approx([-math.log(counts[label] / 120) for label in wanted])
    assert {one.baseline.output for one in found} == {counts.most_common(1)[0][0]}
    assert all(one.candidate.match == (one.candidate.output == one.reference) for one in found)
    summary = judge(found)
    assert (summary.verdict, summary.scored) == (Verdict.BETTER, 120)
    assert summary.candidate_match_rate is not None
    assert summary.candidate_match_rate > 0.9


def test_answers_are_the_same_for_any_batch_and_two_equal_arms_differ_in_nothing(arm: ClassArm, tmp_path: Path) -> None:
    rows = make_class_rows(tmp_path / "unseen.jsonl", 20, seed=9)
    whole, single = records(arm, arm, rows, batch_size=20), records(arm, arm, rows, batch_size=1)
    assert [one.candidate.output for one in whole] == [one.candidate.output for one in single]
    assert [one.candidate.nll for one in whole] == pytest.approx([one.candidate.nll for one in single], abs=1e-4)
    assert all(one.candidate == one.baseline for one in whole)


def test_a_label_that_no_class_stands_for_is_a_wrong_answer_without_a_likelihood(arm: ClassArm, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [*class_rows(4, seed=3), {"prompt": "対応が遅い", "completion": "苦情"}])
    *_, last = records(arm, None, rows)
    assert (last.candidate.nll, last.baseline.nll) == (None, None)
    assert (last.candidate.match, last.candidate.output in arm.labels.names) == (False, True)


def test_a_document_asks_for_no_label(arm: ClassArm, tmp_path: Path) -> None:
    (only,) = records(arm, None, write_rows(tmp_path / "rows.jsonl", [{"text": "第一条"}]))
    assert (only.candidate.nll, only.candidate.match, only.baseline.match) == (None, None, None)


def test_a_stop_is_honoured_between_batches(arm: ClassArm, tmp_path: Path) -> None:
    rows = make_class_rows(tmp_path / "rows.jsonl", 20)
    with pytest.raises(EvaluationStopped, match="of 20 items"):
        records(arm, None, rows, batch_size=4, sink=Quiet(most=2))


def test_a_suite_does_not_ask_a_classifier_for_texts(adapter: Path, tmp_path: Path) -> None:
    assert classifies(adapter)
    assert not classifies(tmp_path)
    writing = SwappableBase(make_class_base("llama", tmp_path / "llama"), dtype=torch.float32)
    with refused("adapter_version_classifies", 409), writing.arm(adapter):
        pytest.fail("its matrices were put on a language model")
    items = [Item(id="i1", prompt="荷物が届きません。", references=("配送",))]
    task = Task(
        name="say", answering=Answering.EXACT, scorers=(ScorerSpec(name="nll"),), items=f"sha256:{'0' * 64}", count=1, max_length=64
    )
    (only,) = sweep(writing, {"desk": adapter}, [(task, items)], sink=Quiet())
    assert isinstance(only, NotMeasured)
    assert only.code == "adapter_version_classifies"
