"""What every list takes, for the typed client and the commands alike; docs/lists.md has the grammar."""

from collections.abc import Sequence
from typing import TypedDict


class Asked(TypedDict, total=False):
    """Comparisons that all hold (`state=sealed`, `metrics.improvement>0.1`), the order (`-created_at,name`), and free text."""

    filter: Sequence[str]
    sort: str | None
    q: str | None
