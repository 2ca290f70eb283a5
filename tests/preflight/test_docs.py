"""The document's table of the usual cases is what its command prints, and its list of codes is that of the checks."""

import re
from pathlib import Path

from benchmarks.estimate_usual_cases import table

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "preflight.md").read_text(encoding="utf-8")


def test_the_table_of_the_usual_cases_is_what_its_command_prints() -> None:
    shown = DOCUMENT.partition("<!-- usual cases -->\n")[2].partition("<!-- end -->")[0]
    assert shown.strip() == table()


def test_every_code_of_the_checks_is_in_the_document() -> None:
    source = (ROOT / "platform" / "ringi" / "preflight" / "checks.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'"(preflight_[a-z_]+)"', source))
    assert len(codes) > 15
    assert {code for code in codes if f"`{code}`" not in DOCUMENT} == set()
