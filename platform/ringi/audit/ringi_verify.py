#!/usr/bin/env python3
"""ringi-verify: check an export of a Ringi audit log, or the proof of one entry, without trusting whoever made it.

    ringi-verify BUNDLE --trust TRUST [--against OLDER]         a bundle; OLDER is an older bundle or checkpoint
    ringi-verify BUNDLE --trust TRUST --sample 25 --seed S      also draws the sample of an audit again
    ringi-verify --proof FILE.tlog-proof --trust TRUST          one entry

TRUST is a file in the syntax of C2SP tlog-policy that you got over another way than BUNDLE. No database, no network. Exit code 0: every byte
was checked and nothing was found; 1: refused, each line names the entry and a stable code; 2: wrong usage or an unusable trust file.

What is checked (`verify_bundle`): 1 the container, byte for byte; 2 the checkpoint's signature and the quorum of its witnesses; 3 every entry:
its canonical form and its stored leaf hash; 4 every stored node against its children, up to the signed root (3 and 4 replay the whole log and
localise a difference); 5 every state record against the entry that last changed it; 6 an older bundle or checkpoint.

A bundle of one organisation withholds the entries of others: their stored leaf hashes stand for them, so that the root still proves the whole
log. Exactly the declared entries may be absent, and a present one must name the bundle's organisation. Whose an absent entry is cannot be
read from its hash: a withheld entry of one's own shows by a record without its entry, and against an older bundle that has it.

A bundle of a part (a period, or an adapter) declares which part, and leaves out what lies outside. Of a period nothing can be left out as
lying outside: every own entry from before its beginning to behind its end is there. Of an adapter, what others refer to must be there, and
as many votes as a decided request had; an entry that nothing refers to may be missing without a sign, but against a bundle that has it.

Formats: RFC 6962 and 9162 (tree), C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-policy, tlog-proof, tlog-tiles (entries), RFC 8785
(canonical JSON), APPNOTE 6.3.10 (ZIP). The platform imports this file, so there is no second reader of these formats in it.
"""
# long: one file that an auditor can read to its end and run alone; it needs Python 3.11 and `cryptography`, and nothing else of the platform.

import argparse
import base64
import binascii
import hashlib
import json
import re
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, NamedTuple, Self, TypeGuard

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# --- Refusals -----------------------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """What was given cannot be trusted or read. `code` is stable."""

    code: ClassVar[str] = "refused"

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message, self.next_step = message, next_step


class NoteInvalid(Refused):
    """A key, note or checkpoint whose bytes break the format, or whose trusted signature is missing or wrong."""

    code = "audit_note_invalid"

    def __init__(self, message: str, *, next_step: str = "Get the key or note again from its source; do not trust this one.") -> None:
        super().__init__(message, next_step=next_step)


class QuorumMissing(NoteInvalid):
    """The checkpoint is the log's, but too few of the trusted witnesses have cosigned it."""

    code = "audit_quorum_missing"


class PolicyInvalid(Refused):
    """The trust file breaks the syntax of tlog-policy."""

    code = "audit_policy_invalid"


class ProofInvalid(Refused):
    """The proof of an entry breaks its format, or does not lead from the entry to the signed root."""

    code = "audit_proof_invalid"


class OpeningInvalid(Refused):
    """The first entry of a log that follows another does not say so properly, or too few trusted administrators approved it."""

    code = "opening_invalid"


class BundleInvalid(Refused):
    """The file is not an audit export as the platform writes it: other bytes, truncated, or with something added."""

    code = "audit_bundle_invalid"

    def __init__(self, message: str, *, next_step: str = "Get the export again from whoever made it; do not trust this file.") -> None:
        super().__init__(message, next_step=next_step)


# --- Base64 and canonical JSON ------------------------------------------------------------------------------------------------------

_LARGEST_INTEGER = 2**53 - 1
_PLAIN_DIGITS, _LEAST_PLAIN = 21, -6


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """The bytes of canonical base64; refuses other alphabets, missing padding and stray low bits."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise NoteInvalid(f"'{text[:40]}' is not base64.") from error
    if encode_base64(data) != text:
        raise NoteInvalid(f"'{text[:40]}' is not canonical base64.")
    return data


def _number(value: float) -> str:
    """ECMA-262 Number::toString, which RFC 8785 section 3.2.2.3 asks for; `repr` gives the same shortest digits."""
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("JSON has no infinity and no NaN")  # noqa: TRY004  # the caller refuses a value
    text, point = "".join(map(str, digits)), len(digits) + exponent
    if len(text) <= point <= _PLAIN_DIGITS:
        plain = text + "0" * (point - len(text))
    elif 0 < point <= _PLAIN_DIGITS:
        plain = f"{text[:point]}.{text[point:]}"
    elif _LEAST_PLAIN < point <= 0:
        plain = f"0.{'0' * -point}{text}"
    else:
        plain = f"{text[0]}{'.' if text[1:] else ''}{text[1:]}e{point - 1:+d}"
    return f"{'-' if sign else ''}{plain}"


def _canonical(value: Any) -> str:
    match value:
        case None | bool():
            return json.dumps(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case int():
            if abs(value) > _LARGEST_INTEGER:
                raise ValueError("an integer beyond 2^53 - 1 has no canonical form")
            return str(value)
        case float():
            return _number(value)
        case list():
            return f"[{','.join(map(_canonical, value))}]"
        case dict():
            keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
            return f"{{{','.join(f'{json.dumps(key, ensure_ascii=False)}:{_canonical(value[key])}' for key in keys)}}}"
    raise ValueError(f"{type(value).__name__} is not JSON")


def canonical_json(document: Any) -> bytes:
    """The RFC 8785 form of a document as `json.loads` gives it; raises ValueError for what has none."""
    return _canonical(document).encode()


def canonical_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object of `data`, whose bytes must be its RFC 8785 form: no second spelling, no repeated key. Raises BundleInvalid."""
    try:
        document = json.loads(data)
        if isinstance(document, dict) and canonical_json(document) == data:
            return document
    except (ValueError, RecursionError):
        pass
    raise BundleInvalid(f"{what} is not a canonical JSON object.")


# --- The Merkle tree ----------------------------------------------------------------------------------------------------------------

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


