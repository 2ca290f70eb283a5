"""Statistics of paired right-or-wrong answers. Pure.

`lost` items were right before and are wrong now (negative flips), `won` ones the reverse, out of `n`. A loss is (lost - won) / n.
"""

import math
from statistics import NormalDist

NORMAL = NormalDist()
_STEPS = 60


def tango(lost: int, won: int, n: int, margin: float) -> float:
    """The p-value of "the loss is at least `margin`": small where non-inferiority is shown.

    Score test for paired proportions with the nuisance at its restricted maximum (T. Tango, Statistics in Medicine 17, 1998, 891-908, eq. 4).
    `margin` is in (-1, 1), n > 0.
    """
    a, c = 2 * n, -won * margin * (1 - margin)
    b = -lost - won + (2 * n - lost + won) * margin
    nuisance = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * nuisance + margin * (1 - margin))
    excess = lost - won - n * margin
    if variance <= 0:
        return 0.0 if excess < 0 else 1.0
    return NORMAL.cdf(excess / math.sqrt(variance))


def tango_bound(lost: int, won: int, n: int, level: float) -> float:
    """The largest loss that is not refuted at one-sided `level`: the upper bound of Tango's interval, by bisection."""
    low, high = (lost - won) / n, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if tango(lost, won, n, middle) < level else (middle, high)
    return high


def mcnemar(lost: int, won: int) -> float:
    """The exact one-sided p-value of "it did not get worse": P(X >= lost) for X of lost + won fair coins (McNemar 1947)."""
    flips = lost + won
    tail = sum(math.comb(flips, k) for k in range(lost, flips + 1))
    # Integers of any size: exact for any number of flips.
    return tail / (1 << flips)


def wilson_bound(right: int, n: int, level: float, *, upper: bool) -> float:
    """One end of Wilson's score interval of a share, at one-sided `level` (E. B. Wilson, JASA 22, 1927)."""
    z = NORMAL.inv_cdf(1 - level)
    share, center = right / n, right / n + z * z / (2 * n)
    width = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return min(1.0, max(0.0, (center + (width if upper else -width)) / (1 + z * z / n)))


def fewest_for(margin: float, level: float) -> int:
    """How many items without a single flip show a loss below `margin`, exactly: (1 - margin)^n <= level. Fewer can never show it."""
    return math.ceil(math.log(level) / math.log1p(-margin))


def finest_margin(n: int, level: float) -> float:
    """The smallest margin that `n` items without a flip could support."""
    return 1 - math.pow(level, 1 / n)


def items_for(margin: float, flips: float, level: float, *, power: float = 0.9, loss: float = 0.0) -> int | None:
    """How many items show a loss below `margin` with `power` where a share of `flips` differs and the true loss is `loss`; None if none do.

    Normal approximation, n = (z_level + z_power)^2 p / (margin - loss)^2; never below `fewest_for`.
    """
    if loss >= margin:
        return None
    z = NORMAL.inv_cdf(1 - level) + NORMAL.inv_cdf(power)
    return max(fewest_for(margin, level), math.ceil(z * z * (flips - loss * loss) / (margin - loss) ** 2))
