"""What every list takes, for the typed client and the commands alike; docs/lists.md has the grammar."""

from collections.abc import Sequence
from typing import TypedDict


class AskedInOrder(TypedDict, total=False):
    """Comparisons that all hold (`state=sealed`, `metrics.improvement>0.1`) and the order (`-created_at,name`)."""

    filter: Sequence[str]
    sort: str | None


class Asked(AskedInOrder, total=False):
    """And free text, of the lists that can be searched for it."""

    q: str | None
