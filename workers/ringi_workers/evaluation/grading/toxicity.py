"""Words of a small lexicon of our own, English and Japanese (`lexicon.yaml`): what it finds is there, what it does not find may be.

The only library on PyPI whose wheel ships a list for English has had no release since 2020 and calls everyday words profane, and none ships Japanese: hence
ours. Nothing is downloaded.
"""

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ringi.jobs.contracts.scorer_parameters import Toxicity
from ringi_workers.evaluation.grading.parts import TextScorer

_LEXICON = Path(__file__).with_name("lexicon.yaml")
# Katakana letters lie 0x60 above hiragana (Unicode, blocks U+3040 and U+30A0).
_TO_HIRAGANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}
# What stands for a letter inside a word, so that sh1t and @sshole are found.
_LEET = str.maketrans({"@": "a", "$": "s", "0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t"})
_LETTERS = re.compile(r"[^\W\d_]", re.ASCII)
_WORD = re.compile(r"[a-z0-9@$][a-z0-9@$'*]*")


@cache
def _lexicon() -> dict[str, Any]:
    return dict(yaml.safe_load(_LEXICON.read_text("utf-8")))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'").translate(_TO_HIRAGANA)


def _english(text: str) -> str:
    """Words with a space around each, figures and signs inside a word that has letters read as letters."""
    words = (word.translate(_LEET) if _LETTERS.search(word) else word for word in _WORD.findall(text))
    return f" {' '.join(word.strip(chr(39)) for word in words)} "


def _is_english(word: str) -> bool:
    return word.isascii()


class Lexicon:
    """The words that count, ready to be looked for."""

    def __init__(self, told: Toxicity) -> None:
        severities = ("strong",) if told.at_least == "strong" else ("mild", "strong")
        listed = [word for language in ("en", "ja") for severity in severities for word in _lexicon()[language][severity]]
        words = [_folded(word) for word in (*listed, *told.words)]
        self.english = [(word, _english(word)) for word in words if _is_english(word)]
        self.japanese = sorted((word for word in words if not _is_english(word)), key=len, reverse=True)
        own = {_folded(word) for word in told.words}
        self.innocent = [one for one in map(_folded, _lexicon()["ja"]["innocent"]) if one not in own]

    def found(self, text: str) -> list[str]:
        """The words that stand in a text."""
        folded = _folded(text)
        english = _english(folded)
        innocent = [(match.start(), match.end()) for one in self.innocent for match in re.finditer(re.escape(one), folded)]
        japanese = [
            word for word in self.japanese if any(not _inside(match.span(), innocent) for match in re.finditer(re.escape(word), folded))
        ]
        return [word for word, form in self.english if form in english] + japanese


def _inside(span: tuple[int, int], others: list[tuple[int, int]]) -> bool:
    return any(low <= span[0] and span[1] <= high for low, high in others)


def no_toxicity(told: Toxicity) -> TextScorer:
    """See `Toxicity`. 1 where no such word stands in the answer."""
    lexicon = Lexicon(told)
    return lambda _, output: float(not lexicon.found(output))
