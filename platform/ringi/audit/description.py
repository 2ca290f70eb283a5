"""What a bundle says of itself in `bundle.json`. Its form is checked here, its truth by `verify.py` and `records.py`. Pure.

`organization` names the organisation whose part of the log the bundle shows, null for the whole log. `withheld` lists the entries that are
left out because they belong to others: closed ranges [first, last] of leaf indexes, sorted, with at least one leaf between two of them.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeGuard

import rfc8785

from ringi.audit.container import BundleFile, BundleInvalid
from ringi.audit.findings import VerifyReport
from ringi.audit.note import Checkpoint, VerifierKey

FORMAT = "ringi-audit-bundle/2"
MAX_DESCRIPTION_BYTES = 64 * 1024 * 1024
_KEYS = {"format", "origin", "size", "vkey", "organization", "withheld", "record_types", "unsealed"}


class Description(NamedTuple):
    """`unsealed`: (type, id) of the objects whose records wait for a later export."""

    organization: str | None
    withheld: list[list[int]]
    record_types: set[str]
    unsealed: list[tuple[str, str]]

    def withheld_leaves(self) -> Iterator[int]:
        """Every withheld leaf index, ascending."""
        for first, last in self.withheld:
            yield from range(first, last + 1)


def extend(ranges: list[list[int]], index: int) -> None:
    """Add a leaf index above all that `ranges` holds; they stay sorted and none touches the next."""
    if ranges and ranges[-1][1] == index - 1:
        ranges[-1][1] = index
    else:
        ranges.append([index, index])


def canonical_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object of `data`, whose bytes must be its RFC 8785 form: no second spelling, no repeated key. Raises BundleInvalid."""
    try:
        document = json.loads(data)
        if isinstance(document, dict) and rfc8785.dumps(document) == data:
            return document
    except (ValueError, RecursionError):
        pass
    raise BundleInvalid(f"{what} is not a canonical JSON object.")


def read_description(bundle: BundleFile, key: VerifierKey, checkpoint: Checkpoint, report: VerifyReport) -> Description:
    """`bundle.json`, compared with the signed checkpoint; raises BundleInvalid when it is not of the form that the export writes."""
    document = canonical_object(bundle.read("bundle.json", MAX_DESCRIPTION_BYTES), "bundle.json")
    if document.keys() != _KEYS or document["format"] != FORMAT:
        raise BundleInvalid(f"bundle.json does not describe a '{FORMAT}'.")
    if (document["origin"], document["size"]) != (checkpoint.origin, checkpoint.size) or isinstance(document["size"], bool):
        report.add("description_wrong", "bundle.json names another origin or size than the checkpoint.")
    # A tuple: what a forger wrote need not be hashable.
    if document["vkey"] not in (None, str(key)):
        report.add("description_wrong", "bundle.json names another key than the trusted one.")
    organization, withheld = document["organization"], document["withheld"]
    if not (organization is None or isinstance(organization, str)):
        raise BundleInvalid("bundle.json's organisation is not an id.")
    if not _are_ranges(withheld, checkpoint.size):
        raise BundleInvalid(f"bundle.json's withheld entries are not sorted, separate ranges within {checkpoint.size} entries.")
    if withheld and organization is None:
        report.add("description_wrong", "bundle.json withholds entries from an export of the whole log.", index=withheld[0][0])
    types, unsealed = document["record_types"], document["unsealed"]
    if not isinstance(types, list) or not all(isinstance(name, str) for name in types) or types != sorted(set(types)):
        raise BundleInvalid("bundle.json's record types are not a sorted list of names.")
    if not isinstance(unsealed, list) or not all(isinstance(item, dict) and item.keys() == {"type", "id"} for item in unsealed):
        raise BundleInvalid("bundle.json's unsealed records are not a list of types and ids.")
    return Description(organization, withheld, set(types), [(str(item["type"]), str(item["id"])) for item in unsealed])


def _are_ranges(value: object, size: int) -> TypeGuard[list[list[int]]]:
    if not isinstance(value, list):
        return False
    least = 0
    for item in value:
        # bool is an int to isinstance, and 1.0 equals 1; neither is an index.
        if not isinstance(item, list) or [type(bound) for bound in item] != [int, int] or not least <= item[0] <= item[1] < size:
            return False
        least = item[1] + 2
    return True
