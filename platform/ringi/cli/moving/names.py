"""From the name that a thing has elsewhere to the name of an adapter here. Pure: the same name always gives the same one.

NFKC and lower case; every run of characters that a name may not hold becomes one '-'. Where letters or digits were lost in that (Japanese),
nothing was left, or the result is too long, eight hex characters of the SHA-256 of the whole name make it its own again.
"""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

from ringi.cli.errors import Usage
from ringi.cli.references import check_name

MAX_NAME = 63
_HASH = 8
_OTHER = re.compile(r"[^a-z0-9._-]+")
_SEPARATORS = re.compile(r"[._-]{2,}")


class BadRename(Usage):
    """A `--rename` that is not OLD=NEW, or that names one thing twice."""

    code = "bad_rename"

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"The rename '{text[:200]}' cannot be used: {reason}.", next_step="Write it like this: --rename 'FAQ Bot=faq'.")


def adapter_name(external: str) -> str:
    """A valid adapter name for any name."""
    folded = unicodedata.normalize("NFKC", external).casefold()
    name = _SEPARATORS.sub("-", _OTHER.sub("-", folded)).strip("._-")
    lost = any(character.isalnum() and not character.isascii() for character in folded)
    if name and not lost and len(name) <= MAX_NAME and not name.endswith(".git"):
        return name
    stem = name[: MAX_NAME - _HASH - 1].rstrip("._-") or "model"
    return f"{stem}-{hashlib.sha256(external.encode()).hexdigest()[:_HASH]}"


def parse_renames(given: Iterable[str]) -> dict[str, str]:
    """`OLD=NEW` options by the old name; the last '=' parts them, as a name here holds none. Raises BadRename, BadReference."""
    renames: dict[str, str] = {}
    for text in given:
        old, equals, new = text.rpartition("=")
        if not equals or not old:
            raise BadRename(text, "it has no '=' between the old and the new name")
        if old in renames:
            raise BadRename(text, "the same name is renamed twice")
        renames[old] = check_name(new, what="adapter")
    return renames


def collisions(names: Mapping[str, str]) -> dict[str, list[str]]:
    """Of a mapping from external names to names here: what several external names would share, with who they are."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for external, name in names.items():
        by_name[name].append(external)
    return {name: sorted(externals) for name, externals in by_name.items() if len(externals) > 1}