class Node(NamedTuple):
    """A complete subtree's root: node (level, place) covers the leaves [place * 2^level, (place + 1) * 2^level)."""

    level: int
    place: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the complete subtrees that make up a tree, largest first: all that an append or the root needs."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)
        if size < 0 or len(self.peaks) != size.bit_count() or any(len(peak) != HASH_BYTES for peak in self.peaks):
            raise ValueError(f"a tree of {size} leaves has {max(size, 0).bit_count()} peaks of {HASH_BYTES} bytes")

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> "Frontier":
        """Read what `to_bytes` wrote; raises ValueError when it does not fit `size`."""
        if len(data) % HASH_BYTES:
            raise ValueError("a frontier is a whole number of hashes")
        return cls(size, (data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)))

    def to_bytes(self) -> bytes:
        """The peaks one after another, largest subtree first: at most 64 hashes below 2^64 leaves."""
        return b"".join(self.peaks)

    def append(self, leaf: bytes) -> list[Node]:
        """Add a leaf hash; returns the nodes of level 1 and above that it completed, lowest first."""
        completed = []
        level, current, index = 0, leaf, self.size
        while index & 1:
            index >>= 1
            level += 1
            current = node_hash(self.peaks.pop(), current)
            completed.append(Node(level, index, current))
        self.peaks.append(current)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """MTH of all leaves so far: SHA-256 of nothing for the empty tree."""
        if not self.peaks:
            return EMPTY_ROOT
        result = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            result = node_hash(peak, result)
        return result


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def verify_inclusion(index: int, size: int, leaf: bytes, root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 section 2.1.3.2. `leaf` is the leaf hash."""
    if not 0 <= index < size:
        return False
    place, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            current = node_hash(sibling, current)
            while not place & 1 and place != 0:
                place >>= 1
                last >>= 1
        else:
            current = node_hash(current, sibling)
        place >>= 1
        last >>= 1
    return last == 0 and current == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 section 2.1.4.2: whether the tree of `new` leaves extends the one of `old` leaves."""
    if not 0 <= old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place >>= 1
        last >>= 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            first = node_hash(sibling, first)
            second = node_hash(sibling, second)
            while not place & 1 and place != 0:
                place >>= 1
                last >>= 1
        else:
            second = node_hash(second, sibling)
        place >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root


# --- Notes, checkpoints and cosignatures --------------------------------------------------------------------------------------------

ED25519, COSIGNATURE = b"\x01", b"\x04"
EM_DASH = "\u2014"
MAX_NOTE_BYTES = 1_000_000
PUBLIC_KEY_BYTES = 32
_KEY_ID_BYTES, _TIME_BYTES, _LATEST = 4, 8, 2**63 - 1
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


def check_key_name(name: str) -> str:
    """A key name: not empty, no white space, no plus, no control character."""
    if not name or "+" in name or any(char.isspace() or ord(char) < ord(" ") for char in name):
        raise NoteInvalid(f"{name!r} is not a key name.", next_step="Use a schema-less URL such as example.org/audit/1.")
    return name


@dataclass(frozen=True)
class VerifierKey:
    """A log's or witness's name and Ed25519 public key. Its text form, the `vkey`, is what an auditor gets out of band.

    `kind` is the signature type: 0x01 signs a note's text (logs), 0x04 a timestamped cosignature/v1 (witnesses).
    """

    name: str
    public_key: bytes
    kind: bytes = ED25519

    @classmethod
    def parse(cls, text: str, *, kind: bytes = ED25519) -> "VerifierKey":
        """Read `name+hex(key id)+base64(kind || public key)` of that kind; raises NoteInvalid."""
        match text.split("+", 2):
            case [name, identifier, encoded]:
                data = decode_base64(encoded)
            case _:
                raise NoteInvalid("A verifier key has three parts: name+id+key.", next_step="Pass the key line as it was published.")
        if data[:1] != kind or len(data) != 1 + PUBLIC_KEY_BYTES:
            raise NoteInvalid(f"The verifier key is not an Ed25519 key of {PUBLIC_KEY_BYTES} bytes under the type {kind.hex()}.")
        key = cls(check_key_name(name), data[1:], kind)
        if key.id.hex() != identifier:
            raise NoteInvalid(f"The verifier key's id is {key.id.hex()}, not {identifier[:16]!r}.")
        return key

    @property
    def id(self) -> bytes:
        """The four bytes that stand before each signature: SHA-256(name || 0x0A || kind || public key)[:4]."""
        return hashlib.sha256(self.name.encode() + b"\n" + self.kind + self.public_key).digest()[:_KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{encode_base64(self.kind + self.public_key)}"

    def accepts(self, text: bytes, signature: bytes) -> bool:
        """Whether `signature`, as it stands behind the key id of a line, is this key's over a note's `text`."""
        if self.kind == COSIGNATURE:
            at = int.from_bytes(signature[:_TIME_BYTES], "big")
            if len(signature) <= _TIME_BYTES or at > _LATEST:
                return False
            text, signature = cosigned_message(text, at), signature[_TIME_BYTES:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


def cosigned_message(text: bytes, at: int) -> bytes:
    """What a witness signs (C2SP tlog-cosignature, Ed25519): a header, the POSIX time `at` in seconds, and the checkpoint's text."""
    return b"cosignature/v1\ntime %d\n" % at + text


class SignatureLine(NamedTuple):
    """One parsed signature line of a note."""

    name: str
    key_id: bytes
    signature: bytes


def parse_note(note: bytes) -> tuple[str, list[SignatureLine]]:
    """Text and signature lines, unverified: trust neither before `open_note`."""
    if len(note) > MAX_NOTE_BYTES:
        raise NoteInvalid(f"The note has {len(note)} bytes; the limit is {MAX_NOTE_BYTES}.")
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteInvalid("The note is not UTF-8.") from error
    if any(ord(char) < ord(" ") and char != "\n" for char in whole):
        raise NoteInvalid("The note holds a control character (lines end in a single newline, never CRLF).")
    body, separator, block = whole.rpartition("\n\n")
    if not separator or not body or not block.endswith("\n"):
        raise NoteInvalid("The note has no text, blank line and signature lines in this order.")
    signatures = []
    for line in block[:-1].split("\n"):
        match line.split(" "):
            case [dash, name, encoded] if dash == EM_DASH:
                data = decode_base64(encoded)
            case _:
                raise NoteInvalid("A signature line is 'em dash, space, key name, space, base64'.")
        if len(data) <= _KEY_ID_BYTES:
            raise NoteInvalid("A signature line holds no signature.")
        signatures.append(SignatureLine(check_key_name(name), data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:]))
    return f"{body}\n", signatures


def signed_by(text: str, lines: Iterable[SignatureLine], key: VerifierKey) -> bool:
    """Whether `key` signed the text; False without a line of its own. A wrong signature under its name refuses all (NoteInvalid)."""
    own = [line for line in lines if line.name == key.name and line.key_id == key.id]
    if not all(key.accepts(text.encode(), line.signature) for line in own):
        raise NoteInvalid(f"The signature of '{key.name}' does not fit the note's text.")
    return bool(own)


def open_note(note: bytes, key: VerifierKey) -> str:
    """The text of a note that `key` signed. Lines of other keys are left alone; a wrong one of `key` refuses all."""
    text, lines = parse_note(note)
    if not signed_by(text, lines, key):
        raise NoteInvalid(f"The note carries no signature of '{key.name}' ({key.id.hex()}).", next_step="Check that this is the log's key.")
    return text


@dataclass(frozen=True)
class Checkpoint:
    """The log's claim: under this name, this many leaves have this root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The signed text, three lines."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Read the text strictly: exactly three lines, plain decimal size, 32-byte root."""
        match text.split("\n"):
            case [origin, size, encoded, ""]:
                root = decode_base64(encoded)
            case _:
                raise NoteInvalid("A checkpoint has exactly three lines: origin, size, root.")
        if not _DECIMAL.fullmatch(size):
            raise NoteInvalid("A checkpoint's size is a plain decimal number.")
        if len(root) != HASH_BYTES:
            raise NoteInvalid(f"A checkpoint's root has {HASH_BYTES} bytes.")
        return cls(check_key_name(origin), int(size), root)


def open_checkpoint(note: bytes, key: VerifierKey) -> Checkpoint:
    """The checkpoint of a note signed by `key`, for the origin that `key` names."""
    checkpoint = Checkpoint.parse(open_note(note, key))
    if checkpoint.origin != key.name:
        raise NoteInvalid(f"The checkpoint is of '{checkpoint.origin}', the key of '{key.name}'.")
    return checkpoint


# --- Whom to trust ------------------------------------------------------------------------------------------------------------------


class LogKey(NamedTuple):
    """A log's key, and the sizes of the checkpoints that it may sign: all but for a retired key."""

    key: VerifierKey
    first: int = 0
    last: int = _LATEST


class Group(NamedTuple):
    """At least `threshold` of `members`, each a witness or another group."""

    threshold: int
    members: tuple[str, ...]


class Trusted(NamedTuple):
    """A checkpoint that the policy accepts, the vkeys that signed it, and the policy's names of the witnesses that cosigned it."""

    checkpoint: Checkpoint
    signers: list[str]
    witnesses: list[str]


@dataclass(frozen=True)
class Policy:
    """A trust file: which logs, which witnesses, and how many of them must have cosigned (`quorum` None: nobody needs to)."""

    logs: tuple[LogKey, ...]
    witnesses: Mapping[str, VerifierKey] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    quorum: str | None = None
    admins: tuple[VerifierKey, ...] = ()

    @classmethod
    def of_log(cls, vkey: str) -> "Policy":
        """The log's key alone, with no witness."""
        return cls((LogKey(VerifierKey.parse(vkey)),))

    def open(self, note: bytes, *, cosigned: bool = True) -> Trusted:
        """The checkpoint of a note that a listed log signed and, unless `cosigned` is false, a quorum cosigned. Raises NoteInvalid."""
        text, lines = parse_note(note)
        checkpoint = Checkpoint.parse(text)
        known = [log for log in self.logs if log.key.name == checkpoint.origin]
        if not known:
            raise NoteInvalid(f"The trust file knows no log '{checkpoint.origin}'.", next_step="Check that this is the log you mean.")
        signers = [log for log in known if signed_by(text, lines, log.key)]
        if not signers:
            raise NoteInvalid(f"The note carries no signature of a trusted key of '{checkpoint.origin}'.")
        timely = [str(log.key) for log in signers if log.first <= checkpoint.size <= log.last]
        if not timely:
            raise NoteInvalid(f"The key that signed this checkpoint of {checkpoint.size} entries was retired before, or came later.")
        witnesses = [name for name, key in self.witnesses.items() if signed_by(text, lines, key)]
        if cosigned and self.quorum is not None and not self._holds(self.quorum, witnesses):
            raise QuorumMissing(
                f"Cosigned by {', '.join(witnesses) or 'no trusted witness'}; the quorum '{self.quorum}' is not reached.",
                next_step="Get the checkpoint again after its witnesses have seen it.",
            )
        return Trusted(checkpoint, timely, witnesses)

    def _holds(self, name: str, witnesses: Sequence[str]) -> bool:
        group = self.groups.get(name)
        if group is None:
            return name in witnesses
        return sum(self._holds(member, witnesses) for member in group.members) >= group.threshold


_SIZES = re.compile(r"#sizes (0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})")
_ADMIN = re.compile(r"#admin[ \t]+(\S+)")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_PREDEFINED = "none"


class _PolicyReader:
    """Reads a policy line by line: a name must be defined before it is used, and every name and key only once."""

    def __init__(self) -> None:
        self.logs: list[LogKey] = []
        self.witnesses: dict[str, VerifierKey] = {}
        self.groups: dict[str, Group] = {}
        self.members: set[str] = set()
        self.quorums: list[str] = []
        self.admins: list[VerifierKey] = []

    def take(self, line: str) -> None:
        bounds = _SIZES.fullmatch(line.strip(" \t"))
        if bounds and self.logs:
            self.logs[-1] = self.logs[-1]._replace(first=int(bounds[1]), last=int(bounds[2]))
            return
        if admin := _ADMIN.fullmatch(line.strip(" \t")):
            self.admins.append(self._new(VerifierKey.parse(admin[1]), self.admins))
            return
        match [word for word in re.split("[ \t]+", line) if word]:
            case []:
                return
            case [word, *_] if word.startswith("#"):
                return
            case ["log", vkey] | ["log", vkey, _]:
                self.logs.append(LogKey(self._new(VerifierKey.parse(vkey), [log.key for log in self.logs])))
            case ["witness", name, vkey] | ["witness", name, vkey, _]:
                self.witnesses[self._fresh(name)] = self._new(VerifierKey.parse(vkey, kind=COSIGNATURE), self.witnesses.values())
            case ["group", name, threshold, *members] if members:
                self.groups[self._fresh(name)] = self._group(threshold, members)
            case ["quorum", name]:
                self.quorums.append(name if name == _PREDEFINED else self._known(name))
            case _:
                raise PolicyInvalid(f"'{line.strip()[:60]}' is no line of a trust file.", next_step="See docs/audit.md for its syntax.")

    def policy(self) -> Policy:
        if len(self.quorums) != 1:
            raise PolicyInvalid("A trust file has exactly one quorum line.", next_step="Write 'quorum none' where no witness is asked for.")
        if not self.logs:
            raise PolicyInvalid("The trust file names no log.", next_step="Add 'log <vkey>'.")
        quorum = None if self.quorums[0] == _PREDEFINED else self.quorums[0]
        return Policy(tuple(self.logs), self.witnesses, self.groups, quorum, tuple(self.admins))

    def _new(self, key: VerifierKey, others: Iterable[VerifierKey]) -> VerifierKey:
        if any(key.public_key == other.public_key for other in others):
            raise PolicyInvalid(f"The key of '{key.name}' is listed twice.", next_step="List every key once.")
        return key

    def _fresh(self, name: str) -> str:
        if name in self.witnesses or name in self.groups or name == _PREDEFINED:
            raise PolicyInvalid(f"The name '{name[:60]}' is taken.", next_step="Name every witness and group once.")
        return name

    def _known(self, name: str) -> str:
        if name not in self.witnesses and name not in self.groups:
            raise PolicyInvalid(f"'{name[:60]}' was not defined before it is used.", next_step="Define witnesses and groups first.")
        return name

    def _group(self, threshold: str, members: list[str]) -> Group:
        for name in members:
            if self._known(name) in self.members:
                raise PolicyInvalid(f"'{name[:60]}' is a member twice.", next_step="Every name belongs to one group at most.")
            self.members.add(name)
        least = {"any": 1, "all": len(members)}.get(threshold) or int(threshold if re.fullmatch("[1-9][0-9]{0,3}", threshold) else 0)
        if not 1 <= least <= len(members):
            raise PolicyInvalid(
                f"A group of {len(members)} cannot ask for '{threshold[:20]}' of them.", next_step="Write any, all or a number."
            )
        return Group(least, tuple(members))


def parse_policy(data: bytes) -> Policy:
    """Read a trust file (C2SP tlog-policy); raises PolicyInvalid, or NoteInvalid for a key.

    Two additions, comments to other readers: `#sizes FIRST-LAST` behind a log's line bounds the sizes that a retired key may have signed, and
    `#admin VKEY` names the key of an administrator, two of whom must approve that a log ends and another follows it.
    """
    if _CONTROL.search(data):
        raise PolicyInvalid("The trust file holds a control character (lines end in a single newline, never CRLF).")
    if data and not data.endswith(b"\n"):
        raise PolicyInvalid("The trust file's last line has no newline.", next_step="Get the file whole.")
    reader = _PolicyReader()
    # Octets above ASCII are opaque names; surrogateescape keeps them apart.
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        try:
            reader.take(line)
        except UnicodeEncodeError as error:
            raise PolicyInvalid("A key's name is not UTF-8.", next_step="Get the trust file again.") from error
    return reader.policy()


def trusted_vkey(argument: str) -> str:
    """The vkey of a command line argument: the key line itself, or a file that holds it. Raises NoteInvalid."""
    if "+" not in argument or Path(argument).is_file():
        try:
            argument = Path(argument).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NoteInvalid(f"The key file cannot be read: {error}.", next_step="Pass the key line or a file that holds it.") from error
    return str(VerifierKey.parse(argument))


# --- A log that follows another -----------------------------------------------------------------------------------------------------

# The action of leaf 0 of a log that was begun because the one before it had lost entries.
OPENING = "log.origin.open"
STATEMENT_HEADER = "ringi-audit-origin/1"
APPROVALS = ("approval_1", "approval_2")
# What the administrators sign; the entry's details hold it under the same names.
STATEMENT = ("old_origin", "old_key", "last_size", "last_root", "last_signature", "held_size", "held_root", "lost", "new_origin", "new_key",
             "reason", "proposed_at")  # fmt: skip


@dataclass(frozen=True)
class Opening:
    """That a log follows `old_origin`, of which a checkpoint of `last` was signed and the database still held the entries up to `held`.

    `administrators`: the names of the trusted keys that approved it. `carried`: entries of the old log that no checkpoint of it covers, or that the
    database had not signed for, which stand behind leaf 0 and name the old log.
    """

    origin: str
    old_origin: str
    last: Checkpoint
    held: Checkpoint
    lost: int
    new_key: str
    reason: str
    proposed_at: str
    carried: int
    administrators: tuple[str, ...]


def statement_text(fields: Mapping[str, str | int]) -> str:
    """The note's text that administrators sign: a header, and the canonical JSON of the fields."""
    return f"{STATEMENT_HEADER}\n{canonical_json(dict(fields)).decode()}\n"


def parse_statement(text: str) -> dict[str, Any]:
    """The fields of a statement; raises OpeningInvalid."""
    header, _, document = text.removesuffix("\n").partition("\n")
    try:
        fields = canonical_object(document.encode(), "The statement")
    except BundleInvalid as error:
        raise OpeningInvalid(error.message) from error
    numbers = ("last_size", "held_size", "lost")
    if header != STATEMENT_HEADER or fields.keys() != set(STATEMENT) or any(
        type(fields[name]) is not (int if name in numbers else str) for name in STATEMENT
    ):  # fmt: skip
        raise OpeningInvalid(f"This is not a statement of the form '{STATEMENT_HEADER}'.")
    if fields["lost"] != fields["last_size"] - fields["held_size"] or fields["lost"] < 1 or fields["held_size"] < 0:
        raise OpeningInvalid("The statement's sizes do not fit each other.")
    return fields


def approvals_of(note: bytes, admins: Iterable[VerifierKey]) -> list[str]:
    """The names of the administrators whose keys signed a statement's note. Raises NoteInvalid for a wrong signature."""
    text, lines = parse_note(note)
    return sorted({admin.name for admin in admins if signed_by(text, lines, admin)})


def read_opening(entry: bytes, policy: Policy) -> Opening:
    """What leaf 0 says, after its approvals and the old log's checkpoint were verified with the trusted keys. Raises OpeningInvalid, NoteInvalid."""
    try:
        event = json.loads(entry)
        details = dict(event["details"])
        carried, lines = details.pop("carried"), [str(details.pop(name)) for name in APPROVALS]
        text = statement_text(details)
    except (ValueError, KeyError, TypeError) as error:
        raise OpeningInvalid("The entry does not hold a statement and its approvals.") from error
    fields = parse_statement(text)
    if type(carried) is not int or carried < 0 or event["origin"] != fields["new_origin"]:
        raise OpeningInvalid("The statement is for another log.")
    approved = approvals_of("\n".join([text, *lines, ""]).encode(), policy.admins)
    if len(approved) < len(APPROVALS):
        raise OpeningInvalid(
            f"Approved by {', '.join(approved) or 'no trusted administrator'}; two must have: list their keys with '#admin VKEY'."
        )
    last = Checkpoint(fields["old_origin"], fields["last_size"], decode_base64(fields["last_root"]))
    policy.open(f"{last.text}\n{fields['last_signature']}\n".encode(), cosigned=False)
    held = Checkpoint(fields["old_origin"], fields["held_size"], decode_base64(fields["held_root"]))
    if fields["new_key"] not in [str(log.key) for log in policy.logs]:
        raise OpeningInvalid("The administrators approved another key of the new log than those that are trusted.")
    return Opening(
        fields["new_origin"], fields["old_origin"], last, held, fields["lost"], fields["new_key"], fields["reason"], fields["proposed_at"],
        carried, tuple(approved),
    )  # fmt: skip


# --- The container ------------------------------------------------------------------------------------------------------------------

MEMBERS = ("checkpoint", "entries.bin", "leaves.bin", "nodes.bin", "records.jsonl", "bundle.json")
DESCRIPTOR_BYTES = 24
_VERSION, _FLAGS, _DATE, _MARK32, _MADE_BY_UNIX = 45, 8, 0x21, 0xFFFFFFFF, 3 << 8
_FILE_MODE = 0o100644 << 16
_CHUNK = 1024 * 1024
_ZIP_MAGIC = b"PK"


class Member(NamedTuple):
    """A member's content: bytes, CRC-32, and where its data starts in the file."""

    name: str
    size: int
    crc: int
    data_at: int


def local_header(name: str) -> bytes:
    """What stands before a member's data."""
    encoded = name.encode("ascii")
    head = struct.pack("<IHHHHHIIIHH", 0x04034B50, _VERSION, _FLAGS, 0, 0, _DATE, 0, _MARK32, _MARK32, len(encoded), 20)
    return head + encoded + struct.pack("<HHQQ", 1, 16, 0, 0)


def data_descriptor(member: Member) -> bytes:
    """What stands behind it."""
    return struct.pack("<IIQQ", 0x08074B50, member.crc, member.size, member.size)


def _central_header(member: Member) -> bytes:
    encoded = member.name.encode("ascii")
    fixed = (0x02014B50, _MADE_BY_UNIX | _VERSION, _VERSION, _FLAGS, 0, 0, _DATE, member.crc, _MARK32, _MARK32)
    head = struct.pack("<IHHHHHHIIIHHHHHII", *fixed, len(encoded), 28, 0, 0, 0, _FILE_MODE, _MARK32)
    offset = member.data_at - len(local_header(member.name))
    return head + encoded + struct.pack("<HHQQQ", 1, 24, member.size, member.size, offset)


def directory(members: Sequence[Member]) -> bytes:
    """Central directory and the end records."""
    entries = b"".join(_central_header(member) for member in members)
    start = members[-1].data_at + members[-1].size + DESCRIPTOR_BYTES
    count = len(members)
    end64 = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, _VERSION, _VERSION, 0, 0, count, count, len(entries), start)
    locator = struct.pack("<IIQI", 0x07064B50, 0, start + len(entries), 1)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, _MARK32, _MARK32, 0)
    return entries + end64 + locator + end


