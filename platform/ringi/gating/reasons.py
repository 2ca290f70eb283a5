"""The sentences of a decision, each under a stable code. Pure. What an advisory task says is a remark, and leads to GO."""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from ringi.gating.parts import Part
from ringi.gating.schemas import Reason, Requirement, Tier, Verdict

# So many item ids are named; the rest is counted.
_NAMED = 50


def _says(tier: Tier, verdict: Verdict) -> Verdict:
    return Verdict.GO if tier is Tier.ADVISORY else verdict


def _of(requirement: Requirement, code: str, verdict: Verdict, text: str, items: Sequence[str] = ()) -> Reason:
    return Reason(code=code, says=_says(requirement.tier, verdict), task=requirement.task, text=text, items=tuple(items[:_NAMED]))


def _of_part(part: Part, code: str, verdict: Verdict, text: str, needed: int | None = None) -> Reason:
    return Reason(
        code=code,
        says=_says(part.tier, verdict),
        task=part.requirement.task,
        slice=part.slice,
        text=f"{_name(part)}: {text}",
        needed=needed,
    )


def _name(part: Part) -> str:
    where = f"slice {part.slice} of task '{part.requirement.task}'" if part.slice else f"task '{part.requirement.task}'"
    return f"{where} ({part.requirement.metric})"


def _change(part: Part) -> str:
    interval = part.interval
    bounds = f", interval {interval[0]:+.4g} to {interval[1]:+.4g}" if interval else ""
    return f"{float(part.pairs.baseline.mean()):.4g} before, {float(part.pairs.candidate.mean()):.4g} now ({-part.loss:+.4g}{bounds}; {part.n} items)"


def missing(requirement: Requirement, arm: str) -> Reason:
    """An arm has no such task."""
    return _of(requirement, f"missing_in_{arm}", Verdict.NO_GO, f"task '{requirement.task}' was not measured in the {arm}.")


def not_scored(requirement: Requirement, items: int) -> Reason:
    """The task ran, and no item has a score in both arms."""
    text = f"task '{requirement.task}' ({requirement.metric}): none of {items} items has a score in both arms; that is not 0."
    return _of(requirement, "not_scored", Verdict.NO_GO, text)


def unscored(requirement: Requirement, items: Sequence[str], of: int) -> Reason:
    """The baseline has scores where the candidate has none."""
    text = f"task '{requirement.task}' ({requirement.metric}): {len(items)} of {of} items have a score in the baseline and none in the candidate."
    return _of(requirement, "unscored_items", Verdict.INCONCLUSIVE, text, items)


def must_pass(requirement: Requirement, failed: AbstractSet[str], unknown: AbstractSet[str]) -> Iterator[Reason]:
    """Items that have to pass, whatever the rest does."""
    of = len(requirement.must_pass)
    if failed:
        text = f"task '{requirement.task}': {len(failed)} of {of} items that must pass do not."
        yield _of(requirement, "must_pass_failed", Verdict.NO_GO, text, sorted(failed))
    if unknown:
        text = f"task '{requirement.task}': {len(unknown)} of {of} items that must pass have no score in both arms."
        yield _of(requirement, "must_pass_unknown", Verdict.INCONCLUSIVE, text, sorted(unknown))
    if not failed and not unknown:
        yield _of(requirement, "must_pass", Verdict.GO, f"task '{requirement.task}': all {of} items that must pass do.")


def safety(requirement: Requirement, failed: Sequence[str], of: int) -> Reason:
    """New failures among safety items: one is enough."""
    if failed:
        text = f"task '{requirement.task}' ({requirement.metric}): {len(failed)} of {of} safety items passed before and fail now."
        return _of(requirement, "safety_failed", Verdict.NO_GO, text, failed)
    return _of(
        requirement, "safety", Verdict.GO, f"task '{requirement.task}' ({requirement.metric}): none of {of} safety items newly fails."
    )


