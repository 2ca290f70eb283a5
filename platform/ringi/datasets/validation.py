"""From the rows of an upload to a training and a validation split: refuse, count, group, divide. Comes after `reading.py`.

How rows are divided: rows whose normalised prompts are equal form a group, and a group stays on one side. A group that an earlier version has
on a side stays there (`Sides`), whatever else is said. Of the others the side follows from the seed and the prompt alone; but a group in which
a pair occurs more than once, or of which near duplicates were removed, always goes to train. Of a conversation the prompt is all before its
last turn, of a document its text. Pure; rows are held in memory, about 2 kB each: meant for up to some 100,000 rows.
"""

import hashlib
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

from ringi.datasets.contents import Row
from ringi.datasets.reading import SourceRows, read_rows
from ringi.jobs.contracts.datasets import DatasetReport, SplitSpec
from ringi.kit.digests import canonical_json
from ringi.kit.errors import InvalidInput

# Whoever validates also reads; both come from here.
__all__ = ["Item", "Near", "Sides", "SourceRows", "Split", "as_json_lines", "is_blank", "normalise", "read_rows", "validate_and_split"]

_EXAMPLES = 5
UNCATEGORISED = "(none)"


class DatasetNoUsableRows(InvalidInput):
    """Every row has a blank prompt or a blank completion."""

    code: ClassVar[str] = "dataset_no_usable_rows"


class DatasetSplitEmpty(InvalidInput):
    """Too few distinct prompts for the asked fraction: one side of the split would be empty."""

    code: ClassVar[str] = "dataset_split_empty"


class DatasetLeakage(InvalidInput):
    """The split put equal text on both sides: a fault of Ringi, checked each time so that it can never be sealed."""

    code: ClassVar[str] = "dataset_leakage"
    status: ClassVar[int] = 500


class Item(NamedTuple):
    """A kept row. `id`: the first 16 hex of SHA-256 over the normalised pair, so equal text has an equal id in every version."""

    id: str
    row: Row


class Split(NamedTuple):
    """What was found, and both sides in the order of the source."""

    report: DatasetReport
    train: list[Item]
    validation: list[Item]


class Sides(NamedTuple):
    """The normalised prompts of both sides of the earlier version `version`."""

    version: str
    train: frozenset[str]
    validation: frozenset[str]


class Near(NamedTuple):
    """How near duplicates are found: `find` gives groups of places in a list of texts. `remove`: one row of a group is kept."""

    find: Callable[[Sequence[str]], list[list[int]]]
    remove: bool


_NOWHERE = Sides("", frozenset(), frozenset())


