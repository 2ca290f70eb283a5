"""What can stand behind a name: a number (`v3`, `r2`), a digest, a hub commit, or a word that moves (`latest`, a channel) with or without a time."""

import re
from datetime import datetime
from typing import NamedTuple

from ringi.web.as_of import BadAsOf, past

# Nine digits fit an int4.
_NUMBER = re.compile(r"([a-z])([0-9]{1,9})")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FIXED = re.compile(rf"[vr][0-9]+|sha256:.*|{_COMMIT.pattern}")


class Moment(NamedTuple):
    """A moving word and when it is asked for; None is now."""

    word: str
    at: datetime | None


def number_of(selector: str, letter: str) -> int | None:
    """3 for `v3`; None for everything else, also another letter."""
    found = _NUMBER.fullmatch(selector)
    return int(found[2]) if found is not None and found[1] == letter else None


def digest_start(selector: str) -> str | None:
    """How the digest begins that a `sha256:…` or a hub commit (its first 40 hex characters) names; None for everything else."""
    if _COMMIT.fullmatch(selector):
        return f"sha256:{selector}"
    return selector if _DIGEST.fullmatch(selector) else None


def moment_of(selector: str) -> Moment:
    """`latest`, `production@2026-11-01`. Raises BadAsOf for no time, one to come, or behind something that never moves."""
    word, at, time = selector.partition("@")
    if not at:
        return Moment(word, None)
    if not word or _FIXED.fullmatch(word):
        raise BadAsOf(selector, f"'{word}' always means the same")
    return Moment(word, past(time, of=word))
