"""The support matrices of docs/training-methods.md, made from the tests of test_methods.py and test_classes.py that ran: `python tests/training/method_matrix.py`."""

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "training-methods.md"
BEGIN, CLASS_BEGIN, END = "<!-- matrix -->\n", "<!-- matrix of classifiers -->\n", "<!-- end -->"
# What a test shows of a method on a shape; a mark needs all that stand beside it.
MARKS = {"●": {"trains", "outputs", "resumes", "refuses"}, "○": {"trains", "outputs"}}
# (method, shape, what was shown), by the tests of this process that passed.
SHOWN: set[tuple[str, str, str]] = set()
SHOWN_OF_CLASSES: set[tuple[str, str, str]] = set()


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


def cells(made: str) -> dict[tuple[str, str], str]:
    """The mark of each method and shape in a table."""
    (_, *shapes), _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in made.splitlines())
    return {(method, shape): mark for method, *marks in rows for shape, mark in zip(shapes, marks, strict=True)}


def in_the_docs(begin: str = BEGIN) -> dict[tuple[str, str], str]:
    """The marks as they stand there."""
    return cells(PAGE.read_text(encoding="utf-8").split(begin)[1].split(END)[0])


def main() -> int:
    """Run the tests, and write what they showed; the test that holds the page to it is left out."""
    asked = [str(Path(__file__).with_name(f"{name}.py")) for name in ("test_methods", "test_classes")]
    ended = pytest.main(["-q", "-p", "no:xdist", "-m", "", *asked, "-k", "not the_matrix"])
    for name, begin, shown in (("test_methods", BEGIN, "SHOWN"), ("test_classes", CLASS_BEGIN, "SHOWN_OF_CLASSES")):
        module = next(one for known, one in sys.modules.items() if known.endswith(name))
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
        made = table(module.METHODS, module.SHAPES, getattr(module, shown))
        PAGE.write_text(before + begin + made + END + rest.partition(END)[2], encoding="utf-8")
        print(made)
    return int(ended)


if __name__ == "__main__":
    sys.exit(main())
