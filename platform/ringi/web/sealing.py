"""Encrypt an answer that holds a secret under the caller's own bearer token, so that no plaintext secret lies in the database.

The key is HKDF-SHA-256 (RFC 5869) of the bearer with a random salt; the cipher is AES-256-GCM with the request's fingerprint as associated
data. The database knows only the SHA-256 of a token, so neither it nor its backup can open what is sealed here.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_SALT_BYTES, _NONCE_BYTES, _KEY_BYTES = 16, 12, 32
_PURPOSE = b"ringi kept answer 1"


class WrongBearer(Exception):
    """It was sealed under another token, or it is not what was sealed."""


def _cipher(bearer: str, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=_PURPOSE).derive(bearer.encode()))


def seal(body: bytes, *, bearer: str, about: str) -> bytes:
    """Salt, nonce and ciphertext; only the same bearer opens it, and only as the answer to `about`."""
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    return salt + nonce + _cipher(bearer, salt).encrypt(nonce, body, about.encode())


def unseal(sealed: bytes, *, bearer: str, about: str) -> bytes:
    """The body; raises WrongBearer."""
    salt, nonce, content = sealed[:_SALT_BYTES], sealed[_SALT_BYTES : _SALT_BYTES + _NONCE_BYTES], sealed[_SALT_BYTES + _NONCE_BYTES :]
    try:
        return _cipher(bearer, salt).decrypt(nonce, content, about.encode())
    except InvalidTag:
        raise WrongBearer from None
