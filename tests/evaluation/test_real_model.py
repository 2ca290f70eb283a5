"""Trees of choices and a sweep on the real SmolLM2-135M, in float32 and in bf16."""

from pathlib import Path

import pytest
import torch

from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.suites import Answering, Item, ScorerSpec, Task
from ringi_workers.evaluation.branches import Way
from ringi_workers.evaluation.rendering import prepare
from ringi_workers.evaluation.swapping import SwappableBase
from ringi_workers.evaluation.sweep import Measured, sweep
from support.real_base import smollm

pytestmark = [pytest.mark.smollm, pytest.mark.timeout(300)]

CHOICES = ("card arrival", "card not working", "cash withdrawal charge", "change pin", "exchange rate", "カードの紛失")
ITEMS = [
    Item(id="arrival", prompt="Customer: I still have not received my new card.\nIntent:", answer=0),
    Item(id="pin", prompt="Customer: How do I change my PIN at a machine?\nIntent:", answer=3),
    Item(id="rate", prompt="Customer: What rate do you use?\nIntent:", answer=4),
    Item(id="lost", prompt="お客様: カードをなくしました。\nIntent:", answer=5),
]


class Quiet:
    def report(self, progress: Progress) -> None:
        pass

    def should_stop(self) -> bool:
        return False


@pytest.fixture(scope="module")
def folder() -> Path:
    return smollm()


def _task() -> Task:
    return Task(
        name="intents", answering=Answering.CHOICE, items="sha256:" + "0" * 64, count=4, render="raw", delimiter=" ", choices=CHOICES,
        scorers=(ScorerSpec(name="accuracy"),),
    )  # fmt: skip


def _measured(base: SwappableBase, batch_size: int) -> Measured:
    (result,) = sweep(base, {"base": None}, [(_task(), ITEMS)], sink=Quiet(), batch_size=batch_size)
    assert isinstance(result, Measured)
    return result


def test_choices_of_a_real_model_equal_one_text_at_a_time_for_any_batch_size(folder: Path) -> None:
    base = SwappableBase(folder, dtype=torch.float32)
    assert base.reach.way is Way.TREE
    expected = []
    for one in prepare(base.tokenizer, _task(), ITEMS, context=base.context).items:
        sums = []
        for branch in one.branches:
            with base.arm(None) as model, torch.inference_mode():
                ids = torch.tensor([[*one.prompt, *branch]])
                logprobs = model(input_ids=ids).logits.log_softmax(dim=-1)[0, len(one.prompt) - 1 : -1]
            sums.append(float(logprobs.gather(1, torch.tensor(branch).unsqueeze(1)).sum()))
        expected.append(sums)
    for batch_size in (1, 3, 16):
        answers = _measured(base, batch_size).answers
        for answer, sums in zip(answers, expected, strict=True):
            assert answer.logprobs == pytest.approx(sums, abs=1e-3)
            assert answer.choice == sums.index(max(sums))


def test_in_bf16_the_tree_is_read_too_and_sums_stay_near(folder: Path) -> None:
    """Rounding to eight bits depends on the batch's shape; what holds is the neighbourhood, not the digits."""
    base = SwappableBase(folder, dtype=torch.bfloat16)
    assert base.reach.way is Way.TREE
    exact = _measured(SwappableBase(folder, dtype=torch.float32), 4)
    for batch_size in (1, 4):
        result = _measured(base, batch_size)
        assert result.runtime["dtype"] == "bfloat16"
        for answer, other in zip(result.answers, exact.answers, strict=True):
            assert answer.logprobs == pytest.approx(other.logprobs, rel=0.05, abs=0.5)
