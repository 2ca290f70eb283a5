"""GO, NO-GO or INCONCLUSIVE, with one reason for each requirement. Pure: the same records give the same bytes, on any machine.

NO-GO: harm is shown in a task or slice, by the one-sided test after Holm over everything of its family that can block, and by at least its margin; or a floor is
shown to be missed, an item that must pass fails, a safety item newly fails, or something required was not measured. GO: non-inferiority is shown
for each critical task and slice, and no harm elsewhere. All else is INCONCLUSIVE, and says how many items would settle it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ringi.gating import many, reasons
from ringi.gating.pairs import DuplicateTask, Pairs, paired
from ringi.gating.parts import SUSPECT, Part
from ringi.gating.schemas import Arm, Compared, Decision, Reason, Requirement, TaskDecision, Tier, Verdict

LEVEL = 0.05
# What is written is rounded: the last bits of a float depend on the processor.
_DIGITS = 6
_SEVERITY = (Verdict.NO_GO, Verdict.INCONCLUSIVE, Verdict.GO)


class _Task(NamedTuple):
    """A requirement with its pairs (None: an arm has no such task) and its parts, the whole first."""

    requirement: Requirement
    pairs: Pairs | None
    missing: tuple[Reason, ...]
    parts: tuple[Part, ...]


def decide(requirements: Sequence[Requirement], candidate: Arm, baseline: Arm, *, level: float = LEVEL) -> Decision:
    """Compare the arms, task by task. `level` is that of every one-sided test. Raises DuplicateTask, DuplicateItem, ItemsChanged."""
    twice = [key for key, count in Counter((one.task, one.metric) for one in requirements).items() if count > 1]
    if twice:
        raise DuplicateTask(f"Task '{twice[0][0]}' has two requirements for '{twice[0][1]}'.", next_step="Keep one of them.")
    tasks = [_task(requirement, candidate, baseline, level) for requirement in requirements]
    blocking = [part for task in tasks for part in task.parts if part.blocks]
    adjusted: dict[int, float] = {}
    tests = Counter(part.requirement.family for part in blocking)
    for family in tests:
        parts = [part for part in blocking if part.requirement.family == family]
        adjusted |= dict(zip(map(id, parts), many.holm([part.worse_p for part in parts]), strict=True))
    found: list[Reason] = []
    decided: list[TaskDecision] = []
    for task in tasks:
        compared, said = [], list(_of_task(task))
        for part in task.parts:
            worse_p = adjusted.get(id(part), part.worse_p)
            of_part = list(_of_part(part, worse_p, tests[part.requirement.family]))
            compared.append(_compared(part, worse_p, tests[part.requirement.family], _worst(of_part)))
            said += of_part
        found += said
        decided.append(_decided(task, compared, _worst(said)))
    return Decision(verdict=_worst(found), reasons=tuple(found), tasks=tuple(decided), level=level, tests=len(blocking))


def _task(requirement: Requirement, candidate: Arm, baseline: Arm, level: float) -> _Task:
    missing = tuple(
        reasons.missing(requirement, which)
        for which, arm in (("candidate", candidate), ("baseline", baseline))
        if requirement.task not in arm
    )
    if missing:
        return _Task(requirement, None, missing, ())
    pairs = paired(requirement, candidate[requirement.task], baseline[requirement.task])
    if not pairs.items:
        return _Task(requirement, pairs, (), ())
    whole = Part(requirement, None, requirement.tier, pairs, _margin(requirement, pairs), level)
    if requirement.safety:
        # Not statistical: its items are counted, and nothing else is asked of them.
        return _Task(requirement, pairs, (), ())
    advisory = requirement.tier is Tier.ADVISORY
    slices = (
        Part(requirement, name, Tier.ADVISORY if advisory else tier, pairs.part(places), requirement.slice_margin, level)
        for name, (tier, places) in pairs.places_by_slice(dict(requirement.slices)).items()
    )
    return _Task(requirement, pairs, (), (whole, *slices))


def _margin(requirement: Requirement, pairs: Pairs) -> float:
    guard, before = requirement.relative_guard, float(pairs.baseline.mean())
    if guard is None or not 0 < before < guard.below:
        return requirement.margin
    return min(requirement.margin, guard.drop * before)


def _of_task(task: _Task) -> Iterator[Reason]:
    requirement, pairs = task.requirement, task.pairs
    yield from task.missing
    if pairs is None:
        return
    if not pairs.items:
        yield reasons.not_scored(requirement, len(pairs.unscored) + pairs.unscored_both)
        return
    unscored = set(pairs.unscored)
    if len(unscored) > requirement.unscored_allowed * (len(pairs.items) + len(unscored)) or (requirement.safety and unscored):
        yield reasons.unscored(requirement, pairs.unscored, len(pairs.items) + len(unscored))
    if requirement.must_pass:
        failed = set(requirement.must_pass) & set(pairs.named(~pairs.passing))
        yield from reasons.must_pass(requirement, failed, set(requirement.must_pass) - set(pairs.items))
    if requirement.safety:
        yield reasons.safety(requirement, pairs.named(pairs.lost), len(pairs.items))
    for name in requirement.slices:
        if "=" in name and requirement.slices[name] is not Tier.ADVISORY and not any(part.slice == name for part in task.parts):
            yield reasons.slice_missing(requirement, name)


def _of_part(part: Part, worse_p: float, tests: int) -> Iterator[Reason]:
    """The reasons of one task or slice. Harm that is shown settles it, however few items there are."""
    if part.requirement.floor is not None and part.slice is None:
        yield from reasons.floor(part, part.requirement.floor)
    if worse_p < part.level and part.loss >= part.margin:
        yield reasons.harm(part, worse_p)
    elif part.blocks and part.worse_p < SUSPECT * part.level and part.loss >= part.margin:
        yield reasons.suspected(part, part.needed_to_confirm(tests))
    elif part.tier is Tier.CRITICAL:
        p = part.not_worse_p
        if p is not None and p < part.level:
            yield reasons.not_worse(part, p)
        else:
            yield reasons.not_shown(part)
    elif part.blocks and (needed := part.unseen(tests)) is not None:
        yield reasons.unseen(part, needed, doubtful=part.doubtful)
    else:
        yield reasons.no_harm(part)


def _worst(found: Sequence[Reason]) -> Verdict:
    return next((verdict for verdict in _SEVERITY if any(reason.says is verdict for reason in found)), Verdict.INCONCLUSIVE)


def _compared(part: Part, worse_p: float, tests: int, verdict: Verdict) -> Compared:
    interval = part.interval
    return Compared(
        slice=part.slice, tier=part.tier, n=part.n, clusters=len(part.clusters.sums), baseline=_round(float(part.pairs.baseline.mean())),
        candidate=_round(float(part.pairs.candidate.mean())), difference=_round(-part.loss), low=_round(interval[0]) if interval else None,
        high=_round(interval[1]) if interval else None, margin=_round(part.margin), lost=part.lost, won=part.won, worse_p=_round(worse_p),
        not_worse_p=None if part.not_worse_p is None else _round(part.not_worse_p), detectable=_round(part.detectable(tests)), verdict=verdict,
    )  # fmt: skip


def _decided(task: _Task, compared: Sequence[Compared], verdict: Verdict) -> TaskDecision:
    requirement, pairs = task.requirement, task.pairs
    return TaskDecision(
        task=requirement.task, metric=requirement.metric, tier=requirement.tier, lower_is_better=requirement.lower_is_better,
        binary=pairs.binary if pairs is not None and pairs.items else None, whole=compared[0] if compared else None,
        slices=tuple(compared[1:]), unscored=len(pairs.unscored) if pairs else 0, unscored_both=pairs.unscored_both if pairs else 0,
        negative_flips=pairs.named(pairs.lost) if pairs else (), positive_flips=pairs.named(pairs.won) if pairs else (), verdict=verdict,
    )  # fmt: skip


def _round(value: float) -> float:
    # Minus zero is zero, in JSON too.
    return round(value, _DIGITS) + 0.0
