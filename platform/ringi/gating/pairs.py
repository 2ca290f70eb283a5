"""From two arms' items to paired differences of one task. Pure; nothing is invented: what one arm has no score for makes no pair."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringi.gating.graded import Clusters, Floats, clustered
from ringi.gating.schemas import Measured, Requirement, Tier
from ringi.kit.errors import InvalidInput


class DuplicateItem(InvalidInput):
    """An item id occurs more than once in a task of one arm: its difference would count twice."""

    code: ClassVar[str] = "gate_duplicate_item"


class DuplicateTask(InvalidInput):
    """Two requirements for one metric of one task."""

    code: ClassVar[str] = "gate_duplicate_task"


class ItemsChanged(InvalidInput):
    """The arms were asked different things under the same item id."""

    code: ClassVar[str] = "gate_items_changed"


class Pairs(NamedTuple):
    """Items that both arms have a score for, in the order of their ids; arrays of shape [items]. `sign` is -1 where less is better.

    `unscored` items have a score in the baseline alone; `unscored_both` is how many have one in neither, or in the candidate alone.
    """

    items: tuple[str, ...]
    baseline: Floats
    candidate: Floats
    cluster: NDArray[np.int64]
    slices: tuple[tuple[tuple[str, str], ...], ...]
    sign: float
    pass_at: float
    unscored: tuple[str, ...]
    unscored_both: int

    @property
    def binary(self) -> bool:
        """Right or wrong, each item a witness of its own: the exact tests hold."""
        scores = np.concatenate([self.baseline, self.candidate])
        return bool(np.isin(scores, (0.0, 1.0)).all()) and len(np.unique(self.cluster)) == len(self.items)

    @property
    def differences(self) -> Floats:
        """Above zero is better."""
        return self.sign * (self.candidate - self.baseline)

    @property
    def lost(self) -> NDArray[np.bool_]:
        """Items that passed before and do not now."""
        return self._passes(self.baseline) & ~self.passing

    @property
    def won(self) -> NDArray[np.bool_]:
        """The reverse."""
        return ~self._passes(self.baseline) & self.passing

    @property
    def passing(self) -> NDArray[np.bool_]:
        """Items that pass now."""
        return self._passes(self.candidate)

    def _passes(self, scores: Floats) -> NDArray[np.bool_]:
        return self.sign * scores >= self.sign * self.pass_at

    def named(self, which: NDArray[np.bool_]) -> tuple[str, ...]:
        """The ids of the items that `which` marks."""
        return tuple(self.items[place] for place in np.flatnonzero(which))

    def part(self, places: NDArray[np.int64]) -> "Pairs":
        """The pairs at these places."""
        chosen = places.tolist()
        return self._replace(
            items=tuple(self.items[place] for place in chosen), slices=tuple(self.slices[place] for place in chosen),
            baseline=self.baseline[places], candidate=self.candidate[places], cluster=self.cluster[places],
        )  # fmt: skip

    @property
    def clusters(self) -> Clusters:
        """The differences by source."""
        return clustered(self.differences, self.cluster)

    def places_by_slice(self, wanted: dict[str, Tier]) -> dict[str, tuple[Tier, NDArray[np.int64]]]:
        """Places of the items of each slice that is asked for, as `key=value`, in the order of their names; one slice's own tier wins."""
        members: dict[str, list[int]] = {}
        for place, tags in enumerate(self.slices):
            for key, value in tags:
                if key in wanted or f"{key}={value}" in wanted:
                    members.setdefault(f"{key}={value}", []).append(place)
        return {
            name: (wanted.get(name) or wanted[name.partition("=")[0]], np.array(places, dtype=np.int64))
            for name, places in sorted(members.items())
        }


def paired(requirement: Requirement, candidate: Sequence[Measured], baseline: Sequence[Measured]) -> Pairs:
    """The pairs of one task. Raises DuplicateItem, ItemsChanged."""
    left, right = _by_id(requirement.task, candidate), _by_id(requirement.task, baseline)
    changed = sorted(name for name in left.keys() & right.keys() if _other(left[name].asked, right[name].asked))
    if changed:
        raise ItemsChanged(
            f"{len(changed)} items of task '{requirement.task}' were asked differently in the two arms, the first is '{changed[0]}'.",
            next_step="Measure both arms with one version of the suite.",
            details={"task": requirement.task, "items": changed[:10], "count": len(changed)},
        )
    names, unscored, neither = [], [], 0
    for name in sorted(left.keys() | right.keys()):
        new, old = (arm[name].scores.get(requirement.metric) if name in arm else None for arm in (left, right))
        if new is not None and old is not None:
            names.append(name)
        elif old is not None:
            unscored.append(name)
        else:
            neither += 1
    sources = {source: number for number, source in enumerate(sorted({_source(right[name]) for name in names}))}
    return Pairs(
        items=tuple(names), baseline=_scores(right, names, requirement.metric), candidate=_scores(left, names, requirement.metric),
        cluster=np.array([sources[_source(right[name])] for name in names], dtype=np.int64),
        slices=tuple(tuple(sorted(right[name].slices.items())) for name in names), sign=-1.0 if requirement.lower_is_better else 1.0,
        pass_at=requirement.pass_at, unscored=tuple(unscored), unscored_both=neither,
    )  # fmt: skip


def _by_id(task: str, items: Sequence[Measured]) -> dict[str, Measured]:
    repeated = sorted(name for name, count in Counter(item.item for item in items).items() if count > 1)
    if repeated:
        raise DuplicateItem(
            f"{len(repeated)} items of task '{task}' occur more than once, the first is '{repeated[0]}'.",
            next_step="Give every item an id of its own.",
            details={"task": task, "items": repeated[:10], "count": len(repeated)},
        )
    return {item.item: item for item in items}


def _other(one: str | None, another: str | None) -> bool:
    return one is not None and another is not None and one != another


def _source(item: Measured) -> str:
    # A prefix each: a source that is called like another item's id is not that item.
    return f"source {item.source}" if item.source is not None else f"item {item.item}"


def _scores(arm: dict[str, Measured], names: Sequence[str], metric: str) -> Floats:
    return np.array([arm[name].scores[metric] for name in names], dtype=np.float64)


def seed_of(*words: str) -> int:
    """A seed that depends on what is tested alone, so that neither order nor repetition changes a decision."""
    return int.from_bytes(hashlib.sha256("\x00".join(words).encode()).digest()[:8], "big")
