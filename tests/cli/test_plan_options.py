"""What a training plan's options are refused with names them as they are written."""

from typing import Any

import pytest
import typer

from ringi.cli.commands import training
from ringi.cli.plan_options import BadPlan, by_module, checked_plan
from ringi.training.schemas import TrainingPlan


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"target_modules": ["q proj"]}, "--target-module"),
        ({"rank_pattern": by_module(["q_proj=0"])}, "--rank-of q_proj"),
        ({"alpha_pattern": by_module(["q_proj=八"])}, "--alpha-of q_proj"),
        ({"max_grad_norm": 0.0}, "--max-grad-norm"),
        ({"init": "pissa", "method": "ia3"}, "options"),
    ],
)
def test_a_refused_value_names_its_option(given: dict[str, object], where: str) -> None:
    with pytest.raises(BadPlan) as refused:
        checked_plan(**given)
    assert [one["where"] for one in refused.value.details["reasons"]] == [where]


def test_what_is_not_named_is_left_to_the_platform() -> None:
    assert checked_plan(rank=8, method=None, task=None).model_fields_set == {"rank"}


def test_the_bounds_that_help_shows_are_the_plans() -> None:
    """Of every option of `ringi train` with a range: its ends are taken, what lies beyond is not."""
    command = typer.main.get_command(training.verbs)
    shown: dict[str, Any] = {str(one.name): one for one in command.params if getattr(one, "min", None) is not None}
    bounds = {name: (one.min, one.max) for name, one in shown.items() if name in TrainingPlan.model_fields}
    assert {"rank", "seed", "max_steps", "max_length", "weight_decay", "checkpoint_every"} <= bounds.keys()
    for name, (least, most) in bounds.items():
        for end, beyond in ((least, least - 1), (most, most + 1)):
            assert getattr(checked_plan(**{name: end}), name) == end
            with pytest.raises(BadPlan):
                checked_plan(**{name: beyond})
