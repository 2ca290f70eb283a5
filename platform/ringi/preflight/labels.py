"""Which labels the rows of a classifier have, and how often. Pure; the rows are read in known.py, the rules are in checks.py."""

import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class LabelCounts(NamedTuple):
    """Rows of each label, in the training and in the validation part; `unlabelled`: training rows that have none (documents, conversations)."""

    train: Mapping[str, int]
    validation: Mapping[str, int]
    unlabelled: int


def counted(train: Iterable[bytes], validation: Iterable[bytes]) -> LabelCounts | None:
    """Of sealed rows (JSON lines); None where they cannot be read."""
    try:
        learnt, asked = (Counter(map(_label, lines)) for lines in (train, validation))
    except (ValueError, TypeError):
        return None
    unlabelled = learnt.pop(None, 0)
    asked.pop(None, 0)
    return LabelCounts(_texts(learnt), _texts(asked), unlabelled)


def alike(labels: Iterable[str]) -> list[str]:
    """Labels that another one equals but for case, width and white space."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups[" ".join(unicodedata.normalize("NFKC", label).casefold().split())].append(label)
    return sorted(label for group in groups.values() if len(group) > 1 for label in group)


def _label(line: bytes) -> str | None:
    row: Any = json.loads(line)
    if not isinstance(row, dict):
        raise TypeError("a row is an object")
    label = row.get("completion") if isinstance(row.get("prompt"), str) else None
    return label if isinstance(label, str) and label.strip() else None


def _texts(counts: Counter[str | None]) -> dict[str, int]:
    return {label: count for label, count in counts.items() if label is not None}
