"""What the statistics say of one task or slice, before any rule is applied. Pure.

Right-or-wrong items get the exact test and Tango's interval; graded, repeated or clustered ones random signs and the BCa bootstrap over clusters.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from ringi.gating import binary, graded
from ringi.gating.binary import NORMAL
from ringi.gating.pairs import Pairs, seed_of
from ringi.gating.schemas import Requirement, Tier

# Fewer clusters make no trustworthy bootstrap.
FEWEST_CLUSTERS = 20
# A slice is seen if losing three quarters of what it had right would be noticed in four of five cases.
SEEN_LOSS, SEEN_POWER = 0.75, 0.8
# One slice among many whose own p-value is below this share of the level is not passed over in silence.
SUSPECT = 0.2
# In a slice too small for any test: two lost items, or a p-value that one coin in four gives.
_SOME_LOST, _DOUBT = 2, 0.25
_MOST_ITEMS = 100_000


@dataclass(frozen=True)
class Part:
    """A task (`slice` None) or one slice of it, of at least one pair. `margin` is the one in force."""

    requirement: Requirement
    slice: str | None
    tier: Tier
    pairs: Pairs
    margin: float
    level: float

    @property
    def blocks(self) -> bool:
        """Whether harm here is more than a remark."""
        return self.tier is not Tier.ADVISORY

    @property
    def n(self) -> int:
        """How many pairs."""
        return len(self.pairs.items)

    @cached_property
    def clusters(self) -> graded.Clusters:
        """The differences by source."""
        return self.pairs.clusters

    @cached_property
    def lost(self) -> int:
        """Negative flips."""
        return int(self.pairs.lost.sum())

    @cached_property
    def won(self) -> int:
        """Positive flips."""
        return int(self.pairs.won.sum())

    @cached_property
    def loss(self) -> float:
        """The mean loss; below zero where it got better."""
        return -float(self.pairs.differences.mean())

    @cached_property
    def still(self) -> bool:
        """Not one score differs."""
        return not self.pairs.differences.any()

    @cached_property
    def worse_p(self) -> float:
        """Of "it did not get worse", alone."""
        if self.pairs.binary:
            return binary.mcnemar(self.lost, self.won)
        return graded.sign_flip(self.clusters, self._seed("worse"))

    @property
    def doubtful(self) -> bool:
        """Where too few items are there to tell: some were lost, more than were won."""
        some = self.lost >= _SOME_LOST if self.pairs.binary else self.worse_p <= _DOUBT
        return some and self.loss >= self.margin

    @cached_property
    def fewest(self) -> int:
        """So many independent items are needed before any result could show a loss below the margin."""
        fewest = binary.fewest_for(self.margin, self.level) if self.margin < 1 else 1
        return fewest if self.pairs.binary else max(fewest, FEWEST_CLUSTERS)

    @cached_property
    def not_worse_p(self) -> float | None:
        """Of "the loss is at least the margin"; None where there are too few items to ask."""
        if self.pairs.binary:
            return binary.tango(self.lost, self.won, self.n, min(self.margin, 1 - 1e-9))
        if len(self.clusters.sums) < self.fewest:
            return None
        # Scores that are all equal have no spread to draw from: what so many items can show is all that can be said.
        return (1 - min(self.margin, 1 - 1e-9)) ** len(self.clusters.sums) if self.still else self._bootstrap.p_at_most(-self.margin)

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The two-sided interval of the difference at 1 - 2 `level`; None where there are too few items."""
        if self.pairs.binary:
            return -binary.tango_bound(self.lost, self.won, self.n, self.level), binary.tango_bound(self.won, self.lost, self.n, self.level)
        if len(self.clusters.sums) < FEWEST_CLUSTERS or self.still:
            return None
        return self._bootstrap.lower(self.level), self._bootstrap.upper(self.level)

    @cached_property
    def _bootstrap(self) -> graded.Bootstrap:
        return graded.Bootstrap(self.clusters, self._seed("interval"))

    def candidate_bounds(self) -> tuple[float, float] | None:
        """Lower and upper bound of the candidate's own mean, each one-sided at `level`; None where there are too few items."""
        if self.pairs.binary:
            right = int(self.pairs.candidate.sum())
            return tuple(binary.wilson_bound(right, self.n, self.level, upper=upper) for upper in (False, True))  # type: ignore[return-value]
        scores = graded.clustered(self.pairs.candidate, self.pairs.cluster)
        if len(scores.sums) < FEWEST_CLUSTERS:
            return None
        drawn = graded.Bootstrap(scores, self._seed("candidate"))
        return drawn.lower(self.level), drawn.upper(self.level)

    def needed(self) -> int | None:
        """How many items would show a loss below the margin in 9 of 10 cases, were it what it was here; None if no number would."""
        loss = max(0.0, self.loss)
        if self.pairs.binary:
            flips = max(1, self.lost + self.won) / self.n
            return binary.items_for(min(self.margin, 1 - 1e-9), flips, self.level, loss=loss)
        wanted = graded.items_for(self.margin, self._deviation(), self.level, loss=loss)
        return None if wanted is None else max(wanted, self.fewest)

    def needed_to_confirm(self, tests: int) -> int:
        """How many items would show a loss like the one here, among `tests` tests, in 9 of 10 cases."""
        z = NORMAL.inv_cdf(1 - self.level / max(tests, 1)) + NORMAL.inv_cdf(0.9)
        spread = (self.lost + self.won) / self.n if self.pairs.binary else self._deviation() ** 2
        return math.ceil(z * z * spread / self.loss**2)

    def detectable(self, tests: int) -> float:
        """The loss that so many items show to be one, in 4 of 5 cases, among `tests` tests."""
        z = NORMAL.inv_cdf(1 - self.level / max(tests, 1)) + NORMAL.inv_cdf(SEEN_POWER)
        spread = math.sqrt(max(1, self.lost + self.won) / self.n) if self.pairs.binary else self._deviation()
        return z * spread / math.sqrt(self.n)

    def _deviation(self) -> float:
        """Of one item's difference, as large as it looks through the clusters."""
        sums, sizes = self.clusters
        if len(sums) < 2:  # noqa: PLR2004  # one cluster has no spread
            return math.inf
        apart = sums - self.clusters.mean * sizes
        return math.sqrt(float((apart**2).sum()) / (len(sums) - 1) * len(sums) / float(sizes.sum()))

    def unseen(self, tests: int) -> int | None:
        """How many items this part needs before losing most of what it had right would be noticed; None where it has them."""
        strikes = math.ceil(math.log2(tests / self.level))
        if not self.pairs.binary:
            return None if len(self.clusters.sums) >= strikes else strikes
        right = int(self.pairs.baseline.sum()) if self.pairs.sign > 0 else self.n - int(self.pairs.baseline.sum())
        if not right or right / self.n < self.margin or _at_least(strikes, right) >= SEEN_POWER:
            return None
        enough = next((count for count in range(strikes, _MOST_ITEMS) if _at_least(strikes, count) >= SEEN_POWER), _MOST_ITEMS)
        return math.ceil(enough * self.n / right)

    def _seed(self, what: str) -> int:
        return seed_of(self.requirement.task, self.requirement.metric, self.slice or "", what)


def _at_least(strikes: int, right: int) -> float:
    """The chance that at least `strikes` of `right` items are lost where each is with probability SEEN_LOSS."""
    return sum(math.comb(right, k) * SEEN_LOSS**k * (1 - SEEN_LOSS) ** (right - k) for k in range(strikes, right + 1))
