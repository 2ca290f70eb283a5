"""The support matrix of docs/training-methods.md, made from the tests of test_methods.py that ran: `python tests/training/method_matrix.py`."""

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "training-methods.md"
BEGIN, END = "<!-- matrix -->\n", "<!-- end -->"
# What a test shows of a method on a shape; a mark needs all that stand beside it.
MARKS = {"●": {"trains", "outputs", "resumes", "refuses"}, "○": {"trains", "outputs"}}
# (method, shape, what was shown), by the tests of this process that passed.
SHOWN: set[tuple[str, str, str]] = set()


def table(methods: Iterable[str], shapes: Iterable[str], shown: Iterable[tuple[str, str, str]]) -> str:
    """The table in Markdown; a dash where a test did not pass."""
    columns, passed = list(shapes), set(shown)
    lines = [["method", *columns], ["---"] * (len(columns) + 1)]
    for method in methods:
        cells = []
        for shape in columns:
            here = {what for one, other, what in passed if (one, other) == (method, shape)}
            cells.append(next((mark for mark, needed in MARKS.items() if needed <= here), "–"))
        lines.append([method, *cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def in_the_docs() -> str:
    """The table as it stands there."""
    return PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]


def main() -> int:
    """Run the tests, and write what they showed; the test that holds the page to it is left out."""
    ended = pytest.main(["-q", "-p", "no:xdist", str(Path(__file__).with_name("test_methods.py")), "-k", "not the_matrix"])
    module = next(one for name, one in sys.modules.items() if name.endswith("test_methods"))
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    made = table(module.METHODS, module.SHAPES, module.SHOWN)
    PAGE.write_text(before + BEGIN + made + END + rest.split(END)[1], encoding="utf-8")
    print(made)
    return int(ended)


if __name__ == "__main__":
    sys.exit(main())
