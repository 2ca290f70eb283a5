"""Many adapters judged at once: of those that are kept, only few may be wrongly kept (compatibility of a new base; Benjamini and Hochberg 1995). Pure."""

from collections.abc import Mapping

from ringi.gating import many
from ringi.gating.schemas import Decision, Reason, Tier, Together, Verdict

# The share of wrongly kept ones among the kept.
SHARE = 0.05
_DIGITS = 6


def kept_p(decision: Decision) -> float | None:
    """The p-value of "this adapter is worse than allowed somewhere": the largest among what must be shown; None where nothing must be.

    1 where it was stopped early: it stays one of those that were tried.
    """
    if any(reason.code == "stopped_early" for reason in decision.reasons):
        return 1.0
    asked = [
        part.not_worse_p
        for task in decision.tasks
        for part in (task.whole, *task.slices)
        if part is not None and part.tier is Tier.CRITICAL
    ]
    if any(p is None for p in asked):
        return 1.0
    return max((p for p in asked if p is not None), default=None)


def judged_together(decisions: Mapping[str, Decision], *, share: float = SHARE, dependent: bool = False) -> dict[str, Decision]:
    """The decisions, each saying among how many; a GO that does not survive their number is INCONCLUSIVE. No other verdict changes.

    `dependent`: for safety, where no kind of dependence may be assumed away (Benjamini and Yekutieli 2001).
    """
    p_values = {name: p for name, decision in decisions.items() if (p := kept_p(decision)) is not None}
    adjusted = dict(zip(p_values, many.false_discovery(list(p_values.values()), dependent=dependent), strict=True))
    return {
        name: _held_to(
            decision,
            Together(
                adapters=len(decisions), tested=len(p_values), q=share,
                method="benjamini-yekutieli" if dependent else "benjamini-hochberg",
                p=_round(p_values.get(name)), adjusted=_round(adjusted.get(name)),
            ),
            adjusted.get(name),
        )
        for name, decision in decisions.items()
    }  # fmt: skip


def _held_to(decision: Decision, together: Together, adjusted: float | None) -> Decision:
    decision = decision.model_copy(update={"together": together})
    if decision.verdict is not Verdict.GO or adjusted is None or adjusted <= together.q:
        return decision
    text = f"among {together.tested} adapters judged together, keeping this one would let more than {together.q:.0%} of the kept be wrong (p {adjusted:.2g})."
    task = next(
        task.task for task in decision.tasks if task.tier is Tier.CRITICAL or any(part.tier is Tier.CRITICAL for part in task.slices)
    )
    reason = Reason(code="too_many_at_once", says=Verdict.INCONCLUSIVE, task=task, text=text)
    return decision.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "reasons": (*decision.reasons, reason)})


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
