"""Many adapters judged at once: of those that are kept, only few may be wrongly kept (compatibility of a new base; Benjamini and Hochberg 1995). Pure."""

from collections.abc import Mapping

from ringi.gating import many
from ringi.gating.schemas import Decision, Reason, Tier, Verdict

# The share of wrongly kept ones among the kept.
SHARE = 0.05


def kept_p(decision: Decision) -> float | None:
    """The p-value of "this adapter is worse than allowed somewhere": the largest among what must be shown; None where nothing must be."""
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
    """The decisions, with a GO that does not survive the number of adapters turned into INCONCLUSIVE. Nothing else changes.

    `dependent`: for safety, where no kind of dependence may be assumed away (Benjamini and Yekutieli 2001).
    """
    p_values = {name: p for name, decision in decisions.items() if (p := kept_p(decision)) is not None}
    adjusted = dict(zip(p_values, many.false_discovery(list(p_values.values()), dependent=dependent), strict=True))
    return {name: _held_to(decision, adjusted.get(name), len(p_values), share) for name, decision in decisions.items()}


def _held_to(decision: Decision, adjusted: float | None, adapters: int, share: float) -> Decision:
    if decision.verdict is not Verdict.GO or adjusted is None or adjusted <= share:
        return decision
    text = f"among {adapters} adapters judged together, keeping this one would let more than {share:.0%} of the kept be wrong (p {adjusted:.2g})."
    task = next(
        task.task for task in decision.tasks if task.tier is Tier.CRITICAL or any(part.tier is Tier.CRITICAL for part in task.slices)
    )
    reason = Reason(code="too_many_at_once", says=Verdict.INCONCLUSIVE, task=task, text=text)
    return decision.model_copy(update={"verdict": Verdict.INCONCLUSIVE, "reasons": (*decision.reasons, reason)})