class BundleFile:
    """An export opened for reading, after its container has been checked byte for byte and every CRC has been recomputed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as stream:
                self._members = {member.name: member for member in _members_of(stream)}
        except OSError as error:
            raise BundleInvalid(f"The bundle cannot be read: {error}.", next_step="Check the path of the export.") from error

    def size(self, name: str) -> int:
        """A member's bytes."""
        return self._members[name].size

    def open(self, name: str) -> "MemberReader":
        """Read a member from its start."""
        return MemberReader(self._path, self._members[name])

    def read(self, name: str, limit: int) -> bytes:
        """A small member whole; more than `limit` bytes are refused."""
        if self.size(name) > limit:
            raise BundleInvalid(f"'{name}' has {self.size(name)} bytes; at most {limit} are accepted.")
        with self.open(name) as stream:
            return stream.take(self.size(name))


class MemberReader:
    """A member's bytes, never past its end."""

    def __init__(self, path: Path, member: Member) -> None:
        self._stream = path.open("rb", buffering=_CHUNK)
        self._stream.seek(member.data_at)
        self.left = member.size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()

    def take(self, count: int) -> bytes:
        """The next `count` bytes; fewer at the member's end."""
        data = self._stream.read(min(count, self.left))
        self.left -= len(data)
        return data

    def lines(self, limit: int) -> Iterator[bytes]:
        """Lines without their newline; a longer one than `limit` bytes or a last one without newline is refused."""
        while self.left:
            line = self._stream.readline(min(limit, self.left))
            self.left -= len(line)
            if not line.endswith(b"\n"):
                raise BundleInvalid(f"A line has no end within {limit} bytes.")
            yield line[:-1]


