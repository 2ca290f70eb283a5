"""Statistics of paired graded scores. Pure, and the same on every run: the random numbers come from the caller's seed.

Everything is about clusters, the groups of items that share a source (a document, a user) and are therefore no independent witnesses: `sums[k]`
is the sum of the differences of cluster k, `sizes[k]` its number of items, both of shape [clusters]. A difference above zero is better.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringi.gating.binary import NORMAL

Floats = NDArray[np.float64]
RESAMPLES = 10_000
# Resamples drawn at a time: 1,000 clusters x 500 are 4 MB of indices.
_AT_ONCE = 500
_EXACT_UP_TO = 12


class Clusters(NamedTuple):
    """Differences by cluster."""

    sums: Floats
    sizes: Floats

    @property
    def mean(self) -> float:
        """The mean difference over items."""
        return float(self.sums.sum() / self.sizes.sum())


def clustered(differences: Floats, cluster: NDArray[np.int64]) -> Clusters:
    """Sums and sizes by cluster number; shape [items] both."""
    _, place = np.unique(cluster, return_inverse=True)
    return Clusters(np.bincount(place, weights=differences).astype(np.float64), np.bincount(place).astype(np.float64))


def sign_flip(clusters: Clusters, seed: int) -> float:
    """The one-sided p-value of "it did not get worse": how often random signs give a sum as low (R. A. Fisher's randomisation test).

    Exact up to 12 clusters that differ, by enumeration; else by RESAMPLES draws, the observed one counted in (Phipson and Smyth 2010).
    For right-or-wrong items without clusters it is McNemar's exact test.
    """
    moved = clusters.sums[clusters.sums != 0]
    if not len(moved):
        return 1.0
    observed = moved.sum()
    # Sums that are equal but for the order of addition must count as equal.
    limit = observed + 1e-9 * np.abs(moved).sum()
    if len(moved) <= _EXACT_UP_TO:
        signs = 1.0 - 2.0 * ((np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1)
        return float(np.mean(signs @ moved <= limit))
    draw, low = np.random.default_rng(seed), 0
    for _ in range(RESAMPLES // _AT_ONCE):
        flips = draw.integers(0, 2, size=(_AT_ONCE, len(moved)), dtype=np.int8)
        low += int(np.count_nonzero(observed - 2.0 * (flips @ moved) <= limit))
    return (low + 1) / (RESAMPLES + 1)


class Bootstrap:
    """BCa bootstrap of the mean over clusters (Efron and Tibshirani 1993, chapter 14.3), one-sided at any level. At least two clusters."""

    def __init__(self, clusters: Clusters, seed: int) -> None:
        sums, sizes = clusters
        count = len(sums)
        draw, means = np.random.default_rng(seed), np.empty(RESAMPLES)
        for start in range(0, RESAMPLES, _AT_ONCE):
            chosen = draw.integers(0, count, size=(_AT_ONCE, count))
            means[start : start + _AT_ONCE] = sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
        self._means = np.sort(means)
        without = (sums.sum() - sums) / (sizes.sum() - sizes)
        apart = without.mean() - without
        spread = float((apart**2).sum())
        self._acceleration = float((apart**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
        self._shift = NORMAL.inv_cdf(self._share_below(clusters.mean))

    def lower(self, level: float) -> float:
        """The lower bound of the mean at one-sided `level`."""
        return self._bound(level)

    def upper(self, level: float) -> float:
        """The upper bound of the mean at one-sided `level`."""
        return self._bound(1 - level)

    def p_at_most(self, value: float) -> float:
        """The level at which the lower bound is `value`: the p-value of "the mean is at most `value`"."""
        there = NORMAL.inv_cdf(self._share_below(value)) - self._shift
        along = 1 + self._acceleration * there
        return NORMAL.cdf(there / along - self._shift) if along > 0 else (0.0 if there < 0 else 1.0)

    def _share_below(self, value: float) -> float:
        # Half a resample at either end: no finite number of resamples shows that something cannot be.
        below, at = np.searchsorted(self._means, value, "left"), np.searchsorted(self._means, value, "right")
        return float((below + at) / 2 + 0.5) / (RESAMPLES + 1)

    def _bound(self, level: float) -> float:
        moved = self._shift + NORMAL.inv_cdf(level)
        along = 1 - self._acceleration * moved
        share = NORMAL.cdf(self._shift + moved / along) if along > 0 else (0.0 if moved < 0 else 1.0)
        return float(np.quantile(self._means, min(1.0, max(0.0, share))))


def items_for(margin: float, deviation: float, level: float, *, power: float = 0.9, loss: float = 0.0) -> int | None:
    """How many independent items show a loss below `margin` with `power`, at this standard deviation of the differences; None if none do."""
    if loss >= margin:
        return None
    z = NORMAL.inv_cdf(1 - level) + NORMAL.inv_cdf(power)
    return max(2, math.ceil((z * deviation / (margin - loss)) ** 2))
