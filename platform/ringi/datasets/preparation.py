"""What a recipe does to a text, and what is counted of rows. Pure; between `reading.py` and `validation.py`.

Languages are not guessed from words, for which no library is light: the script of the letters is counted (Unicode character names). Japanese is
told by its kana; a text of Han characters alone may be Japanese or Chinese, and stays `han`.
"""

import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from ringi.datasets.contents import Document, Row, texts_in
from ringi.jobs.contracts.datasets import Lengths, Recipe

_BLANKS = re.compile(r"(?<=\S)[^\S\n]+(?=\S)")
_AT_ENDS = re.compile(r"[^\S\n]+(?=\n|\Z)")
_EMPTY_LINES = re.compile(r"\n{3,}")
_KANA = frozenset({"hiragana", "katakana"})
_SCRIPTS = {"cjk": "han", "kangxi": "han"}


class Prepared(NamedTuple):
    """Rows with their texts changed, and how many each step changed."""

    rows: list[Row]
    changed: dict[str, int]


def prepare(rows: Iterable[Row], recipe: Recipe) -> Prepared:
    """Fold widths or compatibility forms, then tidy white space, as the recipe says; tags stay as they are."""
    steps: dict[str, Callable[[str], str]] = {}
    if recipe.unicode != "keep":
        steps["unicode"] = folded_widths if recipe.unicode == "width" else _nfkc
    if recipe.white_space == "tidy":
        steps["white_space"] = tidied
    return apply_steps(rows, steps)


def apply_steps(rows: Iterable[Row], steps: dict[str, Callable[[str], str]]) -> Prepared:
    """Each step on every text of every row."""
    prepared: list[Row] = []
    changed: Counter[str] = Counter(dict.fromkeys(steps, 0))
    for row in rows:
        content = row.content
        for name, step in steps.items():
            after = content.mapped(step)
            changed[name] += after != content
            content = after
        prepared.append(row._replace(content=content))
    return Prepared(prepared, dict(changed))


def _nfkc(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def folded_widths(text: str) -> str:
    """Full-width Latin letters, figures and blanks become narrow, half-width kana wide (UAX #11); nothing else changes."""
    # Runs, because the voicing mark of half-width kana is a character of its own: ｶﾞ is ガ.
    runs = re.split(r"([\uff00-\uffef\u3000]+)", text)
    return "".join(_nfkc(run) if place % 2 else run for place, run in enumerate(runs))


def tidied(text: str) -> str:
    """One form of white space; the indentation of a line stays, since it says something in code and in lists."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _EMPTY_LINES.sub("\n\n", _AT_ENDS.sub("", _BLANKS.sub(" ", lines))).strip()


@lru_cache(maxsize=65536)
def _script_of(character: str) -> str | None:
    if not character.isalpha():
        return None
    name = unicodedata.name(character, "other").split(maxsplit=1)[0].lower()
    # FULLWIDTH LATIN CAPITAL LETTER A, HALFWIDTH KATAKANA LETTER A, CJK UNIFIED IDEOGRAPH-…
    if name in {"fullwidth", "halfwidth"}:
        name = unicodedata.name(character).split()[1].lower()
    return _SCRIPTS.get(name.partition("-")[0], name.partition("-")[0])


def script_of(text: str) -> str:
    """What a text is mostly written in: `japanese` where a tenth of its letters is kana, else its commonest script, `none` without letters."""
    counts = Counter(script for character in text if (script := _script_of(character)) is not None)
    if not counts:
        return "none"
    if sum(counts[one] for one in _KANA) * 10 >= counts.total():
        return "japanese"
    return max(sorted(counts), key=lambda one: counts[one])


def scripts_of(rows: Sequence[Row]) -> dict[str, int]:
    """Rows by script, the commonest first."""
    counts = Counter(script_of(" ".join(texts_in(_text_of(row)))) for row in rows)
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _text_of(row: Row) -> list[str]:
    messages = row.content.sealed().get("messages")
    return [message["content"] for message in messages] if messages else texts_in(row.content.sealed())


def lengths_of(rows: Sequence[Row]) -> dict[str, Lengths]:
    """Lengths in characters of what is asked and what is answered; of documents alone of their text."""
    if not rows:
        return {}
    if all(isinstance(row.content, Document) for row in rows):
        return {"text": _lengths([len(row.prompt) for row in rows])}
    return {"prompt": _lengths([len(row.prompt) for row in rows]), "completion": _lengths([len(row.completion) for row in rows])}


def _lengths(counts: list[int]) -> Lengths:
    ordered = sorted(counts)
    return Lengths(median=statistics.median_low(ordered), p95=ordered[(len(ordered) - 1) * 95 // 100], longest=ordered[-1])
