"""What a line of a job's log may hold: no control characters that steer a terminal, no secrets, a bounded length. Pure."""

import re
from collections.abc import Collection
from typing import Any

from ringi.observe.redaction import redact

MAX_CHARACTERS = 4000

# ECMA-48 control sequences (colours, cursor movement) and operating system commands (titles, links) with what they carry.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
# As in web.schemas.Text: line breaks and tabs are text, other controls and overrides of the writing direction are not.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str, *, secrets: Collection[str] = ()) -> str:
    """`text` as it may be stored: `secrets` (this process's own) and what looks like one are hidden, the rest is printable."""
    # Colours may stand in the middle of a secret: they go first.
    text = redact(_ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")), secrets)
    text = _UNPRINTABLE.sub("\ufffd", text).rstrip()
    # A surrogate (an undecodable byte of a file name) cannot be stored as UTF-8.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}… ({len(text)} characters)"


def clean_document(value: Any, *, secrets: Collection[str] = ()) -> Any:
    """The same for every text of a JSON document, at whatever depth."""
    if isinstance(value, str):
        return clean(value, secrets=secrets)
    if isinstance(value, dict):
        return {clean(str(name), secrets=secrets): clean_document(one, secrets=secrets) for name, one in value.items()}
    return [clean_document(one, secrets=secrets) for one in value] if isinstance(value, list | tuple) else value
