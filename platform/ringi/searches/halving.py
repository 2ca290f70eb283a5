"""Which trials go on, and which one is recommended. Pure: the same losses give the same decisions.

Successive halving: Karnin, Koren & Somekh 2013, "Almost Optimal Exploration in Multi-Armed Bandits"; for hyperparameters Jamieson & Talwalkar
2016, arXiv:1502.07943. Every trial follows the plan of a whole run, so one that goes on is that run, and one that is stopped is its beginning.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

# So many are trained to the end where there are so many: with one alone nothing would be compared at the full length.
FINALISTS = 2


class Trial(NamedTuple):
    """One trial as it stands. `losses`: validation loss by step. One that failed is `out`."""

    id: UUID
    place: int
    rank: int
    learning_rate: float
    losses: Mapping[int, float]
    out: bool


class Turn(NamedTuple):
    """What to do next: train this trial up to and with `step`."""

    trial_id: UUID
    step: int


class Standing(NamedTuple):
    """Where a search is: the next turn, None at its end; who was stopped after which step; who is trained to the end."""

    turn: Turn | None
    stopped: Mapping[UUID, int]
    finished: Sequence[UUID]


class Recommended(NamedTuple):
    """The trial to take, why, and what speaks for caution."""

    trial_id: UUID
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]


def ladder(steps: int, trials: int, *, reduction: int, first_steps: int, unit: int) -> tuple[int, ...]:
    """The steps after which trials are compared, the last of them `steps`.

    As many comparisons as `trials` can be divided by `reduction`, the first no earlier than `first_steps`. All but the last are multiples of
    `unit`, the steps between checkpoints, where that leaves any.
    """
    rounds = 0
    while reduction ** (rounds + 1) <= trials and steps // reduction ** (rounds + 1) >= first_steps:
        rounds += 1
    first = steps // reduction**rounds
    first = first // unit * unit if rounds and first >= unit else first
    return (*(first * reduction**rung for rung in range(rounds)), steps)


def standing(trials: Sequence[Trial], steps: Sequence[int], *, reduction: int) -> Standing:
    """Compare as far as all trials of a round have come. At each comparison the best one of `reduction` go on, at least `FINALISTS`.

    Equal losses go to the smaller rank, then to the trial that stands first.
    """
    alive = [one for one in trials if not one.out]
    stopped: dict[UUID, int] = {}
    for step in steps:
        behind = next((one for one in alive if step not in one.losses), None)
        if behind is not None:
            return Standing(Turn(behind.id, step), stopped, ())
        if step == steps[-1]:
            break
        best = sorted(alive, key=lambda one: (one.losses[step], one.rank, one.place))
        kept = max(-(-len(alive) // reduction), FINALISTS)
        stopped |= {one.id: step for one in best[kept:]}
        alive = [one for one in alive if one.id not in stopped]
    return Standing(None, stopped, [one.id for one in alive])


def recommend(trials: Sequence[Trial], steps: Sequence[int], *, reduction: int, tie: float) -> Recommended | None:
    """Of the trials that were trained to the end: the smallest rank whose loss is at most `tie` (a share) above the best one.

    Among equal ranks the lower loss. None before the end, and where every trial failed.
    """
    found = standing(trials, steps, reduction=reduction)
    end = steps[-1]
    ended = [one for one in trials if one.id in set(found.finished)]
    if found.turn is not None or not ended:
        return None
    best = min(ended, key=lambda one: (one.losses[end], one.rank, one.place))
    equal = [one for one in ended if one.losses[end] <= best.losses[end] * (1 + tie)]
    chosen = min(equal, key=lambda one: (one.rank, one.losses[end], one.place))
    return Recommended(chosen.id, _reasons(chosen, best, ended, found, end, tie), _cautions(chosen, trials, ended))


def named(trial: Trial) -> str:
    """A trial in words."""
    return f"rank {trial.rank} at learning rate {trial.learning_rate:g}"


def _reasons(chosen: Trial, best: Trial, ended: Sequence[Trial], found: Standing, end: int, tie: float) -> tuple[str, ...]:
    against = f"of the {len(ended)} trials that were trained to the end" if len(ended) > 1 else "and is alone at the end"
    reasons = [f"{named(best)} has the lowest validation loss {against}: {best.losses[end]:.4f} after {end} steps."]
    if chosen.id != best.id:
        reasons.append(
            f"{named(chosen)} has {chosen.losses[end]:.4f}, no more than {tie:.2%} above it, which counts as equal; the smaller rank is taken."
        )
    reasons += [f"{named(one)} has {one.losses[end]:.4f}." for one in ended if one.id not in {chosen.id, best.id}]
    for step in sorted(set(found.stopped.values())):
        count = sum(1 for when in found.stopped.values() if when == step)
        reasons.append(f"{count} {'trial was' if count == 1 else 'trials were'} stopped after {step} steps, behind those that went on.")
    return tuple(reasons)


def _cautions(chosen: Trial, trials: Sequence[Trial], ended: Sequence[Trial]) -> tuple[str, ...]:
    cautions = [
        f"The {name} is at the end of what was asked for ({value:g}): a {side} one may be better still."
        for name, value, all_values in (
            ("rank", chosen.rank, {one.rank for one in trials}),
            ("learning rate", chosen.learning_rate, {one.learning_rate for one in trials}),
        )
        # The smallest rank is what one hopes for, so it is no reason to look further.
        for side, edge in (("larger", max(all_values)), *((("smaller", min(all_values)),) if name == "learning rate" else ()))
        if len(all_values) > 1 and value == edge
    ]
    failed = sum(one.out for one in trials)
    if failed:
        cautions.append(f"{failed} of {len(trials)} trials failed and were compared with nothing.")
    if len(ended) == 1:
        cautions.append("Only one trial was trained to the end, so nothing was compared there.")
    return (*cautions, "Every trial has the same seed: differences as small as those between seeds say nothing.")
