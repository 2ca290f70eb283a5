"""SHA-256 of streams, files and canonical JSON: the identity of every sealed thing in Ringi.

A `Digest` is the text `sha256:` + 64 lowercase hex. Canonical JSON is RFC 8785 (JCS), written by the `rfc8785` library.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import rfc8785
from pydantic import AfterValidator, Field

CHUNK_BYTES = 1024 * 1024
DIGEST_PATTERN = r"sha256:[0-9a-f]{64}"
_DIGEST = re.compile(DIGEST_PATTERN)


def parse_digest(text: str) -> str:
    """Return `text` when it is a digest; raises ValueError otherwise."""
    if not _DIGEST.fullmatch(text):
        raise ValueError("a digest is 'sha256:' followed by 64 lowercase hex characters")
    return text


# The pattern is for readers of a schema; the check is one place.
Digest = Annotated[str, AfterValidator(parse_digest), Field(json_schema_extra={"pattern": f"^{DIGEST_PATTERN}$"})]


def sha256_bytes(data: bytes) -> Digest:
    """Digest of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def chunks(stream: BinaryIO, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Read `stream` to its end in pieces of at most `size` bytes, so memory does not grow with the file."""
    while piece := stream.read(size):
        yield piece


def sha256_file(path: Path) -> Digest:
    """Digest of a file's content, streamed."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(document: Any) -> bytes:
    """RFC 8785 bytes of `document`; raises `rfc8785.CanonicalizationError` for what JSON cannot carry (NaN, ints past 2^53)."""
    return rfc8785.dumps(document)


def sha256_json(document: Any) -> Digest:
    """Digest of the canonical JSON of `document`."""
    return sha256_bytes(canonical_json(document))


def hex_of(digest: Digest) -> str:
    """The 64 hex characters of a digest."""
    return digest.removeprefix("sha256:")
