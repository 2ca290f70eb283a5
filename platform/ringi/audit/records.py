"""Step 5 of the verification: every state record is what the log says its last change left behind. Pure.

The newest entry of an object that carries an `after` names the event and the digest; a record that is missing, added, changed or older
than that is found and named by its entry.
"""

import hashlib
from collections import Counter
from typing import Any

import rfc8785

from ringi.audit.container import BundleFile
from ringi.audit.description import Description, canonical_object
from ringi.audit.findings import Claim, VerifyReport

MAX_RECORD_BYTES = 64 * 1024 * 1024
_Identity = tuple[str | None, str | None]


def _digest(document: Any) -> str:
    return "sha256:" + hashlib.sha256(rfc8785.dumps(document)).hexdigest()


def check_records(bundle: BundleFile, description: Description, claims: list[Claim], report: VerifyReport) -> None:
    """Compare `records.jsonl` with the claims of the entries that are present, given in leaf order."""
    types = description.record_types
    expected = {(claim.type, claim.id): claim for claim in claims}
    spoken_of = {claim.type for claim in claims}
    for name in sorted(types - {name for name in spoken_of if name}):
        report.add("description_wrong", f"bundle.json declares records of '{name}', of which the log does not speak.")
    with bundle.open("records.jsonl") as stream:
        for number, line in enumerate(stream.lines(MAX_RECORD_BYTES), start=1):
            document = canonical_object(line, f"Record {number}")
            if document.keys() != {"event_id", "type", "id", "record"} or str(document["type"]) not in types:
                report.add("record_undeclared", f"Record {number} is not of a declared type.")
                continue
            _check_record(number, document, expected, report)
            report.records += 1
    for kind, name in description.unsealed:
        if kind in types and expected.pop((kind, name), None) is not None:
            report.unsealed += 1
        else:
            report.add("description_wrong", f"bundle.json excuses '{kind} {name}', which needs no excuse.")
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
