"""The numbers in a text, in figures of any width and in kanji (漢数字), and the scorer that compares them."""

import re
import unicodedata
from decimal import Decimal

from ringi.jobs.contracts.scorer_parameters import Numeric
from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.jobs.contracts.suites import Item
from ringi_workers.evaluation.grading.parts import TextScorer, Unscored, references

_DIGITS = {
    character: str(value)
    for value, characters in enumerate(("〇零", "一壱", "二弐", "三参", "四", "五", "六", "七", "八", "九"))
    for character in characters
}
_SMALL = {"十": 10, "拾": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10**4, "萬": 10**4, "億": 10**8, "兆": 10**12, "京": 10**16}
_ABOVE_SMALL, _ABOVE_LARGE = 10**4, 10**20
_FIGURES = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_PIECE = (
    rf"(?P<figures>{_FIGURES})|(?P<digits>[{''.join(_DIGITS)}]+(?:・[{''.join(_DIGITS)}]+)?)|(?P<power>[{''.join([*_SMALL, *_LARGE])}])"
)
_UNNAMED = re.sub(r"\?P<\w+>", "?:", _PIECE)
# A minus belongs to no word before it; ▲ is the minus of accounts. The possessive `++` keeps a long run from being tried in every division.
_NUMBER = re.compile(rf"(?P<minus>(?<![\w.])[-−▲△])?(?:(?P<exponent>(?:{_FIGURES})[eE][-+]?\d{{1,3}})(?!\w)|(?P<run>(?:{_UNNAMED})++))")
_PIECES = re.compile(_PIECE)
# Longer ones are no numbers that anyone meant.
_LONGEST = 100


def _pieces(run: str) -> list[Decimal | str]:
    """Figures and 二〇二六 as numbers, powers of ten as their characters."""
    found: list[Decimal | str] = []
    for match in _PIECES.finditer(run):
        if match["figures"]:
            found.append(Decimal(match["figures"].replace(",", "")))
        elif match["digits"]:
            found.append(Decimal("".join(_DIGITS.get(character, ".") for character in match["digits"])))
        else:
            found.append(match["power"])
    return found


def _value(pieces: list[Decimal | str]) -> Decimal | None:
    """十百千 inside a group, 万億兆京 that close one; the powers of a number that is written down fall. None where this is no number."""
    total, group, digit = Decimal(0), Decimal(0), None
    last_small, last_large = _ABOVE_SMALL, _ABOVE_LARGE
    for piece in pieces:
        if isinstance(piece, Decimal):
            if digit is not None:
                return None
            digit = piece
        elif piece in _SMALL:
            if _SMALL[piece] >= last_small:
                return None
            group += (Decimal(1) if digit is None else digit) * _SMALL[piece]
            last_small, digit = _SMALL[piece], None
        else:
            if _LARGE[piece] >= last_large or (not group and digit is None):
                return None
            total += (group + (digit or 0)) * _LARGE[piece]
            last_small, last_large, group, digit = _ABOVE_SMALL, _LARGE[piece], Decimal(0), None
    return total + group + (digit or 0)


def numbers(text: str) -> list[Decimal]:
    """All numbers of a text in their order. Units, currency and percent signs are passed over: 50% is 50, and 3万5千円 is 35000.

    A kanji that is a numeral and part of a word (一緒, 四国) counts as a number too: ask for a `marker` where answers are sentences.
    """
    found = []
    for match in _NUMBER.finditer(unicodedata.normalize("NFKC", text)):
        if len(match[0]) > _LONGEST:
            continue
        value = Decimal(match["exponent"].replace(",", "")) if match["exponent"] else _value(_pieces(match["run"]))
        if value is not None:
            found.append(-value if match["minus"] else value)
    return found


def _picked(told: Numeric, output: str) -> Decimal | None:
    text, pick = unicodedata.normalize("NFKC", output), told.pick
    if told.marker is not None:
        _, marker, text = text.rpartition(unicodedata.normalize("NFKC", told.marker))
        if not marker:
            return None
        pick = "first"
    found = numbers(text)
    if not found or (pick == "only" and len(set(found)) > 1):
        return None
    return found[-1] if pick == "last" else found[0]


def numeric(told: Numeric) -> TextScorer:
    """See `Numeric`. An answer without a number is wrong, a reference without one no reference."""

    def score(item: Item, output: str) -> float:
        wanted = [found[0] for reference in references(item) if (found := numbers(reference))]
        if not wanted:
            raise Unscored(ScoreProblem.REFERENCE_UNREADABLE, "no reference holds a number")
        said = _picked(told, output)
        if said is None:
            return 0.0
        absolute, relative = Decimal(str(told.absolute)), Decimal(str(told.relative))
        return float(any(abs(said - one) <= max(absolute, relative * abs(one)) for one in wanted))

    return score
