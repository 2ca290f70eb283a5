"""What an adapter must show before it is sealed: a numbered list of pure checks, each with a code. Facts come from the worker.

1. every tensor of the file belongs to a module of the base      adapter_tensors_unmatched
2. every adapted module has its tensors in the file              adapter_tensors_unfilled
3. no tensor holds NaN or infinity                               adapter_not_finite
4. the effect was measured                                       adapter_effect_not_measured
5. the effect exceeds ten times the noise of the base itself     adapter_no_effect
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ringi.jobs.contracts.adapters import AdapterFacts, EffectFacts
from ringi.kit.errors import InvalidInput

# How many times the base's own numerical noise (other batch shapes, same input) an adapter's change of the logits must be.
EFFECT_OVER_NOISE = 10.0
_SHOWN = 5


@dataclass(frozen=True)
class Refusal:
    """One reason under a stable code."""

    code: str
    message: str


class AdapterRefused(InvalidInput):
    """The adapter failed admission; nothing was sealed."""

    code = "adapter_refused"

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        reasons: list[dict[str, Any]] = [{"code": refusal.code, "message": refusal.message} for refusal in refusals]
        super().__init__(
            "The adapter was refused: " + " ".join(refusal.message for refusal in refusals),
            next_step="Mend the adapter and register it again; nothing was sealed.",
            details={"reasons": reasons},
        )


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def unmatched(facts: AdapterFacts, _: EffectFacts) -> Refusal | None:
    """1."""
    if not facts.unmatched_tensors:
        return None
    count = len(facts.unmatched_tensors)
    return Refusal("adapter_tensors_unmatched", f"{count} tensors belong to no module of the base: {_some(facts.unmatched_tensors)}.")


def unfilled(facts: AdapterFacts, _: EffectFacts) -> Refusal | None:
    """2."""
    if not facts.unfilled_tensors:
        return None
    count = len(facts.unfilled_tensors)
    return Refusal(
        "adapter_tensors_unfilled", f"{count} tensors that the config promises are not in the file: {_some(facts.unfilled_tensors)}."
    )


def not_finite(facts: AdapterFacts, _: EffectFacts) -> Refusal | None:
    """3."""
    if not facts.non_finite_tensors:
        return None
    return Refusal(
        "adapter_not_finite", f"{len(facts.non_finite_tensors)} tensors hold NaN or infinity: {_some(facts.non_finite_tensors)}."
    )


def effect_unmeasured(_: AdapterFacts, effect: EffectFacts) -> Refusal | None:
    """4."""
    if effect.change is not None and effect.noise is not None and effect.prompts > 0:
        return None
    return Refusal("adapter_effect_not_measured", "The effect on the probe prompts could not be measured.")


def without_effect(_: AdapterFacts, effect: EffectFacts) -> Refusal | None:
    """5. A silent adapter: it would load, serve and do nothing."""
    if effect.change is None or effect.noise is None:
        return None
    if effect.change > EFFECT_OVER_NOISE * effect.noise and effect.change > 0:
        return None
    return Refusal(
        "adapter_no_effect",
        f"It changes the logits by at most {effect.change:.3g} on {effect.prompts} probe prompts; needed is more than "
        f"{EFFECT_OVER_NOISE:g} times the base's own noise of {effect.noise:.3g}.",
    )


CHECKS: tuple[Callable[[AdapterFacts, EffectFacts], Refusal | None], ...] = (
    unmatched,
    unfilled,
    not_finite,
    effect_unmeasured,
    without_effect,
)


def refusals(facts: AdapterFacts, effect: EffectFacts) -> list[Refusal]:
    """Every reason why this adapter may not be sealed; empty means admitted."""
    return [refusal for check in CHECKS if (refusal := check(facts, effect)) is not None]