def _members_of(stream: BinaryIO) -> list[Member]:
    """The members of a well-formed container; raises BundleInvalid."""
    length = stream.seek(0, 2)
    entry_bytes = [46 + len(name) + 28 for name in MEMBERS]
    tail_bytes = sum(entry_bytes) + 56 + 20 + 22
    if length < tail_bytes:
        raise BundleInvalid(f"The file has {length} bytes, too few for an audit export.", next_step="Download the export again.")
    stream.seek(length - tail_bytes)
    tail = stream.read(tail_bytes)
    members, at, data_at = [], 0, 0
    for name, size in zip(MEMBERS, entry_bytes, strict=True):
        crc = int.from_bytes(tail[at + 16 : at + 20], "little")
        content = int.from_bytes(tail[at + size - 24 : at + size - 16], "little")
        data_at += len(local_header(name))
        members.append(Member(name, content, crc, data_at))
        data_at += content + DESCRIPTOR_BYTES
        at += size
    if data_at + tail_bytes != length or directory(members) != tail:
        raise BundleInvalid("The file's directory is not that of an audit export: it was truncated, changed or added to.")
    for member in members:
        _check_member(stream, member)
    return members


def _check_member(stream: BinaryIO, member: Member) -> None:
    header = local_header(member.name)
    stream.seek(member.data_at - len(header))
    if stream.read(len(header)) != header:
        raise BundleInvalid(f"The header of '{member.name}' was changed.")
    crc, left = 0, member.size
    while left:
        piece = stream.read(min(_CHUNK, left))
        if not piece:
            raise BundleInvalid(f"'{member.name}' is truncated.")
        crc, left = zlib.crc32(piece, crc), left - len(piece)
    if crc != member.crc or stream.read(DESCRIPTOR_BYTES) != data_descriptor(member):
        raise BundleInvalid(f"The bytes of '{member.name}' do not fit their checksum.")


# --- Findings -----------------------------------------------------------------------------------------------------------------------

MAX_PROBLEMS = 200


class Claim(NamedTuple):
    """What an entry says: which event, which object, and the digest of the state it left."""

    leaf: int | None
    event_id: str | None
    action: str | None
    type: str | None
    id: str | None
    after: str | None
    origin: str | None = None
    organization: str | None = None
    ts: str | None = None


@dataclass(frozen=True)
class Problem:
    """One finding; `index` is the leaf, None where it is about the file as a whole. `object` reads `type id`."""

    index: int | None
    event_id: str | None
    action: str | None
    object: str | None
    code: str
    message: str


@dataclass
class VerifyReport:
    """`ok` means that every byte was checked and nothing was found.

    `signers`: the vkeys that signed the checkpoint; `witnesses`: who of the trust file cosigned it. `withheld`: entries without bytes that
    the bundle declares as not of its organisation's; each counts with its stored leaf hash only. `unsealed`: records that changed after the
    checkpoint and come with a later export. `erased`: records that are here without the words of a person who was erased. `not_included`: how
    many objects of each type the log speaks of and this bundle brings no records for. `scope`: which part of the log the bundle shows, None for
    all of it; `outside`: entries that it leaves out as not of that part, each with its hash. `opened`: which log this one follows, what was lost and
    who approved; then a row whose newest entry is in that log is not in this bundle, and is proven by an export of that one. `sample`: what was asked to be drawn.
    `problem_count` goes on counting after `problems` is full.
    """

    origin: str | None = None
    size: int | None = None
    root: str | None = None
    signers: list[str] = field(default_factory=list)
    witnesses: list[str] = field(default_factory=list)
    withheld: int = 0
    scope: "Scope | None" = None
    outside: int = 0
    records: int = 0
    unsealed: int = 0
    erased: int = 0
    not_included: dict[str, int] = field(default_factory=dict)
    opened: "Opening | None" = None
    sample: "Drawn | None" = None
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0

    @property
    def ok(self) -> bool:
        """Whether the bundle is accepted."""
        return self.problem_count == 0

    def add(self, code: str, message: str, *, claim: Claim | None = None, index: int | None = None) -> None:
        """Note a problem, named by `claim` where an entry is known."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            known = claim or Claim(index, None, None, None, None, None)
            name = f"{known.type} {known.id}" if known.type else None
            self.problems.append(Problem(known.leaf, known.event_id, known.action, name, code, message))


# --- A sample that anybody can draw again -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SampleRule:
    """A population (entries of an action, from `since` on and before `until`, RFC 3339 UTC with microseconds) and a draw from it."""

    seed: str
    size: int
    action: str | None = None
    since: str | None = None
    until: str | None = None

    def covers(self, claim: Claim) -> bool:
        """Whether an entry belongs to the population."""
        if claim.ts is None or (self.action is not None and claim.action != self.action):
            return False
        return (self.since is None or claim.ts >= self.since) and (self.until is None or claim.ts < self.until)


@dataclass(frozen=True)
class Drawn:
    """`population` entries are covered, the first and last of them at these leaves; `leaves` were drawn, in the order of the log."""

    population: int
    first: int | None
    last: int | None
    leaves: list[int]


def sample_prefix(seed: str, root: bytes) -> str:
    """What stands before the leaf's decimal index and a newline in the text whose SHA-256 orders the population."""
    return f"ringi-audit-sample/1\n{seed}\n{encode_base64(root)}\n"


def draw(seed: str, root: bytes, population: Sequence[int], size: int) -> Drawn:
    """The `size` leaves of the population with the smallest SHA-256(prefix || index || newline).

    The root of the signed checkpoint goes into every hash: whoever writes the log cannot know the draw before the log is sealed, and whoever
    draws cannot choose among entries by anything but the seed, which they name.
    """
    prefix = sample_prefix(seed, root)
    ordered = sorted(population, key=lambda leaf: hashlib.sha256(f"{prefix}{leaf}\n".encode()).digest())
    return Drawn(len(population), min(population, default=None), max(population, default=None), sorted(ordered[:size]))


# --- What a bundle says of itself ---------------------------------------------------------------------------------------------------