def normalise(text: str) -> str:
    """The form in which texts are compared: NFKC (Unicode UAX #15), case folded, runs of white space as one space."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def is_blank(text: str) -> bool:
    """Whether nothing of `text` would be seen: empty, white space, or invisible format characters only."""
    return not any(character.isprintable() and not character.isspace() for character in text)


def validate_and_split(source: SourceRows, split: SplitSpec, *, sides: Sides | None = None, near: Near | None = None) -> Split:
    """Drop empty rows, keep one copy of each normalised pair and of near duplicates as asked, and divide the groups of equal prompts.

    The same source and spec give the same items in the same order. Raises DatasetNoUsableRows, DatasetSplitEmpty, DatasetLeakage.
    """
    before = sides or _NOWHERE
    usable = [row for row in source.rows if not row.content.is_empty(is_blank)]
    if not usable:
        raise DatasetNoUsableRows(
            f"All {len(source.rows)} rows have a blank prompt or a blank completion.", next_step="Upload rows with text in both fields."
        )
    pairs = {row.line: (normalise(row.prompt), normalise(row.completion)) for row in usable}
    copies = Counter(pairs.values())
    first_copies = {pair: row for row in reversed(usable) for pair in (pairs[row.line],)}
    kept = [row for row in usable if first_copies[pairs[row.line]] is row]
    pinned_to_train = {prompt for (prompt, _), count in copies.items() if count > 1}
    alike = _alike(kept, pairs, near)
    if near is not None and near.remove:
        survivors = {row.line for group in alike for row in _survivors(group, pairs, before)}
        dropped = {row.line for group in alike for row in group} - survivors
        kept = [row for row in kept if row.line not in dropped]
        pinned_to_train |= {pairs[line][0] for line in survivors}
    train: list[Item] = []
    validation: list[Item] = []
    for row in kept:
        pair = pairs[row.line]
        drawn = pair[0] not in before.train and pair[0] not in pinned_to_train and _falls_below(split, pair[0])
        (validation if drawn or pair[0] in before.validation else train).append(Item(_item_id(pair), row))
    _refuse_an_empty_side(train, validation, groups=len({prompt for prompt, _ in copies}), split=split)
    _refuse_leakage(train, validation, pairs, copies, before)
    report = _report(source, pairs, copies, train, validation, split)
    further = _about_sides(validation, pairs, sides) | _about_near(train, validation, alike, near, report)
    return Split(report.model_copy(update=further), train, validation)


def _alike(kept: Sequence[Row], pairs: dict[int, tuple[str, str]], near: Near | None) -> list[list[Row]]:
    """Groups of rows that are nearly equal, question and answer together, each in the order of the source."""
    if near is None:
        return []
    return [[kept[place] for place in sorted(group)] for group in near.find(["\n".join(pairs[row.line]) for row in kept])]


def _survivors(group: Sequence[Row], pairs: dict[int, tuple[str, str]], before: Sides) -> list[Row]:
    """The rows of near duplicates that are kept: all that were validation; where none was, one that was train, else the first."""
    if asked := [row for row in group if pairs[row.line][0] in before.validation]:
        return asked
    return [next((row for row in group if pairs[row.line][0] in before.train), group[0])]


def as_json_lines(items: Iterable[Item]) -> Iterator[bytes]:
    """The bytes that are sealed: one canonical JSON object (RFC 8785) a line with the id, the content and the tags."""
    for item in items:
        yield canonical_json({**item.row.tags, "id": item.id, **item.row.content.sealed()}) + b"\n"


def _falls_below(split: SplitSpec, text: str) -> bool:
    """Whether the first 64 bits of SHA-256(seed NUL text), as a fraction of 2^64, lie below the validation fraction."""
    head = hashlib.sha256(f"{split.seed}\x00{text}".encode()).digest()[:8]
    return int.from_bytes(head, "big") < int(split.validation_fraction * 2**64)


def _item_id(pair: tuple[str, str]) -> str:
    return hashlib.sha256("\x00".join(pair).encode()).hexdigest()[:16]


def _refuse_an_empty_side(train: list[Item], validation: list[Item], *, groups: int, split: SplitSpec) -> None:
    if train and validation:
        return
    fraction = split.validation_fraction
    # The side of n groups stays empty with probability (1 - share)^n; the smaller share decides how many make that one in a hundred.
    share = min(fraction, 1 - fraction)
    needed = math.ceil(math.log(0.01) / math.log1p(-share))
    side = "training" if not train else "validation"
    raise DatasetSplitEmpty(
        f"The {side} side would be empty: {groups} distinct prompts at a validation fraction of {fraction:g}.",
        next_step=f"Upload at least {needed} rows with distinct prompts that are not duplicated, or choose another fraction.",
        details={"side": side, "distinct_prompts": groups, "needed": needed},
    )


def _refuse_leakage(
    train: list[Item], validation: list[Item], pairs: dict[int, tuple[str, str]], copies: Counter[tuple[str, str]], before: Sides
) -> None:
    seen = {pairs[item.row.line][0] for item in train}
    leaked = [
        i.row.line for i in validation
        # The single copy of what was validation before may stay there: no other is kept.
        if pairs[i.row.line][0] in seen or (copies[pairs[i.row.line]] > 1 and pairs[i.row.line][0] not in before.validation)
    ]  # fmt: skip
    if leaked:
        raise DatasetLeakage(
            f"{len(leaked)} validation items also occur in train.",
            next_step="Report this as a bug, with the dataset's digest.",
            details={"count": len(leaked), "lines": leaked[:_EXAMPLES]},
        )


def _report(
    source: SourceRows,
    pairs: dict[int, tuple[str, str]],
    copies: Counter[tuple[str, str]],
    train: list[Item],
    validation: list[Item],
    split: SplitSpec,
) -> DatasetReport:
    """The counts. `leakage_prevented` compares with a split that draws a side for each row by its line number."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for line, (prompt, _) in pairs.items():
        groups[prompt].append(line)
    torn = [lines[0] for lines in groups.values() if len({_falls_below(split, f"{line}") for line in lines}) > 1]
    answers = Counter(prompt for prompt, _ in copies)
    conflicting = [groups[prompt][0] for prompt, count in answers.items() if count > 1]
    firsts = {pair: line for line, pair in reversed(pairs.items())}
    findings = source.findings | {
        "empty_rows": [row.line for row in source.rows if row.line not in pairs],
        "duplicate_rows": [line for line, pair in pairs.items() if firsts[pair] != line],
        "conflicting_prompts": sorted(conflicting),
        "leakage_prevented": sorted(torn),
    }
    return DatasetReport(
        rows=len(source.rows),
        unique_pairs=len(copies),
        empty_rows=len(source.rows) - len(pairs),
        duplicate_rows=len(pairs) - len(copies),
        duplicated_pairs=sum(count > 1 for count in copies.values()),
        conflicting_prompts=len(conflicting),
        leakage_prevented=len(torn),
        train_rows=len(train),
        validation_rows=len(validation),
        characters=sum(len(item.row.prompt) + len(item.row.completion) for item in (*train, *validation)),
        categories=_by_category(source.rows, pairs, train, validation),
        examples={name: lines[:_EXAMPLES] for name, lines in findings.items() if lines},
        row_format=source.row_format,
        file_type=source.file_type,
    )


