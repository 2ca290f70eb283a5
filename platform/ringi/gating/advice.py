"""Before a run: can these items support these margins? Pure.

A margin that no result could support is refused (`MarginUnsupported`); a small slice or an unlikely margin is advised about.
"""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, FiniteFloat

from ringi.gating import binary
from ringi.gating.parts import FEWEST_CLUSTERS
from ringi.gating.schemas import Requirement, Tier
from ringi.kit.errors import InvalidInput

LEVEL = 0.05
# Shares of items that differ between two measurements of what is the same: seen between quiet and lively adapters.
FLIPS = (0.01, 0.02, 0.05, 0.10)


class MarginUnsupported(InvalidInput):
    """No result of so few items could show a loss below the margin."""

    code: ClassVar[str] = "suite_margin_unsupported"


class Advice(BaseModel):
    """What one critical task or slice can support. `needed` items by the share of items that differ; `finest` margin that `items` could ever support."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    slice: str | None
    items: int
    margin: FiniteFloat
    finest: FiniteFloat
    supported: bool
    needed: Mapping[str, int]


def advise(requirement: Requirement, items: int, slices: Mapping[str, int]) -> list[Advice]:
    """One line for the task where it is critical, and one for each critical slice; `slices` counts items by `key=value`. Empty where nothing is asked."""
    if requirement.safety or requirement.tier is Tier.ADVISORY:
        return []
    asked = [(None, items, requirement.margin)] if requirement.tier is Tier.CRITICAL else []
    wanted = dict(requirement.slices)
    for name, count in sorted(slices.items()):
        if (wanted.get(name) or wanted.get(name.partition("=")[0])) is Tier.CRITICAL:
            asked.append((name, count, requirement.slice_margin))  # type: ignore[arg-type]  # names of slices beside the whole's None
    return [_line(requirement.task, name, count, margin) for name, count, margin in asked]


def _line(task: str, name: str | None, items: int, margin: float) -> Advice:
    finest = binary.finest_margin(items, LEVEL)
    within = min(margin, 1 - 1e-9)
    return Advice(
        task=task, slice=name, items=items, margin=margin, finest=round(finest, 4), supported=finest <= margin and items >= 1,
        needed={f"{share:.0%}": max(binary.items_for(within, share, LEVEL) or 0, FEWEST_CLUSTERS) for share in FLIPS},
    )  # fmt: skip


def refuse_unsupported(lines: list[Advice]) -> None:
    """Raises MarginUnsupported, for the first line and with all of them in its details."""
    unsupported = [line for line in lines if not line.supported]
    if unsupported:
        first = unsupported[0]
        where = f"slice {first.slice} of task '{first.task}'" if first.slice else f"task '{first.task}'"
        raise MarginUnsupported(
            f"{first.items} items of {where} cannot support a margin of {first.margin:g}: without a single flip they show {first.finest:g} at best.",
            next_step=f"Use at least {binary.fewest_for(min(first.margin, 1 - 1e-9), LEVEL)} items, a wider margin, or the tier 'supporting'.",
            details={"unsupported": [line.model_dump(mode="json") for line in unsupported]},
        )