FORMAT = "ringi-audit-bundle/3"
# Without parts; what auditors have kept goes on verifying.
_FORMAT_2 = "ringi-audit-bundle/2"
MAX_DESCRIPTION_BYTES = 64 * 1024 * 1024
_PART_KEYS = {"scope", "outside"}
_DESCRIPTION_KEYS = {"format", "origin", "size", "vkey", "organization", "withheld", "record_types", "unsealed"} | _PART_KEYS
_SCOPE_KEYS = {"from", "to", "adapter", "objects"}
_A_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True)
class Scope:
    """The part of the log that a bundle shows: a period (at or after `since`, before `until`), or what belongs to an adapter.

    `objects` are the ids of the things that belong to the adapter; None for a period.
    """

    since: str | None
    until: str | None
    adapter: str | None
    objects: frozenset[str] | None = field(repr=False)

    def covers(self, claim: Claim) -> bool:
        """Whether an entry belongs to the part."""
        if self.objects is not None:
            return claim.id in self.objects
        if claim.ts is None:
            return False
        return (self.since is None or claim.ts >= self.since) and (self.until is None or claim.ts < self.until)

    def __str__(self) -> str:
        if self.adapter is not None:
            return f"the adapter {self.adapter}"
        return f"the time from {self.since or 'the beginning'} to {self.until or 'the checkpoint'}"


class Description(NamedTuple):
    """`bundle.json`, never trusted: its form is checked here, its truth against entries and records.

    `organization` names the organisation whose part of the log the bundle shows, None for the whole log. `withheld` lists the entries that
    are left out because they belong to others: closed ranges [first, last] of leaves, sorted, with at least one leaf between two of them.
    `unsealed`: (type, id) of the objects whose records wait for a later export, or changed after the part that the bundle shows. `scope`: the
    part of the log that is shown, None for all of it; `outside`: ranges like `withheld`, of the organisation's own entries beyond that part.
    """

    organization: str | None
    withheld: list[list[int]]
    record_types: set[str]
    unsealed: list[tuple[str, str]]
    scope: Scope | None
    outside: list[list[int]]

    def absent_leaves(self) -> Iterator[tuple[int, bool]]:
        """Every leaf that is declared as absent, ascending, and whether it is withheld as another's."""
        ranges = [(first, last, True) for first, last in self.withheld] + [(first, last, False) for first, last in self.outside]
        for first, last, foreign in sorted(ranges):
            for leaf in range(first, last + 1):
                yield leaf, foreign


def _read_description(bundle: BundleFile, policy: Policy, checkpoint: Checkpoint, report: VerifyReport) -> Description:
    document = canonical_object(bundle.read("bundle.json", MAX_DESCRIPTION_BYTES), "bundle.json")
    if document.get("format") == _FORMAT_2 and document.keys() == _DESCRIPTION_KEYS - _PART_KEYS:
        document |= {"format": FORMAT, "scope": None, "outside": []}
    if document.keys() != _DESCRIPTION_KEYS or document["format"] != FORMAT:
        raise BundleInvalid(f"bundle.json does not describe a '{FORMAT}'.")
    if (document["origin"], document["size"]) != (checkpoint.origin, checkpoint.size) or isinstance(document["size"], bool):
        report.add("description_wrong", "bundle.json names another origin or size than the checkpoint.")
    # A list, not a set: what a forger wrote need not be hashable.
    if document["vkey"] not in [None, *(str(log.key) for log in policy.logs)]:
        report.add("description_wrong", "bundle.json names another key than the trusted one.")
    organization, withheld = document["organization"], document["withheld"]
    if not (organization is None or isinstance(organization, str)):
        raise BundleInvalid("bundle.json's organisation is not an id.")
    if not _are_ranges(withheld, checkpoint.size):
        raise BundleInvalid(f"bundle.json's withheld entries are not sorted, separate ranges within {checkpoint.size} entries.")
    if withheld and organization is None:
        report.add("description_wrong", "bundle.json withholds entries from an export of the whole log.", index=withheld[0][0])
    scope, outside = _read_scope(document["scope"]), document["outside"]
    if not _are_ranges(outside, checkpoint.size) or not _are_apart(withheld, outside):
        raise BundleInvalid("bundle.json's entries outside of its part are not sorted, separate ranges.")
    if outside and scope is None:
        report.add("description_wrong", "bundle.json claims to show all of the log, and leaves entries out.", index=outside[0][0])
    report.scope = scope
    types, unsealed = document["record_types"], document["unsealed"]
    if not isinstance(types, list) or not all(isinstance(name, str) for name in types) or types != sorted(set(types)):
        raise BundleInvalid("bundle.json's record types are not a sorted list of names.")
    if not isinstance(unsealed, list) or not all(isinstance(item, dict) and item.keys() == {"type", "id"} for item in unsealed):
        raise BundleInvalid("bundle.json's unsealed records are not a list of types and ids.")
    excused = [(str(item["type"]), str(item["id"])) for item in unsealed]
    return Description(organization, withheld, set(types), excused, scope, outside)


def _read_scope(value: object) -> Scope | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != _SCOPE_KEYS:
        raise BundleInvalid("bundle.json's scope is not that of an export.")
    since, until, adapter, objects = value["from"], value["to"], value["adapter"], value["objects"]
    if adapter is None:
        times = [time for time in (since, until) if time is not None]
        if objects is None and times and all(isinstance(time, str) and _A_TIME.fullmatch(time) for time in times):
            return Scope(since, until, None, None)
    elif (since, until) == (None, None) and isinstance(adapter, str) and isinstance(objects, list):
        names = [name for name in objects if isinstance(name, str)]
        if names == objects and names == sorted(set(names)) and adapter in names:
            return Scope(None, None, adapter, frozenset(names))
    raise BundleInvalid("bundle.json's scope is neither a period nor an adapter.")


def _are_apart(withheld: list[list[int]], outside: list[list[int]]) -> bool:
    ordered = sorted([*withheld, *outside])
    return all(before[1] < after[0] for before, after in pairwise(ordered))


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


# --- Entries and the tree -----------------------------------------------------------------------------------------------------------

_PREFIX_BYTES = 2
_LARGEST_FRAME = _PREFIX_BYTES + 2**16 - 1
_EVENT_KEYS = frozenset(
    ("v", "origin", "id", "ts", "actor", "action", "outcome", "object", "organization", "project", "before", "after", "policy",
     "request_id", "details", "payload_commit")
)  # fmt: skip


def _no_float(text: str) -> Any:
    raise ValueError(f"an event holds no such number: {text[:20]}")


# Events hold no floats and no keys beyond ASCII; for these, RFC 8785 is what the standard library writes, a hundred times faster.
_decode_event = json.JSONDecoder(parse_float=_no_float, parse_constant=_no_float).raw_decode
_encode_event = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, check_circular=False).encode


# The same spelling as one pattern, five times faster than to write an event again: its keys in their order, and strings without an escape. What does not match
# is not wrong: it is read and written again, as the details of every event are. Possessive, so that no entry is tried twice.
_CHARS = r'[^"\\\x00-\x1f]*+'
_TEXT, _NULLABLE, _NAMED, _NULLABLE_NAMED = f'"{_CHARS}"', f'(?:null|"{_CHARS}")', f'"({_CHARS})"', f'(?:null|"({_CHARS})")'
_TEXTS = rf"(?:null|\[(?:{_TEXT}(?:,{_TEXT})*+)?+\])"
_AUTH = rf'(?:null|\{{"acr":{_NULLABLE},"amr":{_TEXTS},"auth_time":{_NULLABLE},"iss":{_NULLABLE},"token_id":{_NULLABLE}\}})'
_PLAIN_EVENT = re.compile(
    rf'\{{"action":{_NAMED},"actor":\{{"auth":{_AUTH},"id":{_TEXT},"on_behalf_of":{_NULLABLE},"type":{_TEXT}\}},"after":{_NULLABLE_NAMED},'
    rf'"before":{_NULLABLE},"details":(null|\{{[^{{}}]*+\}}),"id":{_NAMED},"object":\{{"digest":{_NULLABLE},"id":{_NAMED},"type":{_NAMED}\}},'
    rf'"organization":{_NULLABLE_NAMED},"origin":{_NAMED},"outcome":{_TEXT},"payload_commit":{_NULLABLE},"policy":{_NULLABLE},'
    rf'"project":{_NULLABLE},"request_id":{_NULLABLE},"ts":{_NAMED},"v":1\}}'
).fullmatch