def _about_sides(validation: list[Item], pairs: dict[int, tuple[str, str]], sides: Sides | None) -> dict[str, object]:
    """What became of the earlier version's validation prompts."""
    if sides is None:
        return {}
    here = {pairs[item.row.line][0] for item in validation}
    return {
        "kept_validation_of": sides.version,
        "kept_validation_prompts": len(sides.validation & here),
        "lost_validation_prompts": len(sides.validation - here),
    }


def _about_near(
    train: list[Item], validation: list[Item], alike: list[list[Row]], near: Near | None, report: DatasetReport
) -> dict[str, object]:
    """How many rows are nearly equal to an earlier one, how many of those alike were taken out, and how many of validation are like one of train."""
    if near is None:
        return {}
    learnt, asked = {item.row.line for item in train}, {item.row.line for item in validation}
    leaks = [row.line for group in alike if any(row.line in learnt for row in group) for row in group if row.line in asked]
    # Which of a group stays is no matter of its order: what was validation before does.
    removed = [row.line for group in alike for row in group if row.line not in learnt | asked]
    found = {"near_duplicates": [row.line for group in alike for row in group[1:]], "near_removed": removed, "near_leaks": leaks}
    examples = {name: sorted(lines)[:_EXAMPLES] for name, lines in found.items() if lines}
    return {name: len(lines) for name, lines in found.items()} | {"examples": report.examples | examples}


def _by_category(
    rows: list[Row], pairs: dict[int, tuple[str, str]], train: list[Item], validation: list[Item]
) -> dict[str, dict[str, int]]:
    """Per category: its rows, its unique pairs, and how many of the kept copies stand on each side."""
    unique: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        category = row.tags.get("category", UNCATEGORISED)
        counts[category]["rows"] += 1
        if row.line in pairs:
            unique[category].add(pairs[row.line])
    for side, items in (("train", train), ("validation", validation)):
        for item in items:
            counts[item.row.tags.get("category", UNCATEGORISED)][side] += 1
    return {
        name: {"rows": c["rows"], "unique": len(unique[name]), "train": c["train"], "validation": c["validation"]}
        for name, c in sorted(counts.items())
    }
