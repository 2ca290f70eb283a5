"""What a training plan's options are refused with names them as they are written."""

import pytest

from ringi.cli.plan_options import BadPlan, by_module, checked_plan


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
