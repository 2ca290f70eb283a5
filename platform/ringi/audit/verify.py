"""Check an export without trusting whoever made it: no database, no network, only the log's public key. Pure.

Numbered, as in governance B5: 1 the container, byte for byte; 2 the checkpoint's signature; 3 every entry against its stored leaf
hash; 4 every stored node against its children, up to the signed root (3 and 4 together replay the whole log and localise a
difference); 5 every state record against the entry that last changed it; 6 an older bundle, entry by entry.

A bundle of one organisation withholds the entries of others: their stored leaf hashes stand for them, so that the root still proves the whole
log. Exactly the declared entries may be absent, and a present one must name the bundle's organisation. Whose an absent entry is cannot be
read from its hash: a withheld entry of one's own shows by a record without its entry, and against an older bundle that has it.
Needs the standard library, `cryptography` and `rfc8785`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ringi.audit.container import BundleFile, BundleInvalid, MemberReader
from ringi.audit.description import Description, read_description
from ringi.audit.findings import Claim, VerifyReport
from ringi.audit.merkle import HASH_BYTES, Frontier, leaf_hash, node_hash
from ringi.audit.note import MAX_NOTE_BYTES, Checkpoint, NoteInvalid, VerifierKey, open_checkpoint
from ringi.audit.records import check_records

_PREFIX_BYTES = 2


def trusted_vkey(argument: str) -> str:
    """The vkey of a command line argument: the key line itself, or a file that holds it. Raises NoteInvalid."""
    if "+" not in argument or Path(argument).is_file():
        try:
            argument = Path(argument).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NoteInvalid(f"The key file cannot be read: {error}.", next_step="Pass the key line or a file that holds it.") from error
    return str(VerifierKey.parse(argument))


def verify_bundle(path: Path, trusted_vkey: str, *, against: Path | None = None) -> VerifyReport:
    """Check the export at `path` under the key `trusted_vkey`, obtained out of band; `against` is an older export that is trusted.

    Raises NoteInvalid when the key itself is malformed; everything about the file comes back as problems.
    """
    key = VerifierKey.parse(trusted_vkey)
    report = VerifyReport()
    try:
        bundle = BundleFile(path)
        checkpoint = open_checkpoint(bundle.read("checkpoint", MAX_NOTE_BYTES), key)
        report.origin, report.size = checkpoint.origin, checkpoint.size
        description = read_description(bundle, key, checkpoint, report)
        claims = _replay(bundle, checkpoint, description, report)
        check_records(bundle, description, claims, report)
        if against is not None:
            _compare(bundle, checkpoint, description, against, trusted_vkey, report)
    except (BundleInvalid, NoteInvalid) as error:
        report.add(error.code, error.message)
    return report


def claim_of(index: int, entry: bytes) -> Claim:
    """What entry `index` says of itself; every field None where its bytes are not an event."""
    try:
        event: dict[str, Any] = json.loads(entry)
        named = event["object"]
        kind, identity = str(named["type"]), str(named["id"])
        origin = str(event["origin"])
        organization = None if event["organization"] is None else str(event["organization"])
        return Claim(index, str(event["id"]), str(event["action"]), kind, identity, event["after"], origin, organization)
    except (ValueError, KeyError, TypeError, RecursionError):
        return Claim(index, None, None, None, None, None)


def _entries(stream: MemberReader) -> Iterator[bytes]:
    """Framed entries; an empty one is a hole. Raises BundleInvalid when the framing breaks."""
    while prefix := stream.take(_PREFIX_BYTES):
        length = int.from_bytes(prefix, "big")
        entry = stream.take(length)
        if len(prefix) != _PREFIX_BYTES or len(entry) != length:
            raise BundleInvalid("The last entry is truncated.")
        yield entry


def _leaves(bundle: BundleFile) -> Iterator[tuple[bytes, bytes]]:
    """Every entry with its stored leaf hash, which is empty beyond the last one."""
    with bundle.open("entries.bin") as entries, bundle.open("leaves.bin") as leaves:
        for entry in _entries(entries):
            yield entry, leaves.take(HASH_BYTES)


class _Tree:
    """Checks stored hashes against each other: what `peaks` holds are stored values, each once compared with its children."""

    def __init__(self, nodes: MemberReader, report: VerifyReport) -> None:
        self._nodes, self._report = nodes, report
        self.frontier = Frontier()

    def append(self, stored: bytes, claim: Claim, previous: Claim | None) -> None:
        index, level, current = self.frontier.size, 0, stored
        while index & 1:
            index >>= 1
            level += 1
            computed, current = node_hash(self.frontier.peaks.pop(), current), self._nodes.take(HASH_BYTES)
            if computed != current:
                self._differs(level, index, claim, previous)
        self.frontier.peaks.append(current)
        self.frontier.size += 1

    def _differs(self, level: int, index: int, claim: Claim, previous: Claim | None) -> None:
        first, last = index << level, ((index + 1) << level) - 1
        message = f"The stored tree disagrees with itself: an entry from {first} to {last} was changed together with its stored hashes."
        for named in (previous, claim) if level == 1 else (None,):
            self._report.add("subtree_changed", message, claim=named, index=first)


class _Misfit(NamedTuple):
    claim: Claim
    computed: bytes


def _replay(bundle: BundleFile, checkpoint: Checkpoint, description: Description, report: VerifyReport) -> list[Claim]:
    """Steps 3 and 4; returns the claims of all entries that carry an `after`, in leaf order."""
    size = checkpoint.size
    if bundle.size("leaves.bin") != HASH_BYTES * size or bundle.size("nodes.bin") != HASH_BYTES * (size - size.bit_count()):
        raise BundleInvalid(f"The stored hashes are not those of a log of {size} entries.")
    claims: list[Claim] = []
    misfits: list[_Misfit] = []
    ids: set[str] = set()
    previous: Claim | None = None
    withheld = description.withheld_leaves()
    next_withheld = next(withheld, None)
    with bundle.open("nodes.bin") as nodes:
        tree = _Tree(nodes, report)
        for index, (entry, stored) in enumerate(_leaves(bundle)):
            if index == size:
                raise BundleInvalid(f"There are entries beyond the {size} of the checkpoint.")
            claim = claim_of(index, entry)
            if index == next_withheld:
                next_withheld = next(withheld, None)
                _check_withheld(claim, entry, report)
            elif not entry:
                report.add("entry_missing", f"Entry {index} is missing.", index=index)
            elif (computed := leaf_hash(entry)) != stored:
                misfits.append(_Misfit(claim, computed))
            else:
                _check_event(claim, checkpoint, description, ids, report)
            tree.append(stored, claim, previous)
            if claim.after is not None:
                claims.append(claim)
            previous = claim
    for index in range(tree.frontier.size, size)[:1]:
        report.add("entry_missing", f"The entries {index} to {size - 1} are missing.", index=index)
    _explain(bundle, misfits, report)
    if tree.frontier.size == size:
        _check_root(tree.frontier.root(), checkpoint, report)
    return claims


def _check_withheld(claim: Claim, entry: bytes, report: VerifyReport) -> None:
    if entry:
        report.add("entry_not_withheld", f"Entry {claim.leaf} is declared as withheld, but its bytes are there.", claim=claim)
    else:
        report.withheld += 1


def _check_event(claim: Claim, checkpoint: Checkpoint, description: Description, ids: set[str], report: VerifyReport) -> None:
    if claim.event_id is None:
        report.add("entry_malformed", f"Entry {claim.leaf} is not an event.", claim=claim)
    elif claim.event_id in ids:
        report.add("entry_duplicated", f"Entry {claim.leaf} repeats the event id of an earlier one.", claim=claim)
    elif claim.origin != checkpoint.origin:
        report.add("entry_foreign", f"Entry {claim.leaf} was written for the log '{claim.origin}'.", claim=claim)
    elif description.organization not in {None, claim.organization}:
        message = f"Entry {claim.leaf} belongs to another organisation than the bundle's, '{description.organization}'."
        report.add("entry_of_other_organization", message, claim=claim)
    else:
        ids.add(claim.event_id)


def _explain(bundle: BundleFile, misfits: list[_Misfit], report: VerifyReport) -> None:
    """An entry that does not fit its stored leaf hash was changed, or it is whole and stands in the wrong place."""
    if not misfits:
        return
    wanted = {misfit.computed for misfit in misfits}
    places: dict[bytes, int] = {}
    with bundle.open("leaves.bin") as leaves:
        index = 0
        while stored := leaves.take(HASH_BYTES):
            if stored in wanted:
                places.setdefault(stored, index)
            index += 1
    for misfit in misfits:
        place = places.get(misfit.computed)
        if place is None:
            message = f"Entry {misfit.claim.leaf} was changed: its bytes do not have the hash that was stored for it."
            report.add("entry_changed", message, claim=misfit.claim)
        else:
            message = f"Entry {misfit.claim.leaf} holds the bytes of entry {place}: entries were moved, removed or repeated."
            report.add("entry_out_of_place", message, claim=misfit.claim)


def _check_root(root: bytes, checkpoint: Checkpoint, report: VerifyReport) -> None:
    report.root = root.hex()
    if root == checkpoint.root:
        return
    message = f"The entries lead to the root {root.hex()}, but {checkpoint.root.hex()} was signed."
    if report.ok:
        message += " All stored hashes agree with each other, so the log was rewritten as a whole: name an older export with --against."
    report.add("root_not_signed", message)


def _compare(
    bundle: BundleFile, checkpoint: Checkpoint, description: Description, against: Path, trusted_vkey: str, report: VerifyReport
) -> None:
    """Step 6: the older export must be good by itself, and this one must begin with all its entries, withheld ones by their hashes."""
    older = verify_bundle(against, trusted_vkey)
    if not older.ok or older.size is None:
        report.add("older_bundle_invalid", f"The older export has {older.problem_count} problems of its own; it proves nothing.")
        return
    if older.size > checkpoint.size:
        report.add("log_shortened", f"The older export has {older.size} entries, this one {checkpoint.size}.", index=checkpoint.size)
    pairs = zip(_leaves(BundleFile(against)), _leaves(bundle), strict=False)
    for index, ((before, before_hash), (now, now_hash)) in enumerate(pairs):
        if before_hash != now_hash or (before and now and before != now):
            message = f"Entry {index} is the first that differs from the older export."
            report.add("differs_from_older", message, claim=claim_of(index, before))
            return
        if before and not now and (claim := claim_of(index, before)).organization == description.organization:
            message = f"Entry {index} is absent, but the older export shows that it belongs to this bundle's organisation."
            report.add("own_entry_withheld", message, claim=claim)
