"""Step 5 of the verification: every state record is what the log says its last change left behind. Pure.

The newest entry of an object that carries an `after` names the event and the digest; a record that is missing, added, changed or older
than that is found and named by its entry.
"""

import hashlib
import json
from collections import Counter
from typing import Any

import rfc8785

from ringi.audit.container import BundleFile, BundleInvalid
from ringi.audit.findings import Claim, VerifyReport
from ringi.audit.note import Checkpoint, VerifierKey

MAX_RECORD_BYTES = 64 * 1024 * 1024
MAX_DESCRIPTION_BYTES = 64 * 1024 * 1024
FORMAT = "ringi-audit-bundle/1"
_Identity = tuple[str | None, str | None]
_DESCRIPTION_KEYS = {"format", "origin", "size", "vkey", "record_types", "unsealed"}


def _digest(document: Any) -> str:
    return "sha256:" + hashlib.sha256(rfc8785.dumps(document)).hexdigest()


def _canonical_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object of `data`, whose bytes must be its canonical form: no second spelling, no repeated key."""
    try:
        document = json.loads(data)
        if isinstance(document, dict) and rfc8785.dumps(document) == data:
            return document
    except (ValueError, RecursionError):
        pass
    raise BundleInvalid(f"{what} is not a canonical JSON object.")


def _read_description(
    bundle: BundleFile, key: VerifierKey, checkpoint: Checkpoint, report: VerifyReport
) -> tuple[set[str], list[_Identity]]:
    """Declared record types and unsealed objects; everything that the file says of itself must agree with what was verified."""
    document = _canonical_object(bundle.read("bundle.json", MAX_DESCRIPTION_BYTES), "bundle.json")
    if document.keys() != _DESCRIPTION_KEYS or document["format"] != FORMAT:
        raise BundleInvalid(f"bundle.json does not describe a '{FORMAT}'.")
    if (document["origin"], document["size"]) != (checkpoint.origin, checkpoint.size) or isinstance(document["size"], bool):
        report.add("description_wrong", "bundle.json names another origin or size than the checkpoint.")
    if document["vkey"] not in {None, str(key)}:
        report.add("description_wrong", "bundle.json names another key than the trusted one.")
    types, unsealed = document["record_types"], document["unsealed"]
    if not isinstance(types, list) or not all(isinstance(name, str) for name in types) or types != sorted(set(types)):
        raise BundleInvalid("bundle.json's record types are not a sorted list of names.")
    if not isinstance(unsealed, list) or not all(isinstance(item, dict) and item.keys() == {"type", "id"} for item in unsealed):
        raise BundleInvalid("bundle.json's unsealed records are not a list of types and ids.")
    return set(types), [(str(item["type"]), str(item["id"])) for item in unsealed]


def check_records(bundle: BundleFile, key: VerifierKey, checkpoint: Checkpoint, claims: list[Claim], report: VerifyReport) -> None:
    """Compare `records.jsonl` with the claims of the entries, given in leaf order."""
    types, unsealed = _read_description(bundle, key, checkpoint, report)
    expected = {(claim.type, claim.id): claim for claim in claims}
    spoken_of = {claim.type for claim in claims}
    for name in sorted(types - {name for name in spoken_of if name}):
        report.add("description_wrong", f"bundle.json declares records of '{name}', of which the log does not speak.")
    with bundle.open("records.jsonl") as stream:
        for number, line in enumerate(stream.lines(MAX_RECORD_BYTES), start=1):
            document = _canonical_object(line, f"Record {number}")
            if document.keys() != {"event_id", "type", "id", "record"} or str(document["type"]) not in types:
                report.add("record_undeclared", f"Record {number} is not of a declared type.")
                continue
            _check_record(number, document, expected, report)
            report.records += 1
    for identity in unsealed:
        if identity[0] in types and expected.pop(identity, None) is not None:
            report.unsealed += 1
        else:
            report.add("description_wrong", f"bundle.json excuses '{identity[0]} {identity[1]}', which needs no excuse.")
    for identity, claim in expected.items():
        if identity[0] in types:
            message = f"The record of {identity[0]} {identity[1]} is missing: entry {claim.leaf} says that it exists."
            report.add("record_missing", message, claim=claim)
    report.not_included = dict(Counter(name for name, _ in expected if name is not None and name not in types))


def _check_record(number: int, document: dict[str, Any], expected: dict[_Identity, Claim], report: VerifyReport) -> None:
    name = f"{document['type']} {document['id']}"
    claim = expected.pop((str(document["type"]), str(document["id"])), None)
    if claim is None:
        report.add("record_without_entry", f"Record {number} ({name}) has no entry of its own in the log: it was added or is repeated.")
    elif document["event_id"] != claim.event_id:
        message = f"The record of {name} points at another event than its last change, entry {claim.leaf}."
        report.add("record_misattributed", message, claim=claim)
    elif _digest(document["record"]) != claim.after:
        report.add("record_changed", f"The record of {name} was changed: it is not what entry {claim.leaf} recorded.", claim=claim)
