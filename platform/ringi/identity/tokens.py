"""The text of a token: `hf_rgi` + 43 base62 digits of 256 random bits + 6 base62 digits of CRC-32 over what stands before.

The form follows what hub clients accept (llama.cpp drops a token with a further underscore, others want `hf_` and 34 alphanumerics);
the checksum lets a secret scanner and the CLI recognise a mistyped token without asking the server.
"""

import hashlib
import secrets
import string
import zlib

PREFIX = "hf_rgi"
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_DIGITS, _CHECK_DIGITS = 43, 6


def _base62(value: int, digits: int) -> str:
    text = ""
    for _ in range(digits):
        value, rest = divmod(value, 62)
        text = _ALPHABET[rest] + text
    return text


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()), _CHECK_DIGITS)


def draw() -> str:
    """A new token's secret."""
    text = PREFIX + _base62(secrets.randbits(256), _RANDOM_DIGITS)
    return text + _checksum(text)


def well_formed(token: str) -> bool:
    """Whether prefix, length and checksum are right; says nothing about whether it was ever issued."""
    length = len(PREFIX) + _RANDOM_DIGITS + _CHECK_DIGITS
    return (
        len(token) == length
        and token.startswith(PREFIX)
        and token.isascii()
        and _checksum(token[:-_CHECK_DIGITS]) == token[-_CHECK_DIGITS:]
    )


def hashed(token: str) -> str:
    """What is stored: SHA-256 in hex. The secret has 256 random bits, so it needs no salt and no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()