def claim_of(index: int, entry: bytes) -> Claim:
    """What entry `index` says of itself; every field None where its bytes are not an event in its one canonical spelling."""
    try:
        text = entry.decode()
        plain = _PLAIN_EVENT(text)
        if plain is None:
            return _claim_of_any(index, text)
        action, after, details, event_id, identity, kind, organization, origin, ts = plain.groups()
        # What follows the first document differs here too.
        if details != "null" and _encode_event(_decode_event(details)[0]) != details:
            return Claim(index, None, None, None, None, None)
        return Claim(index, event_id, action, kind, identity, after, origin, organization, ts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Claim(index, None, None, None, None, None)


def _claim_of_any(index: int, text: str) -> Claim:
    event: dict[str, Any] = _decode_event(text)[0]
    if _encode_event(event) != text or event.keys() != _EVENT_KEYS:
        return Claim(index, None, None, None, None, None)
    named = event["object"]
    kind, identity = str(named["type"]), str(named["id"])
    origin = str(event["origin"])
    organization = None if event["organization"] is None else str(event["organization"])
    return Claim(index, str(event["id"]), str(event["action"]), kind, identity, event["after"], origin, organization, str(event["ts"]))


def framed_entries(stream: MemberReader) -> Iterator[bytes]:
    """The entries of C2SP tlog-tiles' bundles, u16be length || entry; an empty one is a hole. Raises BundleInvalid when the framing breaks."""
    data, at = stream.take(_CHUNK), 0
    while at < len(data):
        if len(data) - at < _LARGEST_FRAME:
            data, at = data[at:] + stream.take(_CHUNK), 0
        begin = at + _PREFIX_BYTES
        at = begin + int.from_bytes(data[at:begin], "big")
        if at > len(data) or begin > len(data):
            raise BundleInvalid("The last entry is truncated.")
        yield data[begin:at]


def _hashes(stream: MemberReader) -> Iterator[bytes]:
    while data := stream.take(_CHUNK):
        for at in range(0, len(data), HASH_BYTES):
            yield data[at : at + HASH_BYTES]


def _leaves(bundle: BundleFile) -> Iterator[tuple[bytes, bytes]]:
    """Every entry with its stored leaf hash, which is empty beyond the last one."""
    with bundle.open("entries.bin") as entries, bundle.open("leaves.bin") as leaves:
        stored = _hashes(leaves)
        for entry in framed_entries(entries):
            yield entry, next(stored, b"")


class _Tree:
    """Checks stored hashes against each other: what `peaks` holds are stored values, each once compared with its children."""

    def __init__(self, nodes: MemberReader, report: VerifyReport) -> None:
        self._nodes, self._report = _hashes(nodes), report
        self.frontier = Frontier()

    def append(self, stored: bytes, claim: Claim, previous: Claim | None) -> None:
        index, level, current = self.frontier.size, 0, stored
        while index & 1:
            index >>= 1
            level += 1
            computed, current = node_hash(self.frontier.peaks.pop(), current), next(self._nodes, b"")
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


class _Replay:
    """Steps 3 and 4: every entry once, in the order of the log."""

    def __init__(self, checkpoint: Checkpoint, description: Description, report: VerifyReport, policy: Policy) -> None:
        self._checkpoint, self._description, self._report, self._policy = checkpoint, description, report, policy
        self._ids: set[str] = set()
        self._misfits: list[_Misfit] = []
        # In leaf order: the claims of all entries that carry an `after`, and the leaves of a population.
        self.claims: list[Claim] = []
        self.covered: list[int] = []

    def run(self, bundle: BundleFile, *, older: Checkpoint | None, rule: SampleRule | None) -> None:
        """Raises BundleInvalid where there is nothing left to compare."""
        size = self._checkpoint.size
        if bundle.size("leaves.bin") != HASH_BYTES * size or bundle.size("nodes.bin") != HASH_BYTES * (size - size.bit_count()):
            raise BundleInvalid(f"The stored hashes are not those of a log of {size} entries.")
        absent = self._description.absent_leaves()
        next_absent, foreign = next(absent, (None, False))
        part = _Part(self._description, self._report)
        previous: Claim | None = None
        with bundle.open("nodes.bin") as nodes:
            tree = _Tree(nodes, self._report)
            for index, (entry, stored) in enumerate(_leaves(bundle)):
                if index == size:
                    raise BundleInvalid(f"There are entries beyond the {size} of the checkpoint.")
                claim = claim_of(index, entry)
                if index == next_absent:
                    self._check_absent(claim, entry, foreign=foreign)
                    part.leave_out(index, foreign=foreign)
                    next_absent, foreign = next(absent, (None, False))
                else:
                    if index == 0 and claim.action == OPENING:
                        self._open(entry, claim)
                        part.is_successor = True
                    self._check_entry(claim, entry, stored)
                    if not self._is_opening(claim):
                        part.show(claim, entry)
                tree.append(stored, claim, previous)
                if claim.after is not None:
                    self.claims.append(claim)
                if rule is not None and rule.covers(claim):
                    self.covered.append(index)
                if older is not None and index + 1 == older.size:
                    self._check_older(older, tree.frontier.root())
                previous = claim
        for index in range(tree.frontier.size, size)[:1]:
            self._report.add("entry_missing", f"The entries {index} to {size - 1} are missing.", index=index)
        part.finish()
        self._explain(bundle)
        if tree.frontier.size == size:
            self._check_root(tree.frontier.root())

    def _is_opening(self, claim: Claim) -> bool:
        return claim.leaf == 0 and claim.action == OPENING

    def _open(self, entry: bytes, claim: Claim) -> None:
        try:
            self._report.opened = read_opening(entry, self._policy)
        except (OpeningInvalid, NoteInvalid) as error:
            self._report.add("opening_invalid", error.message, claim=claim)

    def _was_carried(self, claim: Claim) -> bool:
        opened = self._report.opened
        return opened is not None and claim.origin == opened.old_origin and 1 <= (claim.leaf or 0) <= opened.carried

    def _check_absent(self, claim: Claim, entry: bytes, *, foreign: bool) -> None:
        if entry:
            self._report.add("entry_not_withheld", f"Entry {claim.leaf} is declared as withheld, but its bytes are there.", claim=claim)
        elif foreign:
            self._report.withheld += 1
        else:
            self._report.outside += 1

    def _check_entry(self, claim: Claim, entry: bytes, stored: bytes) -> None:
        if not entry:
            self._report.add("entry_missing", f"Entry {claim.leaf} is missing.", index=claim.leaf)
        elif (computed := leaf_hash(entry)) != stored:
            self._misfits.append(_Misfit(claim, computed))
        elif claim.event_id is None:
            self._report.add("entry_malformed", f"Entry {claim.leaf} is not an event in its canonical spelling.", claim=claim)
        elif claim.event_id in self._ids:
            self._report.add("entry_duplicated", f"Entry {claim.leaf} repeats the event id of an earlier one.", claim=claim)
        elif claim.origin != self._checkpoint.origin and not self._was_carried(claim):
            self._report.add("entry_foreign", f"Entry {claim.leaf} was written for the log '{claim.origin}'.", claim=claim)
        elif self._description.organization not in {None, claim.organization} and not self._is_opening(claim):
            message = f"Entry {claim.leaf} belongs to another organisation than the bundle's, '{self._description.organization}'."
            self._report.add("entry_of_other_organization", message, claim=claim)
        else:
            self._ids.add(claim.event_id)

    def _check_older(self, older: Checkpoint, root: bytes) -> None:
        if root != older.root:
            message = (
                f"The first {older.size} entries lead to another root than the older checkpoint's, which was signed too: a split view."
            )
            self._report.add("split_view", message)

    def _explain(self, bundle: BundleFile) -> None:
        """An entry that does not fit its stored leaf hash was changed, or it is whole and stands in the wrong place."""
        if not self._misfits:
            return
        wanted = {misfit.computed for misfit in self._misfits}
        places: dict[bytes, int] = {}
        with bundle.open("leaves.bin") as leaves:
            index = 0
            while stored := leaves.take(HASH_BYTES):
                if stored in wanted:
                    places.setdefault(stored, index)
                index += 1
        for misfit in self._misfits:
            place = places.get(misfit.computed)
            if place is None:
                message = f"Entry {misfit.claim.leaf} was changed: its bytes do not have the hash that was stored for it."
                self._report.add("entry_changed", message, claim=misfit.claim)
            else:
                message = f"Entry {misfit.claim.leaf} holds the bytes of entry {place}: entries were moved, removed or repeated."
                self._report.add("entry_out_of_place", message, claim=misfit.claim)

    def _check_root(self, root: bytes) -> None:
        self._report.root = root.hex()
        if root == self._checkpoint.root:
            return
        message = f"The entries lead to the root {root.hex()}, but {self._checkpoint.root.hex()} was signed."
        if self._report.ok:
            message += " All stored hashes agree with each other, so the log was rewritten as a whole: name an older export with --against."
        self._report.add("root_not_signed", message)


# --- A part of the log --------------------------------------------------------------------------------------------------------------

# What an entry's details name of other things, which then belong to the same adapter.
_REFERENCES = ("adapter", "base_revision", "request", "version")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class _Part:
    """Whether a bundle of a part shows that part, as far as it can be told from the bundle itself; nothing is checked of a whole one."""

    def __init__(self, description: Description, report: VerifyReport) -> None:
        self._scope, self._report = description.scope, report
        # Then what an entry refers to may stand in the log before.
        self.is_successor = False
        self._first: Claim | None = None
        self._last: Claim | None = None
        # Whether anything is left out as lying outside, and the first such leaf behind the last entry that is shown.
        self._leaves_out = False
        self._since_shown: int | None = None
        self._spoken_of: set[str] = set()
        self._votes: Counter[str] = Counter()
        self._referred: dict[str, Claim] = {}

    def leave_out(self, index: int, *, foreign: bool) -> None:
        """An entry that is absent."""
        if self._scope is None or foreign:
            return
        self._leaves_out = True
        if self._since_shown is None:
            self._since_shown = index

    def show(self, claim: Claim, entry: bytes) -> None:
        """An entry that is there."""
        scope = self._scope
        if scope is None or claim.event_id is None:
            return
        if scope.objects is None:
            if self._first is not None and self._since_shown is not None:
                self._left_out(f"Entry {self._since_shown} lies between two that are shown, and is said to lie outside of {scope}.", claim)
            elif self._first is None and self._since_shown is not None and (scope.since is None or (claim.ts or "") >= scope.since):
                self._left_out(f"Nothing shows that {scope} begins at entry {claim.leaf}: the entry before it is left out.", claim)
        elif not scope.covers(claim):
            self._report.add("entry_outside_scope", f"Entry {claim.leaf} does not belong to {scope}.", claim=claim)
        else:
            self._refer(claim, entry)
        self._first, self._last, self._since_shown = self._first or claim, claim, None

    def _refer(self, claim: Claim, entry: bytes) -> None:
        self._spoken_of.add(str(claim.id))
        event = json.loads(entry)
        details = event["details"] or {}
        for name in _REFERENCES:
            if _UUID.fullmatch(str(details.get(name))):
                self._referred.setdefault(str(details[name]), claim)
        if claim.action == "approval.vote" and event["outcome"] == "ok":
            self._votes[str(details.get("request"))] += 1
        elif isinstance(details.get("votes"), int):
            shown = self._votes[str(details.get("request", claim.id))]
            if shown > details["votes"] or (shown < details["votes"] and not self.is_successor):
                self._left_out(f"Entry {claim.leaf} says that {details['votes']} votes were cast; {shown} of them are shown.", claim)

    def finish(self) -> None:
        """After the last entry."""
        scope = self._scope
        if scope is None:
            return
        if scope.objects is not None:
            self._finish_adapter(scope.objects)
        elif self._last is None:
            if self._leaves_out:
                self._left_out(f"Nothing of {scope} is shown, and nothing shows that there is nothing.", None)
        elif self._since_shown is not None and (scope.until is None or (self._last.ts or "") < scope.until):
            self._left_out(f"Nothing shows that {scope} ends with entry {self._last.leaf}: the entry behind it is left out.", self._last)

    def _finish_adapter(self, objects: frozenset[str]) -> None:
        for name in sorted(objects - self._spoken_of):
            self._left_out(f"'{name}' is said to belong to {self._scope}, and no entry about it is shown.", None)
        for name, claim in self._referred.items():
            if name not in objects and not self.is_successor:
                self._left_out(f"Entry {claim.leaf} refers to '{name}', of which nothing is shown.", claim)

    def _left_out(self, message: str, claim: Claim | None) -> None:
        self._report.add("entry_left_out", message, claim=claim)


# --- State records ------------------------------------------------------------------------------------------------------------------

MAX_RECORD_BYTES = 64 * 1024 * 1024
_Identity = tuple[str | None, str | None]


def _check_records(bundle: BundleFile, description: Description, claims: list[Claim], report: VerifyReport) -> None:
    """Step 5: the newest entry of an object that carries an `after` names the event and the digest of its record."""
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
    elif f"sha256:{hashlib.sha256(canonical_json(document['record'])).hexdigest()}" != claim.after:
        report.add("record_changed", f"The record of {name} was changed: it is not what entry {claim.leaf} recorded.", claim=claim)
    elif claim.action == "payload.erased":
        report.erased += 1


# --- A whole bundle -----------------------------------------------------------------------------------------------------------------


def verify_bundle(path: Path, trust: Policy | str, *, against: Path | None = None, rule: SampleRule | None = None) -> VerifyReport:
    """Check the export at `path` under a policy, or a log's vkey alone, obtained out of band.

    `against` is an older export or checkpoint file; `rule` also draws a sample. Raises NoteInvalid when the vkey itself is malformed;
    everything about the files comes back as problems.
    """
    policy = trust if isinstance(trust, Policy) else Policy.of_log(trust)
    report = VerifyReport()
    try:
        bundle = BundleFile(path)
        trusted = policy.open(bundle.read("checkpoint", MAX_NOTE_BYTES))
        checkpoint = trusted.checkpoint
        report.origin, report.size = checkpoint.origin, checkpoint.size
        report.signers, report.witnesses = trusted.signers, trusted.witnesses
        description = _read_description(bundle, policy, checkpoint, report)
        older = _older_checkpoint(against, policy, checkpoint, report) if against is not None else None
        follows = older is not None and older.origin != checkpoint.origin
        replay = _Replay(checkpoint, description, report, policy)
        replay.run(bundle, older=None if follows else older, rule=rule)
        _check_records(bundle, description, replay.claims, report)
        if against is not None and older is not None and follows:
            _compare_predecessor(checkpoint, older, against, policy, report)
        elif against is not None and _is_bundle(against):
            _compare(bundle, description, against, policy, report)
        if rule is not None and description.scope is not None:
            report.add("sample_of_part", "A sample is drawn from a whole export; this one shows a part of the log.")
        elif rule is not None:
            report.sample = draw(rule.seed, checkpoint.root, replay.covered, rule.size)
    except (BundleInvalid, NoteInvalid) as error:
        report.add(error.code, error.message)
    return report


def _is_bundle(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC


def _older_checkpoint(against: Path, policy: Policy, checkpoint: Checkpoint, report: VerifyReport) -> Checkpoint | None:
    """Step 6: the checkpoint of an older export, or one kept alone. Its log must have signed it; its witnesses may still have been missing."""
    try:
        note = BundleFile(against).read("checkpoint", MAX_NOTE_BYTES) if _is_bundle(against) else against.read_bytes()
        origin = Checkpoint.parse(parse_note(note)[0]).origin
        older = (policy if origin == checkpoint.origin else _of_ended(policy, origin)).open(note, cosigned=False).checkpoint
    except (BundleInvalid, NoteInvalid, OSError) as error:
        code = "older_bundle_invalid" if isinstance(error, BundleInvalid) else "older_checkpoint_invalid"
        report.add(code, f"What it was to be compared with proves nothing: {getattr(error, 'message', error)}")
        return None
    if older.origin == checkpoint.origin and older.size > checkpoint.size:
        report.add("log_shortened", f"The older log has {older.size} entries, this one {checkpoint.size}.", index=checkpoint.size)
    return older


def _of_ended(policy: Policy, origin: str) -> Policy:
    """The policy without the last bound of a log that has ended: the bound is what the one that follows it says, and so what is to be checked."""
    last = max((log.last for log in policy.logs if log.key.name == origin), default=_LATEST)
    logs = [log._replace(last=_LATEST) if (log.key.name, log.last) == (origin, last) else log for log in policy.logs]
    return replace(policy, logs=tuple(logs), quorum=None)


def _compare_predecessor(checkpoint: Checkpoint, older: Checkpoint, against: Path, policy: Policy, report: VerifyReport) -> None:
    """Step 6 for the log that this one follows: what leaf 0 says of it must be so, and no more may have been lost than it says."""
    opened = report.opened
    if opened is None or opened.old_origin != older.origin:
        message = f"The older checkpoint is of '{older.origin}', this one of '{checkpoint.origin}', which does not say that it follows it."
        report.add("older_checkpoint_invalid", message)
        return
    if older.size > opened.last.size:
        message = f"The older log had {older.size} signed entries; this one admits {opened.last.size}: more was lost than it says."
        report.add("loss_understated", message, index=0)
    compared = [(one.size, one.root) for one in (opened.held, opened.last)]
    if _is_bundle(against):
        before = verify_bundle(against, _of_ended(policy, older.origin))
        if not before.ok:
            report.add("older_bundle_invalid", f"The older export has {before.problem_count} problems of its own; it proves nothing.")
            return
        roots = _roots(BundleFile(against), {size for size, _ in compared})
    else:
        roots = {older.size: older.root}
    if not roots:
        message = f"An older log of {older.size} entries does not show the {opened.held.size} that were kept: take a newer export of it."
        report.add("older_checkpoint_invalid", message)
    for size, root in compared:
        if size in roots and roots[size] != root:
            report.add("split_view", f"The older log's first {size} entries are not those that this one says it follows.", index=0)


def _roots(bundle: BundleFile, sizes: set[int]) -> dict[int, bytes]:
    """The roots of a good bundle's log at the sizes that it reaches."""
    frontier, found = Frontier(), {0: EMPTY_ROOT} if 0 in sizes else {}
    for _, stored in _leaves(bundle):
        frontier.append(stored)
        if frontier.size in sizes:
            found[frontier.size] = frontier.root()
    return found


def _compare(bundle: BundleFile, description: Description, against: Path, policy: Policy, report: VerifyReport) -> None:
    """Step 6, entry by entry: the older export must be good by itself, and this one begin with all its entries, withheld ones by hash."""
    older = verify_bundle(against, replace(policy, quorum=None))
    if not older.ok or older.size is None:
        report.add("older_bundle_invalid", f"The older export has {older.problem_count} problems of its own; it proves nothing.")
        return
    pairs = zip(_leaves(BundleFile(against)), _leaves(bundle), strict=False)
    for index, ((before, before_hash), (now, now_hash)) in enumerate(pairs):
        if before_hash != now_hash or (before and now and before != now):
            message = f"Entry {index} is the first that differs from the older export."
            report.add("differs_from_older", message, claim=claim_of(index, before))
            return
        if not before or now:
            continue
        claim, own = claim_of(index, before), any(first <= index <= last for first, last in description.outside)
        if not own and claim.organization == description.organization:
            message = f"Entry {index} is absent, but the older export shows that it belongs to this bundle's organisation."
            report.add("own_entry_withheld", message, claim=claim)
        elif own and description.scope is not None and description.scope.covers(claim):
            message = f"Entry {index} is left out, but the older export shows that it belongs to {description.scope}."
            report.add("entry_left_out", message, claim=claim)


# --- The proof of one entry ---------------------------------------------------------------------------------------------------------

PROOF_HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_HASHES = 63


class Proof(NamedTuple):
    """A `tlog-proof` file, read but not verified. `extra` holds the entry's bytes in the files that the platform writes."""

    leaf: int
    hashes: list[bytes]
    note: bytes
    extra: bytes | None


def parse_proof(data: bytes) -> Proof:
    """Read a C2SP tlog-proof@v1 file strictly; raises ProofInvalid, or NoteInvalid for base64 that is none."""
    head, separator, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise ProofInvalid("The proof is not ASCII before its checkpoint.") from error
    if not separator or lines.pop(0) != PROOF_HEADER:
        raise ProofInvalid(f"The file does not begin with '{PROOF_HEADER}'.")
    extra = decode_base64(lines.pop(0).removeprefix("extra ")) if lines and lines[0].startswith("extra ") else None
    word, _, index = (lines.pop(0) if lines else "").partition(" ")
    if word != "index" or not _DECIMAL.fullmatch(index):
        raise ProofInvalid("The proof has no line 'index <decimal>'.")
    hashes = [decode_base64(line) for line in lines]
    if len(hashes) > MAX_PROOF_HASHES or any(len(one) != HASH_BYTES for one in hashes):
        raise ProofInvalid(f"A proof has at most {MAX_PROOF_HASHES} lines of {HASH_BYTES} bytes.")
    return Proof(int(index), hashes, note, extra)


class Proven(NamedTuple):
    """An entry that is in the log: its leaf, its bytes, and the checkpoint that covers it."""

    leaf: int
    entry: bytes
    trusted: Trusted


def verify_proof(data: bytes, trust: Policy | str, *, entry: bytes | None = None) -> Proven:
    """The entry that a tlog-proof file proves: `entry`, or else the bytes in its extra line. Raises Refused."""
    policy = trust if isinstance(trust, Policy) else Policy.of_log(trust)
    proof = parse_proof(data)
    trusted = policy.open(proof.note)
    found = proof.extra if entry is None else entry
    if found is None:
        raise ProofInvalid("The proof brings no entry.", next_step="Pass the entry's bytes with --entry.")
    if not verify_inclusion(proof.leaf, trusted.checkpoint.size, leaf_hash(found), trusted.checkpoint.root, proof.hashes):
        raise ProofInvalid(f"The entry is not at {proof.leaf} in the tree of {trusted.checkpoint.size} that was signed.")
    if entry is not None and proof.extra not in {None, entry}:
        raise ProofInvalid("The entry in the proof's extra line is another one.")
    if claim_of(proof.leaf, found).event_id is None:
        raise ProofInvalid("The entry is in the log, but it is not an event in its canonical spelling.")
    return Proven(proof.leaf, found, trusted)


# --- The command --------------------------------------------------------------------------------------------------------------------

OK, REFUSED, USAGE = 0, 1, 2


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    about = "Check a Ringi audit export, or the proof of one entry, without trusting whoever made it."
    parser = argparse.ArgumentParser(prog="ringi-verify", description=about)
    parser.add_argument("bundle", nargs="?", type=Path, help="an exported bundle")
    parser.add_argument("--trust", type=Path, required=True, metavar="FILE", help="whom to trust (C2SP tlog-policy): log, witness, quorum")
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="an older bundle or checkpoint of the same log, or of the one that it follows"
    )
    parser.add_argument("--proof", type=Path, metavar="FILE", help="the proof of one entry (tlog-proof) in the place of a bundle")
    parser.add_argument("--entry", type=Path, metavar="FILE", help="the entry's bytes, where the proof does not bring them")
    parser.add_argument("--sample", type=int, metavar="N", help="draw N entries again, as /audit/sample did")
    parser.add_argument("--seed", default="", help="the seed of the draw")
    parser.add_argument("--action", help="only entries of this action")
    parser.add_argument("--from", dest="since", metavar="TIME", help="only entries at or after it: 2026-11-01T00:00:00.000000Z")
    parser.add_argument("--to", dest="until", metavar="TIME", help="only entries before it")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    given = parser.parse_args(argv)
    if (given.bundle is None) == (given.proof is None):
        parser.error("name either a bundle or --proof FILE")
    for path in filter(None, (given.bundle, given.proof, given.entry, given.against)):
        if not path.is_file():
            parser.error(f"'{path}' is not a file")
    for time in filter(None, (given.since, given.until)):
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time):
            parser.error(f"'{time}' is not a time such as 2026-11-01T00:00:00.000000Z")
    return given


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