def slice_missing(requirement: Requirement, name: str) -> Reason:
    """A slice that is named has no item with a score."""
    text = f"slice {name} of task '{requirement.task}' ({requirement.metric}) has no item with a score in both arms."
    return Reason(code="slice_not_scored", says=_says(requirement.tier, Verdict.NO_GO), task=requirement.task, slice=name, text=text)


def floor(part: Part, least: float) -> Iterator[Reason]:
    """The candidate's own mean against an absolute bound, which is a ceiling where less is better."""
    bounds, word = part.candidate_bounds(), "at most" if part.pairs.sign < 0 else "at least"
    now = f"{float(part.pairs.candidate.mean()):.4g} now, {word} {least:.4g} is required"
    if bounds is None:
        yield _of_part(part, "floor_unclear", Verdict.INCONCLUSIVE, f"{now}; {part.n} items are too few to tell.", part.fewest)
        return
    low, high = bounds if part.pairs.sign > 0 else (-bounds[1], -bounds[0])
    wanted, shown = part.pairs.sign * least, f"interval {bounds[0]:.4g} to {bounds[1]:.4g}"
    if high < wanted:
        yield _of_part(part, "floor_missed", Verdict.NO_GO, f"{now} ({shown}).")
    elif low < wanted:
        yield _of_part(part, "floor_unclear", Verdict.INCONCLUSIVE, f"{now}; the {shown} holds both.")
    else:
        yield _of_part(part, "floor_held", Verdict.GO, f"{now} ({shown}).")


def harm(part: Part, worse_p: float) -> Reason:
    """It is worse, by at least the margin."""
    flips = f", {part.lost} items lost, {part.won} won" if part.lost or part.won else ""
    return _of_part(part, "harm", Verdict.NO_GO, f"worse: {_change(part)}{flips}; margin {part.margin:.4g}, p {worse_p:.2g} after Holm.")


def suspected(part: Part, needed: int) -> Reason:
    """Its own test alone would say so; among so many tests one of them does by chance."""
    text = f"perhaps worse: {_change(part)}; p {part.worse_p:.2g} alone, which is not enough among all tests. About {needed} items would settle it."
    return _of_part(part, "harm_suspected", Verdict.INCONCLUSIVE, text, needed)


def not_worse(part: Part, p: float) -> Reason:
    """Non-inferiority is shown."""
    return _of_part(part, "not_worse", Verdict.GO, f"shown to be no worse by {part.margin:.4g}: {_change(part)}; p {p:.2g}.")


def not_shown(part: Part) -> Reason:
    """Neither harm nor non-inferiority is shown."""
    needed = part.needed()
    fewest = part.fewest
    if part.not_worse_p is None:
        settle = f"at least {fewest} independent items are needed for this margin"
    elif needed is None:
        settle = "the loss is not below the margin, so more items would hardly show that it is fine"
    else:
        settle = f"about {needed} items would settle it"
    text = f"a loss of {part.margin:.4g} is not ruled out: {_change(part)}; {settle}."
    return _of_part(part, "not_shown", Verdict.INCONCLUSIVE, text, fewest if part.not_worse_p is None else needed)


def unseen(part: Part, needed: int, *, doubtful: bool) -> Reason:
    """So few items that losing most of them could not be told from chance: a remark, unless some are lost indeed."""
    way = f"{needed} items would do, or list them under must_pass, or make it critical or advisory"
    if doubtful:
        text = f"perhaps worse, and too few items to tell: {_change(part)}, {part.lost} lost, {part.won} won; {way}."
        return _of_part(part, "too_few_to_tell", Verdict.INCONCLUSIVE, text, needed)
    return _of_part(part, "too_few_to_see", Verdict.GO, f"{part.n} items are too few to notice if most were lost; {way}.", needed)


def no_harm(part: Part) -> Reason:
    """Nothing is asked beyond the absence of shown harm."""
    return _of_part(part, "no_harm_shown", Verdict.GO, f"no harm is shown: {_change(part)}.")
