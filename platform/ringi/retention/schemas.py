"""What the store holds and what was removed from it."""

from pydantic import Field

from ringi.storage.schemas import StoredKind
from ringi.web.schemas import Schema, Truth


class Amount(Schema):
    """How many, and how many bytes together."""

    count: int = 0
    bytes: int = 0


class UsageOut(Schema):
    """`blobs`: what the platform knows; `uploaded`: what users of your organisation sent; `open_uploads`: bytes of theirs on their way in."""

    store: str
    blobs: Amount
    uploaded: Amount
    open_uploads: Amount
    grace_s: float


class Collect(Schema):
    """`dry_run`: say what would be removed, and remove nothing."""

    dry_run: Truth = True


class CollectionOut(Schema):
    """What was removed, or would be, by kind: unused blobs, parts without a session, bytes that were never sealed, S3 uploads never completed.

    `complete` is false when the round ended at its limit and there may be more.
    """

    dry_run: bool
    grace_s: float
    removed: dict[StoredKind, Amount] = Field(default_factory=dict)
    complete: bool
