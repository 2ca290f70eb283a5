"""Many tests at once: what may still be believed. Pure."""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of a single false alarm among them (S. Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def false_discovery(p_values: Sequence[float], *, dependent: bool = False) -> list[float]:
    """Adjusted p-values that keep the share of false ones among those accepted (Benjamini and Hochberg 1995).

    `dependent`: whatever the dependence between them (Benjamini and Yekutieli 2001), at the price of the harmonic sum.
    """
    count = len(p_values)
    price = sum(1 / rank for rank in range(1, count + 1)) if dependent else 1.0
    order = sorted(range(count), key=p_values.__getitem__, reverse=True)
    adjusted, lowest = [0.0] * count, 1.0
    for above, place in enumerate(order):
        lowest = min(lowest, price * p_values[place] * count / (count - above))
        adjusted[place] = lowest
    return adjusted
