"""What looks like personal data in a text, and where: e-mail, payment cards, telephones, My Number, postal codes of Japan.

Numbers with a check digit count only where it is right, so that order numbers are seldom taken for cards; a made-up number that obeys the rule
counts all the same. Names and street addresses are not looked for. A scorer reads answers with it (evaluation/grading/personal.py), and the
preparation of datasets redacts with it (datasets/personal.py).
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from ringi.jobs.contracts.scorer_parameters import PersonalKind

_PATTERNS: dict[PersonalKind, re.Pattern[str]] = {
    "email": re.compile(
        r"(?<![\w.+-])[a-z0-9][\w.+%-]{0,63}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,4}[a-z]{2,24}(?![\w-])", re.ASCII
    ),
    # ISO/IEC 7812: 13 to 19 digits, the last is Luhn's.
    "card": re.compile(r"(?<![\d-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\d-])"),
    # ITU-T E.164: + and 8 to 15 digits; those of Japan are of the next kind.
    "phone": re.compile(r"(?<![\w+])\+(?!81)[1-9](?:[ .()-]{0,2}\d){7,14}(?![\d-])"),
    # The numbering plan of the Ministry of Internal Affairs: 0 and 9 or 10 digits more, or +81 in the place of the 0.
    "phone_jp": re.compile(r"(?<![\d-])(?:\(?0\d{1,4}\)?[ .-]?|\+81[ .-]?\(?0?\)?\d{1,4}[ .-]?)\(?\d{1,4}\)?[ .-]?\d{3,4}(?![\d-])"),
    "my_number": re.compile(r"(?<![\d-])(?<!\d )\d{4}[ -]?\d{4}[ -]?\d{4}(?! ?[\d-])"),
    "postal_code_jp": re.compile(r"〒 ?\d{3}-?\d{4}(?!\d)|(?<![\da-z-])\d{3}-\d{4}(?![\da-z-])"),
}
# RFC 2606: names that are nobody's.
_NOBODYS = re.compile(r"[@.](?:example\.(?:com|net|org)|example|test|invalid|localhost)$")
# Full-width figures and every dash that people write a telephone number with.
_DASHES = re.compile(r"[‐‑‒–—―−ー](?=\d)")
_PHONE_DIGITS = (10, 11)
# Lines of the mobile and the IP networks, and the free ones, may be written without a hyphen; of others a bare row of ten digits says nothing.
_BARE_PHONE = re.compile(r"0[5789]0\d{8}|0120\d{6}")


class Find(NamedTuple):
    """One find: its kind, how it is written once folded, and where it stands in the text that was searched."""

    kind: PersonalKind
    written: str
    start: int
    end: int


def luhn(digits: str) -> bool:
    """Whether the last digit is right (ISO/IEC 7812-1, annex B)."""
    doubled = (int(one) * (2 if place % 2 else 1) for place, one in enumerate(reversed(digits)))
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0  # noqa: PLR2004 - the digits of two figures are added


def my_number(digits: str) -> bool:
    """Whether the check digit of an Individual Number is right (Ordinance 85 of the Ministry of Internal Affairs, 2014, article 5)."""
    body, check = [int(one) for one in reversed(digits[:-1])], int(digits[-1])
    weighted = sum(value * (place + 1 if place <= 6 else place - 5) for place, value in enumerate(body, 1))  # noqa: PLR2004 - weights 2…7, 2…6
    remainder = weighted % 11
    return check == (0 if remainder <= 1 else 11 - remainder)


def _counts(kind: PersonalKind, written: str) -> bool:
    digits = re.sub(r"\D", "", written)
    if kind == "email":
        return _NOBODYS.search(written) is None
    if kind == "card":
        return luhn(digits) and len(set(digits)) > 1
    if kind == "my_number":
        return my_number(digits) and len(set(digits)) > 1
    if kind == "phone_jp":
        national = "0" + digits[2:].removeprefix("0") if written.startswith("+81") else digits
        return len(national) in _PHONE_DIGITS and (national != written or _BARE_PHONE.fullmatch(national) is not None)
    return True


def folded(text: str) -> str:
    """The form in which texts are searched: NFKC, one dash before figures, case folded."""
    return _DASHES.sub("-", unicodedata.normalize("NFKC", text)).casefold()


def finds(plain: str, kinds: tuple[PersonalKind, ...]) -> Iterator[Find]:
    """What stands in a folded text, kind by kind."""
    for kind in kinds:
        for match in _PATTERNS[kind].finditer(plain):
            if _counts(kind, match[0]):
                yield Find(kind, match[0], match.start(), match.end())


def places(text: str, kinds: tuple[PersonalKind, ...]) -> list[Find]:
    """The same of a text as it is written, with the places that it has there; of those that overlap the one that begins first and is longest."""
    if not text.isascii():
        # Character by character, so that each knows where it came from; what NFKC would compose is no part of any pattern.
        pieces = [folded(character) for character in text]
        origins = [place for place, piece in enumerate(pieces) for _ in piece]
        plain = _DASHES.sub("-", "".join(pieces))
    else:
        origins, plain = list(range(len(text))), text.casefold()
    found: list[Find] = []
    for one in sorted(finds(plain, kinds), key=lambda one: (one.start, -one.end)):
        start, end = origins[one.start], origins[one.end - 1] + 1
        if not found or start >= found[-1].end:
            found.append(one._replace(start=start, end=end))
    return found


def redacted(text: str, kinds: tuple[PersonalKind, ...]) -> str:
    """The text with `[email]`, `[phone_jp]` and so on in the place of what was found; all else stays as it is."""
    for one in reversed(places(text, kinds)):
        text = f"{text[: one.start]}[{one.kind}]{text[one.end :]}"
    return text
