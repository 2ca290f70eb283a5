"""The canonical record of an origin, and how large it may be. Pure, so that an import can ask before it moves anything."""

from typing import Any

from ringi.kit.digests import canonical_json
from ringi.kit.errors import InvalidInput
from ringi.origins.schemas import RecordOrigin

MAX_RECORD_BYTES = 512 * 1024


class OriginTooLarge(InvalidInput):
    """Tags, metrics and parameters together are more than a record holds."""

    code = "origin_too_large"

    def __init__(self, size: int) -> None:
        super().__init__(
            f"The origin has {size} bytes as JSON; at most {MAX_RECORD_BYTES} are kept.",
            next_step="Shorten the longest tags or parameters in the other system.",
            details={"size": size, "limit": MAX_RECORD_BYTES},
        )


def document_of(origin: RecordOrigin) -> dict[str, Any]:
    """The JSON document whose digest names the origin; raises OriginTooLarge."""
    document = origin.model_dump(mode="json")
    if (size := len(canonical_json(document))) > MAX_RECORD_BYTES:
        raise OriginTooLarge(size)
    return document
