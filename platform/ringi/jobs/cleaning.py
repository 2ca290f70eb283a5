"""What a line of a job's log may hold: no control characters that steer a terminal, no secrets, a bounded length. Pure."""

import re
from collections.abc import Iterable

MAX_CHARACTERS = 4000
HIDDEN = "[hidden]"

# ECMA-48 control sequences (colours, cursor movement) and operating system commands (titles, links) with what they carry.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
# As in web.schemas.Text: line breaks and tabs are text, other controls and overrides of the writing direction are not.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SECRETS = (
    # This platform's tokens and those of the Hugging Face Hub.
    re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    # Passwords in URLs (RFC 3986 userinfo).
    re.compile(r"(?<=://)[^\s/:@]*:[^\s/@]+(?=@)"),
    # RFC 6750 and RFC 7617 credentials.
    re.compile(r"(?i)(?<=\bbearer )[A-Za-z0-9._~+/=-]{8,}|(?<=\bbasic )[A-Za-z0-9+/=]{8,}"),
    # Access keys of S3 and what looks like an assignment of a secret.
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(
        r"(?i)(?<![a-z])((?:password|passwd|secret|api[_-]?key|access[_-]?key|private[_-]?key|auth[_-]?token)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]{4,}"
    ),
)


def clean(text: str, *, secrets: Iterable[str] = ()) -> str:
    """`text` as it may be stored: `secrets` (this process's own) and what looks like one are hidden, the rest is printable."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    for pattern in _SECRETS:
        text = pattern.sub(lambda found: (found[1] if found.re.groups else "") + HIDDEN, text)
    text = _UNPRINTABLE.sub("\ufffd", text).rstrip()
    # A surrogate (an undecodable byte of a file name) cannot be stored as UTF-8.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}… ({len(text)} characters)"
