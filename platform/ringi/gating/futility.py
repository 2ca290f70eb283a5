"""Stop early what is clearly worse. Pure.

A betting e-process against "the loss is at most the margin" (Waudby-Smith and Ramdas, JRSS B 86, 2024, section 4): capital that grows only if the loss is
beyond the margin. By Ville's inequality it ever reaches 1 / `level` with probability `level` at most, however often one looks. It ends a
hopeless measurement; it never says that an adapter may be kept (that is the fixed-size test of `decision`), so it cannot add a wrong GO.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# A bet of all that one has can be lost in one item.
_BOLDEST = 0.75


@dataclass
class Futility:
    """Fed with differences in [-1, 1], above zero is better, in an order that does not depend on them."""

    margin: float
    level: float = 0.05
    capital: float = 1.0
    seen: int = 0
    hopeless: bool = False
    _sum: float = 0.0
    _squares: float = 0.0

    def see(self, differences: Iterable[float]) -> bool:
        """Whether it is hopeless, with these items seen too; once it is, it stays so."""
        for difference in differences:
            self.see_block(difference, 1, widest=1)
        return self.hopeless

    def see_block(self, total: float, count: int, *, widest: int) -> bool:
        """The same for `count` items that are one witness, whose differences sum to `total`; no block has more than `widest` items.

        One bet for the block: its loss beyond the margin, by item, is at most nothing on the average exactly where the mean loss is at most the margin.
        """
        excess = (-total - self.margin * count) / widest
        self.capital *= 1 + self._bet() * excess
        self._sum, self._squares, self.seen = self._sum + excess, self._squares + excess * excess, self.seen + count
        self.hopeless = self.hopeless or self.capital >= 1 / self.level
        return self.hopeless

    def _bet(self) -> float:
        # What would have grown fastest so far (the mean over the second moment), known before the item is seen; a prior of one item keeps it calm.
        bet = self._sum / (self._squares + 1)
        return min(max(bet, 0.0), _BOLDEST / (1 + self.margin))
