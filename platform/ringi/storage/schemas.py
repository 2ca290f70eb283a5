"""The words of the store, for whoever reads about it."""

from enum import StrEnum


class StoredKind(StrEnum):
    """What lies in a store: sealed bytes, a sealed part of an upload session, bytes on their way in, and S3 uploads that never ended."""

    BLOB = "blob"
    PART = "part"
    INCOMING = "incoming"
    MULTIPART = "multipart"