# What a part proves beyond that each entry shown is in the log: by whether it is a period.
_PROVES = {
    True: "No entry of this organisation in that time is missing, unless it is passed off as another organisation's.",
    False: "Each entry shown is in the log, with what it refers to and every vote of a decided request; it does not prove that there is no other "
    "about this adapter. A whole export does, or --against one.",
}


_FOLLOWS = "rows that did not change since are proven by an export of that log, and not by this one"


def report_document(report: VerifyReport) -> dict[str, Any]:
    """The report as JSON has it."""
    scope = report.scope and {name: getattr(report.scope, name) for name in ("since", "until", "adapter")}
    opened = report.opened and {
        "old_origin": report.opened.old_origin, "last_size": report.opened.last.size, "held_size": report.opened.held.size,
        "lost": report.opened.lost, "carried": report.opened.carried, "reason": report.opened.reason,
        "administrators": list(report.opened.administrators),
    }  # fmt: skip
    return {**asdict(replace(report, scope=None, opened=None)), "scope": scope, "opened": opened, "ok": report.ok}


def _said(report: VerifyReport, *, as_json: bool) -> int:
    if as_json:
        _say(json.dumps(report_document(report), ensure_ascii=False))
        return OK if report.ok else REFUSED
    for one in report.problems:
        where = "the bundle" if one.index is None else f"entry {one.index}"
        about = f" ({one.action} {one.object})" if one.action else ""
        _say(f"{where}: {one.code}: {one.message}{about}")
    if len(report.problems) < report.problem_count:
        _say(f"and {report.problem_count - len(report.problems)} more")
    if report.sample is not None:
        drawn = report.sample
        _say(f"sample: {len(drawn.leaves)} of {drawn.population}, leaves {drawn.first} to {drawn.last}: {' '.join(map(str, drawn.leaves))}")
    _say(f"log {report.origin}, {report.size} entries ({report.withheld} withheld), root {report.root}")
    if report.scope is not None:
        _say(f"PART: {report.scope}; {report.outside} entries outside of it are there as hashes. {_PROVES[report.scope.objects is None]}")
    if report.opened is not None:
        log = report.opened
        _say(f"FOLLOWS {log.old_origin}, which had {log.last.size} signed entries and lost {log.lost}: {log.reason}")
        _say(f"approved by {', '.join(log.administrators)}; {log.carried} entries that it had not signed for are in this log; {_FOLLOWS}")
    _say(f"signed by {', '.join(report.signers) or 'nobody'}; cosigned by {', '.join(report.witnesses) or 'nobody'}")
    erased = f", {report.erased} of them with erased text" if report.erased else ""
    records = f"{report.records} records{erased}, {report.unsealed} changed after the checkpoint"
    _say(f"VERIFIED: every byte was checked; {records}" if report.ok else f"NOT VERIFIED: {report.problem_count} problems")
    return OK if report.ok else REFUSED


