"""Margins that items cannot support, and many adapters at once."""

import numpy as np
import pytest

from ringi.gating.advice import MarginUnsupported, advise, refuse_unsupported
from ringi.gating.decision import decide
from ringi.gating.schemas import Decision, Measured, Requirement, Tier, Verdict
from ringi.gating.sweeps import judged_together, kept_p


def test_fifty_items_cannot_support_five_points() -> None:
    asked = Requirement(task="faq", metric="score", margin=0.05)
    with pytest.raises(
        MarginUnsupported, match=r"50 items of task 'faq' cannot support a margin of 0.05: without a single flip they show 0.0582"
    ) as refused:
        refuse_unsupported(advise(asked, 50, {}))
    assert "at least 59 items" in refused.value.next_step
    refuse_unsupported(advise(asked, 59, {}))


def test_advice_is_about_what_must_be_shown() -> None:
    asked = Requirement(task="faq", metric="score", slices={"lang": Tier.SUPPORTING, "lang=ja": Tier.CRITICAL})
    lines = advise(asked, 1000, {"lang=ja": 30, "lang=en": 970})
    assert [(line.slice, line.supported) for line in lines] == [(None, True), ("lang=ja", False)]
    assert lines[0].needed == {"1%": 215, "2%": 429, "5%": 1071, "10%": 2141}
    assert advise(Requirement(task="faq", metric="score", tier=Tier.ADVISORY), 3, {}) == []


def of_adapter(seed: int, loss: float) -> Decision:
    draw = np.random.default_rng(seed)
    old = np.ones(400)
    new = (draw.random(400) >= loss).astype(float)
    arms = [{"faq": [Measured(item=str(n), scores={"score": s}) for n, s in enumerate(scores.tolist())]} for scores in (new, old)]
    return decide([Requirement(task="faq", metric="score", margin=0.03)], *arms)


def test_among_many_adapters_a_lucky_one_is_held_back_and_sound_ones_are_kept() -> None:
    alone = {f"sound{n}": of_adapter(n, 0.0) for n in range(10)} | {f"doubtful{n}": of_adapter(100 + n, 0.03) for n in range(150)}
    together = judged_together(alone)
    lucky = [name for name, decision in alone.items() if name.startswith("doubtful") and decision.verdict is Verdict.GO]
    assert lucky
    assert all(together[f"sound{n}"].verdict is Verdict.GO for n in range(10))
    held = [name for name in lucky if together[name].verdict is Verdict.INCONCLUSIVE]
    assert held
    assert all(together[name].reasons[-1].code == "too_many_at_once" for name in held)
    assert all(
        together[name].verdict is alone[name].verdict and together[name].reasons == alone[name].reasons
        for name in alone
        if name not in held
    )
    said = [decision.together for decision in together.values()]
    assert all(one is not None and (one.adapters, one.tested, one.q, one.method) == (160, 160, 0.05, "benjamini-hochberg") for one in said)
    assert all(one is not None and one.p is not None and one.adjusted is not None and one.p <= one.adjusted for one in said)
    assert all(together[name].together.adjusted > 0.05 for name in held)  # type: ignore[union-attr, operator]  # there, as was just seen


def test_for_safety_no_dependence_is_assumed_away() -> None:
    alone = {f"版{n}": of_adapter(n, 0.0) for n in range(4)}
    hochberg, yekutieli = (judged_together(alone, dependent=dependent) for dependent in (False, True))
    price = 1 + 1 / 2 + 1 / 3 + 1 / 4
    for name in alone:
        one, other = hochberg[name].together, yekutieli[name].together
        assert one is not None
        assert other is not None
        assert other.method == "benjamini-yekutieli"
        assert other.adjusted == pytest.approx((one.adjusted or 0) * price, rel=1e-3, abs=2e-6)


def test_what_nothing_must_be_shown_of_is_not_corrected() -> None:
    arms = [{"faq": [Measured(item=str(n), scores={"score": 1.0}) for n in range(400)]}] * 2
    remark = decide([Requirement(task="faq", metric="score", tier=Tier.SUPPORTING)], *arms)
    assert kept_p(remark) is None
    judged = judged_together({"a": remark})["a"]
    assert (judged.verdict, judged.reasons) == (remark.verdict, remark.reasons)
    assert judged.together is not None
    assert (judged.together.tested, judged.together.p) == (0, None)
    assert "together" not in remark.model_dump(mode="json"), "a decision that stands alone has the bytes that it had"
