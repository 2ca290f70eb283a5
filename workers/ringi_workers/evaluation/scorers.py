"""How an answer is compared with its reference. Pure; the scores are judged in `ringi.evaluation.verdict`."""

import re
import unicodedata

# Punctuation that carries meaning: C# is not C, 50% is not 50.
_KEPT = frozenset("#%&@")
# A decimal point between digits, and a minus sign that opens a number.
_NUMERIC = re.compile(r"(?<=\d)\.(?=\d)|(?<!\w)-(?=\d)")


def normalise(text: str) -> str:
    """NFKC (Unicode UAX #15), case folded, without white space, control characters and punctuation, Japanese punctuation included.

    A decimal point, a number's minus sign and # % & @ stay. NFKC makes full-width and half-width forms equal.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    numeric = {match.start() for match in _NUMERIC.finditer(folded)}
    return "".join(
        character
        for position, character in enumerate(folded)
        if position in numeric or character in _KEPT or unicodedata.category(character)[0] not in "PZC"
    )


def normalised_match(output: str, reference: str) -> bool | None:
    """Whether both texts are equal once normalised; None where nothing of the reference is left to compare with."""
    wanted = normalise(reference)
    return normalise(output) == wanted if wanted else None
