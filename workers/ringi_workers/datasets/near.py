"""Near duplicates among texts: MinHash and locality-sensitive hashing find candidates (Broder 1997; datasketch), which are then compared exactly.

Two texts are near duplicates when the Jaccard similarity of their sets of character 5-grams reaches the threshold. Characters, not words,
because Japanese is written without blanks. The hashes have a fixed seed: the same texts give the same groups.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from datasketch import MinHash, MinHashLSH

from ringi.datasets.validation import Near
from ringi.jobs.contracts.datasets import Recipe

_GRAM = 5
_PERMUTATIONS = 128
_SEED = 1
# Missed pairs are lost, false candidates are only compared in vain: so the bands are chosen for few misses (false positives, false negatives).
_WEIGHTS = (0.1, 0.9)
# Among rows of one template everything is a candidate; the most alike are looked at.
_MOST_COMPARED = 4
# Above this the library would make a single band of all hashes.
_MOST_BANDED = 0.95
# Of a long text so many grams are hashed at most, evenly over it; the comparison after it takes them all.
_MOST_HASHED = 4096


def near_of(recipe: Recipe) -> Near | None:
    """How the recipe wants near duplicates found, None where it does not."""
    if recipe.near_duplicates == "ignore":
        return None
    return Near(partial(groups_of, threshold=recipe.near_threshold), remove=recipe.near_duplicates == "remove")


def groups_of(texts: Sequence[str], *, threshold: float) -> list[list[int]]:
    """Places of texts that are near duplicates of the first of their group, in their order; groups of two and more.

    A pair at the threshold is found in about 85 of 100 cases, one that is 0.05 above it in 97: that is what hashing costs.
    """
    # Only the first of a group is in the index: a thousand copies of a template are compared with one, and no chain leads from a text to another.
    index = MinHashLSH(threshold=min(threshold, _MOST_BANDED), num_perm=_PERMUTATIONS, weights=_WEIGHTS)
    # Copied for each text: to draw the permutations takes longer than to use them.
    blank = MinHash(num_perm=_PERMUTATIONS, seed=_SEED)
    groups: dict[int, list[int]] = {}
    firsts: dict[int, MinHash] = {}
    for place, text in enumerate(texts):
        grams = _grams(text)
        sketch = _sketch(blank, grams)
        likely = _likely(sketch, {one: firsts[one] for one in sorted(index.query(sketch))}, threshold)
        first = next((one for one in likely if _jaccard(grams, _grams(texts[one])) >= threshold), None)
        if first is None:
            index.insert(place, sketch, check_duplication=False)
            firsts[place] = sketch
            groups[place] = [place]
        else:
            groups[first].append(place)
    return [group for group in groups.values() if len(group) > 1]


def _likely(sketch: MinHash, candidates: Mapping[int, MinHash], threshold: float) -> list[int]:
    """The candidates that are most alike by their sketches, without those that are far: beyond three standard deviations of the estimate."""
    if not candidates:
        return []
    hashes = np.stack([one.hashvalues for one in candidates.values()])
    estimates = (hashes == sketch.hashvalues).mean(axis=1)
    margin = 3 * float(np.sqrt(threshold * (1 - threshold) / _PERMUTATIONS))
    close = sorted(
        (-float(estimate), place) for place, estimate in zip(candidates, estimates, strict=True) if estimate >= threshold - margin
    )
    return [place for _, place in close[:_MOST_COMPARED]]


def _grams(text: str) -> frozenset[str]:
    return frozenset(text[start : start + _GRAM] for start in range(max(1, len(text) - _GRAM + 1)))


def _sketch(blank: MinHash, grams: frozenset[str]) -> MinHash:
    hashed = grams if len(grams) <= _MOST_HASHED else sorted(grams)[:: 1 + len(grams) // _MOST_HASHED]
    sketch: MinHash = blank.copy()
    sketch.update_batch([gram.encode() for gram in hashed])
    return sketch


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)
