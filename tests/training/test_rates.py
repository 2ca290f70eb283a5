"""The rate of a plan that names none follows the base, and what is recorded with the run is what it has."""

from uuid import uuid4

import pytest

from ringi.jobs.contracts.base_models import BaseFacts
from ringi.jobs.contracts.methods import Init, Method
from ringi.training.schemas import TrainingPlan
from support.running_platform import PROJECT
from support.story import BASE, Ground

LLAMA_8B = BaseFacts(
    model_type="llama", architectures=("LlamaForCausalLM",), parameters=8_030_261_248, tensors=291, weight_bytes=16_060_522_496, dtypes=("BF16",),
    hidden_size=4096, layers=32, vocab_size=128_256, tokenizer_class=None, tokenizer_vocab_size=None, chat_template=False,
)  # fmt: skip


def rate(plan: TrainingPlan, model_type: str, hidden: int | None) -> float:
    return plan.resolved(LLAMA_8B.model_copy(update={"model_type": model_type, "hidden_size": hidden})).learning_rate


@pytest.mark.parametrize(
    ("model_type", "hidden", "lora", "full"),
    [
        ("llama", 576, 0.0013, 0.00013),
        ("llama", 2048, 0.00049, 0.000049),
        ("llama", 4096, 0.00029, 0.000029),
        ("llama", 8192, 0.00017, 0.000017),
        ("qwen2", 896, 0.00053, 0.000053),
        ("qwen3", 3584, 0.00048, 0.000048),
        # The fit says nothing about a base of a test's size.
        ("llama", 64, 0.0014, 0.00014),
        ("gemma2", 2304, 0.0002, 0.00002),
        ("llama", None, 0.0002, 0.00002),
    ],
)
def test_a_wider_base_learns_at_a_smaller_rate_where_a_fit_for_its_family_is_known(
    model_type: str, hidden: int | None, lora: float, full: float
) -> None:
    for method in (Method.LORA, Method.DORA, Method.ADALORA):
        assert rate(TrainingPlan(method=method), model_type, hidden) == lora
    assert rate(TrainingPlan(method=Method.FULL), model_type, hidden) == full
    assert (rate(TrainingPlan(method=Method.IA3), model_type, hidden), rate(TrainingPlan(method=Method.VERA), model_type, hidden)) == (
        0.003,
        0.004,
    )


@pytest.mark.parametrize("plan", [TrainingPlan(init=Init.PISSA), TrainingPlan(use_rslora=True), TrainingPlan(lora_plus_ratio=16)])
def test_what_the_fit_was_not_made_of_keeps_the_usual_rate(plan: TrainingPlan) -> None:
    assert rate(plan, "llama", 4096) == 0.0002


def test_a_rate_that_is_named_stays() -> None:
    assert {rate(TrainingPlan(method=method, learning_rate=0.5), "llama", 4096) for method in Method} == {0.5}


def test_the_run_and_its_version_go_by_the_rate_of_their_base(ground: Ground) -> None:
    contributor, name = ground.platform.as_("contributor"), f"rate-{uuid4().hex[:8]}"
    contributor.adapters.create(PROJECT, name, base=BASE)
    facts = contributor.bases.revision(BASE, "latest").facts
    assert facts is not None
    assert (facts.model_type, facts.hidden_size) == ("llama", 64)
    short = TrainingPlan(max_steps=3, max_length=64)
    run = contributor.training.start(PROJECT, name, dataset="faq:v1", plan=short)
    assert run.spec.learning_rate == 0.0014
    assert ground.platform.ended(run.job_id).error is None
    # A run that goes on from it, too.
    later = contributor.training.start(PROJECT, name, dataset="faq:v1", plan=short, start_from="v1")
    assert later.spec.learning_rate == 0.0014
    ground.platform.ended(later.job_id)