def _prove(given: argparse.Namespace, policy: Policy) -> int:
    proven = verify_proof(given.proof.read_bytes(), policy, entry=given.entry.read_bytes() if given.entry else None)
    found, checkpoint = claim_of(proven.leaf, proven.entry), proven.trusted.checkpoint
    if given.json:
        _say(json.dumps({"ok": True, "index": proven.leaf, "origin": checkpoint.origin, "size": checkpoint.size,
                         "witnesses": proven.trusted.witnesses, "event": json.loads(proven.entry)}, ensure_ascii=False))  # fmt: skip
    else:
        _say(
            f"VERIFIED: entry {proven.leaf} of {checkpoint.size} in {checkpoint.origin}: {found.ts} {found.action} {found.type} {found.id}"
        )
    return OK


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = _arguments(argv)
    try:
        policy = parse_policy(given.trust.read_bytes())
    except (Refused, OSError) as error:
        sys.stderr.write(f"ringi-verify: the trust file is unusable: {getattr(error, 'message', error)}\n")
        return USAGE
    try:
        if given.proof is not None:
            return _prove(given, policy)
    except Refused as error:
        _say(f"{error.code}: {error.message} {error.next_step}".rstrip())
        return REFUSED
    rule = SampleRule(given.seed, given.sample, given.action, given.since, given.until) if given.sample is not None else None
    return _said(verify_bundle(given.bundle, policy, against=given.against, rule=rule), as_json=given.json)


if __name__ == "__main__":
    sys.exit(main())
