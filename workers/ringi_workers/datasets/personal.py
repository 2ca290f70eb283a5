"""Personal data in the rows of an upload: counted, taken out, or a reason to seal nothing. What counts as such is `personal_data.py`."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, NamedTuple

from ringi.datasets.contents import Row, texts_in
from ringi.jobs.contracts.datasets import Recipe
from ringi.kit.errors import InvalidInput
from ringi_workers.personal_data import places, redacted

_EXAMPLES = 5


class PersonalLine(NamedTuple):
    """A line of the upload and the kinds of personal data in it."""

    line: int
    kinds: Sequence[str]


class DatasetPersonalData(InvalidInput):
    """Rows hold what looks like personal data, and the recipe or the project refuses that. `details` has lines and kinds, never the text."""

    code: ClassVar[str] = "dataset_personal_data"

    def __init__(self, rows: int, lines: Sequence[PersonalLine]) -> None:
        first = "; ".join(f"line {one.line}: {', '.join(one.kinds)}" for one in lines)
        super().__init__(
            f"{rows} rows hold what looks like personal data ({first}).",
            next_step="Take it out, or have it taken out: ringi datasets add … --personal-data redact.",
            details={"count": rows, "lines": [{"line": one.line, "kinds": list(one.kinds)} for one in lines]},
        )


class Looked(NamedTuple):
    """The rows that go on, how many were changed, rows by kind (None: not looked for), and the first lines of each kind."""

    rows: list[Row]
    changed: dict[str, int]
    by_kind: dict[str, int] | None
    lines: dict[str, list[int]]


def look(rows: list[Row], recipe: Recipe) -> Looked:
    """Do what the recipe says about personal data in contents and tags. Raises DatasetPersonalData."""
    if recipe.personal_data == "ignore":
        return Looked(rows, {}, None, {})
    by_kind: Counter[str] = Counter()
    found: list[PersonalLine] = []
    for row in rows:
        texts = [*texts_in(row.content.sealed()), *row.tags.values()]
        if kinds := sorted({one.kind for text in texts for one in places(text, recipe.personal_kinds)}):
            by_kind.update(kinds)
            found.append(PersonalLine(row.line, kinds))
    if found and recipe.personal_data == "refuse":
        raise DatasetPersonalData(len(found), found[:_EXAMPLES])
    lines = {kind: [one.line for one in found if kind in one.kinds][:_EXAMPLES] for kind in sorted(by_kind)}
    if recipe.personal_data == "report":
        return Looked(rows, {}, dict(sorted(by_kind.items())), lines)
    redact = partial(redacted, kinds=recipe.personal_kinds)
    cleaned = [
        row._replace(content=row.content.mapped(redact), tags={name: redact(value) for name, value in row.tags.items()}) for row in rows
    ]
    changed = sum(one != other for one, other in zip(rows, cleaned, strict=True))
    return Looked(cleaned, {"redacted": changed}, dict(sorted(by_kind.items())), lines)
