"""Patterns of a task of lm-evaluation-harness: written for Python's `re`, run by RE2. Pure.

Python's `re` goes back and forth, for some patterns and texts for ever, and holds the whole process while it does. RE2 takes time that is linear in the
text (https://github.com/google/re2/wiki/Syntax) and lets other threads run. What the two read differently is translated, or refused.
"""

import re
from collections.abc import Iterator
from typing import Any

import re2

MAX_PATTERN = 1000
# No text that a template or a replacement makes is longer, in characters.
MAX_TEXT = 1_000_000
# What a compiled pattern may hold, in bytes: what it costs at each character is bounded with it.
_MEMORY, _MEMORY_OF_THE_LIBRARY = 2**20, 8 * 2**20
# Of Python, for texts: str.isalnum and "_", str.isdecimal, str.isspace. RE2's own know ASCII alone.
_WORD, _FIGURE = r"\p{L}\p{N}_", r"\p{Nd}"
_SPACES = (
    (0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F),
    (0x205F, 0x205F), (0x3000, 0x3000),
)  # fmt: skip
_ENDS = (-1, *(end for pair in _SPACES for end in pair), 0x110000)
_SPACE = "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in _SPACES)
_NO_SPACE = "".join(rf"\x{{{first + 1:x}}}-\x{{{last - 1:x}}}" for first, last in zip(_ENDS[::2], _ENDS[1::2], strict=True))
_OUTSIDE = {
    r"\w": f"[{_WORD}]", r"\W": f"[^{_WORD}]", r"\d": _FIGURE, r"\D": r"\P{Nd}", r"\s": f"[{_SPACE}]", r"\S": f"[{_NO_SPACE}]", r"\Z": r"\z",
    "{,": "{0,",
}  # fmt: skip
_INSIDE = {r"\w": _WORD, r"\d": _FIGURE, r"\D": r"\P{Nd}", r"\s": _SPACE, r"\S": _NO_SPACE, r"\b": r"\x08", "[": r"\["}
_STEP = re.compile(r"\\(?:u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)|\[\^?\]?|\{,(?=[0-9]+\})|.", re.DOTALL)
_STEP_INSIDE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)|.", re.DOTALL)
_REFERENCE = re.compile(r"\\(?:g<(\w+)>|([1-9][0-9]?)|(.))", re.DOTALL)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


class WordsRefused(ValueError):
    """A template or a pattern that does more than it may; says what."""


def check_pattern(pattern: str) -> None:
    """A pattern of Python that RE2 can run. Raises WordsRefused."""
    if len(pattern) > MAX_PATTERN:
        raise WordsRefused(f"a pattern has at most {MAX_PATTERN} characters")
    compiled(pattern, memory=_MEMORY)


def compiled(pattern: str, *, memory: int = _MEMORY_OF_THE_LIBRARY) -> Any:
    """RE2's pattern for a pattern of Python. Raises WordsRefused."""
    options = re2.Options()
    options.max_mem, options.log_errors = memory, False
    try:
        re.compile(pattern)
        return re2.compile(translated(pattern), options)
    except (re.error, RecursionError, OverflowError) as error:
        raise WordsRefused(f"'{pattern[:80]}' is no pattern: {error}") from None
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
        raise WordsRefused(
            f"'{pattern[:80]}' cannot be run in linear time (RE2: {why}); it has no lookahead, lookbehind or references to groups"
        ) from None


def translated(pattern: str) -> str:
    r"""The pattern in RE2's words. `$` is the very end of a text, and `\b` knows words of ASCII. Raises WordsRefused."""
    steps = list(_steps(pattern))
    escapes = {step for step, _ in steps}
    if escapes & {r"\b", r"\B"} and (escapes & {r"\w", r"\W"} or not pattern.isascii()):
        raise WordsRefused(f"'{pattern[:80]}' has '\\b', which here knows words of ASCII alone, beside other letters or '\\w'")
    found = []
    for step, inside in steps:
        if inside and step == r"\W":
            raise WordsRefused(f"'{pattern[:80]}' has '\\W' within brackets")
        if step[:2] in {r"\u", r"\U"}:
            found.append(rf"\x{{{step[2:]}}}")
        else:
            found.append((_INSIDE if inside else _OUTSIDE).get(step, step))
    return "".join(found)


def _steps(pattern: str) -> Iterator[tuple[str, bool]]:
    """Characters and escapes, and whether each stands within brackets; the brackets themselves do not."""
    place, inside = 0, False
    while place < len(pattern):
        step = (_STEP_INSIDE if inside else _STEP).match(pattern, place)
        if step is None:
            raise WordsRefused(f"'{pattern[:80]}' ends in a backslash")
        place, text = step.end(), step[0]
        ends = inside and text == "]"
        yield text, inside and not ends
        inside = not ends if inside else text[0] == "["


def replaced(pattern: str, replacement: str, text: str, count: int = 0, *, most: int = MAX_TEXT) -> str:
    """`re.sub` with a text as replacement. Raises WordsRefused, also where more than `most` characters come out."""
    pieces: list[str] = []
    done = size = 0
    for number, match in enumerate(compiled(pattern).finditer(text), start=1):
        pieces += [text[done : match.start()], _REFERENCE.sub(lambda found: _said(found, match), replacement)]  # noqa: B023  # called at once
        size, done = size + len(pieces[-1]) + len(pieces[-2]), match.end()
        if size > most:
            raise WordsRefused(f"a replacement makes more than {most} characters")
        if number == count:
            break
    return "".join([*pieces, text[done:]])


def _said(found: "re.Match[str]", match: Any) -> str:
    name, number, letter = found.groups()
    if letter is not None:
        return _LETTERS.get(letter, found[0])
    which = number or name
    try:
        return str(match.group(int(which) if which.isdecimal() else which) or "")
    except IndexError:
        raise WordsRefused(f"a replacement names the group '{which}', which the pattern has not") from None


class Patterns:
    """What the library's filters and metrics use of `re`, done by RE2."""

    compile = staticmethod(compiled)
    escape = staticmethod(re.escape)
    sub = staticmethod(replaced)
