"""Free-text search that works for Japanese: texts are compared in one folded form, and a word matches wherever it stands.

Folding is Unicode NFKC (UAX 15: full-width letters and half-width kana become the ordinary ones) and full case folding. Both are done by
PostgreSQL, on stored texts and on what is asked for alike, so that no two Unicode tables can disagree (docs/decisions/0008).
"""

import unicodedata
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, collate, func, literal_column, or_
from sqlalchemy.orm import InstrumentedAttribute

MAX_WORDS = 8


def folded(text: ColumnElement[Any] | InstrumentedAttribute[Any]) -> ColumnElement[str]:
    """`text` in the form in which texts are compared."""
    return func.casefold(collate(func.normalize(text, literal_column("NFKC")), "pg_unicode_fast"))


def contains(folded_text: ColumnElement[str], part: str) -> ColumnElement[bool]:
    """Whether `part` stands anywhere in a folded text. No pattern is made of it, so `%` and `_` are ordinary characters."""
    return func.strpos(folded_text, folded(bindparam(None, part))) > 0


def words_of(text: str) -> list[str]:
    """What is looked for: words apart by any white space, also the ideographic one."""
    return unicodedata.normalize("NFKC", text).split()


def matches(texts: tuple[ColumnElement[str], ...], words: list[str]) -> ColumnElement[bool]:
    """Every word stands in one of the texts."""
    return and_(*(or_(*(contains(text, word) for text in texts)) for word in words))
