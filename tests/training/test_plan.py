import json
import math

import pytest
from pydantic import ValidationError

from ringi.cli.plan_options import by_module
from ringi.jobs.contracts.methods import Init, Method
from ringi.jobs.contracts.training import LoraSpec, Packing, Schedule, TrainPayload
from ringi.searches.schemas import RequestSearch
from ringi.training.schemas import BranchRun, TrainingPlan
from ringi.training.workload import workload_of
from ringi_workers.training.data import Example
from ringi_workers.training.plan import Plan
from support.recipes import SPEC

ROWS = tuple(Example((1, 2, 3), 1) for _ in range(80))


def rates(schedule: Schedule) -> list[float]:
    plan = Plan(SPEC.model_copy(update={"schedule": schedule, "learning_rate": 1.0, "max_steps": 20, "warmup_fraction": 0.2}), ROWS)
    return [plan.learning_rate(step) for step in range(1, 21)]


@pytest.mark.parametrize("schedule", Schedule)
def test_every_schedule_warms_up_in_a_line_to_the_whole_rate(schedule: Schedule) -> None:
    assert rates(schedule)[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_after_the_warm_up_the_rate_falls_in_a_line_along_a_cosine_or_not_at_all() -> None:
    assert rates(Schedule.LINEAR)[4:] == pytest.approx([1 - done / 16 for done in range(16)])
    assert rates(Schedule.COSINE)[4:] == pytest.approx([(1 + math.cos(math.pi * done / 16)) / 2 for done in range(16)])
    assert rates(Schedule.CONSTANT)[4:] == [1.0] * 16


def test_the_batches_after_a_step_are_those_of_the_whole_run_and_end_with_it() -> None:
    plan = Plan(SPEC.model_copy(update={"epochs": 1000, "max_steps": 23}), ROWS)
    whole = list(plan.batches(after=0))
    assert [step for step, _ in whole] == list(range(1, 24))
    assert list(plan.batches(after=11)) == whole[11:]


def test_a_payload_from_before_packing_is_the_run_that_it_was() -> None:
    old = json.loads(SPEC.model_dump_json(exclude_defaults=True))
    assert old.keys().isdisjoint({"packing", "schedule", "micro_batch_size", "early_stopping_patience"})
    spec = LoraSpec.model_validate(old)
    assert (spec.packing, spec.schedule, spec.micro_batch_size, spec.gradient_checkpointing) == (Packing.OFF, Schedule.LINEAR, None, False)
    assert (spec.method, spec.init, spec.lora_plus_ratio, spec.rank_pattern) == (Method.LORA, Init.ZERO, None, {})
    assert not TrainPayload.model_fields["validation"].is_required()


def test_a_new_plan_packs_where_the_base_can() -> None:
    assert TrainingPlan().resolved().packing is Packing.AUTO


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ({"method": "ia3", "init": "pissa"}, "one of plain LoRA"),
        ({"method": "vera", "use_rslora": True}, "rank-stabilised"),
        ({"method": "adalora", "lora_plus_ratio": 16}, "LoRA\\+"),
        ({"method": "ia3", "rank_pattern": {"q_proj": 4}}, "by module"),
        ({"method": "ia3", "dropout": 0.1}, "no dropout"),
        ({"init": "olora", "rank": 300}, "sealed as rank 600"),
        ({"init": "pissa", "rank_pattern": {"q_proj": 257}}, "sealed as rank 514"),
        ({"method": "dora", "quantisation": "nf4"}, "lengths of the rounded weights"),
        ({"method": "ia3", "quantisation": "nf4"}, "keep the base's precision"),
        ({"init": "pissa", "quantisation": "int8"}, "choose one of the two"),
        ({"target_modules": ["all-linear", "q_proj"]}, "stands for all"),
        ({"method": "full", "rank": 16}, "has no rank"),
        ({"method": "full", "alpha": 32}, "has no alpha"),
        ({"method": "full", "target_modules": ["q_proj"]}, "has no target_modules"),
        ({"method": "full", "dropout": 0.1}, "one of adapters"),
        ({"method": "full", "quantisation": "nf4"}, "cannot be trained"),
        ({"method": "full", "init": "pissa"}, "one of plain LoRA"),
        ({"method": "full", "rank_pattern": {"q_proj": 4}}, "by module"),
    ],
)
def test_what_cannot_be_one_run_is_told_before_there_is_one(plan: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TrainingPlan.model_validate(plan)


def test_full_fine_tuning_records_no_rank_that_nobody_used_and_an_adapter_has_its_own() -> None:
    spec = TrainingPlan(method=Method.FULL).resolved()
    assert (spec.rank, spec.alpha, spec.target_modules) == (None, None, ())
    assert LoraSpec.model_validate_json(spec.model_dump_json()) == spec
    assert (TrainingPlan().resolved().rank, TrainingPlan().resolved().alpha) == (16, 32.0)
    document = TrainingPlan().resolved().model_dump()
    for wrong in ({"rank": None}, {"alpha": None}, {"target_modules": ()}, {"method": "full"}):
        with pytest.raises(ValidationError, match="an adapter has a rank"):
            LoraSpec.model_validate(document | wrong)
    with pytest.raises(ValidationError, match="no rank to search for"):
        RequestSearch.model_validate({"adapter": "a", "dataset": "d", "ranks": [4, 8], "learning_rates": [0.1], "plan": {"method": "full"}})


def test_steps_beyond_what_json_holds_are_refused_before_a_worker_is_taken() -> None:
    for name in ("max_steps", "checkpoint_every", "evaluate_every"):
        for schema in (TrainingPlan, BranchRun):
            with pytest.raises(ValidationError, match=name):
                schema.model_validate({name: 2**53})


def test_a_rate_that_is_not_given_is_what_is_usual_for_the_method() -> None:
    rates = {"lora": 2e-4, "dora": 2e-4, "adalora": 2e-4, "ia3": 3e-3, "vera": 4e-3, "full": 2e-5}
    assert {method: TrainingPlan.model_validate({"method": method}).resolved().learning_rate for method in rates} == rates
    assert rates.keys() == {str(one) for one in Method}
    assert {TrainingPlan(method=method, learning_rate=0.5).resolved().learning_rate for method in Method} == {0.5}


def test_full_fine_tuning_is_forecast_with_every_weight_and_what_its_snapshots_hold() -> None:
    plan = TrainingPlan(method=Method.FULL, gradient_checkpointing=True, early_stopping_patience=2, checkpoint_every=7)
    work = workload_of(plan.resolved())
    assert (work.method, work.checkpointing, work.keeps_best, work.snapshot_every) == ("full", True, True, 7)


def test_memory_is_forecast_for_what_is_trained_and_not_less() -> None:
    ranks = {"lora": 16, "dora": 16, "adalora": 24, "ia3": 1, "vera": 1}
    assert {method: workload_of(TrainingPlan.model_validate({"method": method}).resolved()).rank for method in ranks} == ranks
    assert workload_of(TrainingPlan(init=Init.PISSA, rank_pattern={"q_proj": 20}).resolved()).rank == 40


def test_ranks_and_alphas_by_module_are_written_as_name_and_number() -> None:
    plan = TrainingPlan.model_validate({"rank_pattern": by_module(["q_proj=8"]), "alpha_pattern": by_module(["q_proj=2.5", "down_proj=4"])})
    assert (plan.rank_pattern, plan.alpha_pattern) == ({"q_proj": 8}, {"q_proj": 2.5, "down_proj": 4.0})
    for wrong in ("q_proj", "q_proj=", "q_proj=many", "q_proj=2.5", "q_proj=0", "=8", "q-proj=8"):
        with pytest.raises(ValidationError):
            TrainingPlan.model_validate({"rank_pattern": by_module([wrong])})
