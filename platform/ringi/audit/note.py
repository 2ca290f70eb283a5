"""Signed notes and checkpoints: the bytes that a stranger needs to trust the log. Pure.

Formats: C2SP signed-note (text, blank line, signature lines), C2SP tlog-checkpoint (origin, size, root; no extension lines
here) and the key encodings of Go's `golang.org/x/mod/sumdb/note`, with Ed25519 (RFC 8032, signature type 0x01).
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ringi.kit.errors import RingiError

ED25519 = b"\x01"
MAX_NOTE_BYTES = 1_000_000
_EM_DASH = "\u2014"
_KEY_ID_BYTES = 4
_PUBLIC_KEY_BYTES = 32
_ROOT_BYTES = 32
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


class NoteInvalid(RingiError):
    """A key, note or checkpoint whose bytes break the format, or whose trusted signature is missing or wrong."""

    code, status = "audit_note_invalid", 400

    def __init__(self, message: str, *, next_step: str = "Get the key or note again from its source; do not trust this one.") -> None:
        super().__init__(message, next_step=next_step)


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


def check_key_name(name: str) -> str:
    """A key name: not empty, no white space, no plus, no control character."""
    if not name or "+" in name or any(char.isspace() or ord(char) < ord(" ") for char in name):
        raise NoteInvalid(f"{name!r} is not a key name.", next_step="Use a schema-less URL such as example.org/audit/1.")
    return name


def key_id(name: str, public_key: bytes) -> bytes:
    """SHA-256(name || 0x0A || 0x01 || public key)[:4]."""
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + public_key).digest()[:_KEY_ID_BYTES]


@dataclass(frozen=True)
class VerifierKey:
    """A log's name and Ed25519 public key. Its text form, the `vkey`, is what an auditor gets out of band."""

    name: str
    public_key: bytes

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read `name+hex(key id)+base64(0x01 || public key)`; raises NoteInvalid."""
        match text.split("+", 2):
            case [name, identifier, encoded]:
                data = decode_base64(encoded)
            case _:
                raise NoteInvalid("A verifier key has three parts: name+id+key.", next_step="Pass the key line as it was published.")
        if data[:1] != ED25519 or len(data) != 1 + _PUBLIC_KEY_BYTES:
            raise NoteInvalid("The verifier key is not an Ed25519 key of 32 bytes.")
        key = cls(check_key_name(name), data[1:])
        if key.id.hex() != identifier:
            raise NoteInvalid(f"The verifier key's id is {key.id.hex()}, not {identifier[:16]!r}.")
        return key

    @property
    def id(self) -> bytes:
        """The four bytes that stand before each signature."""
        return key_id(self.name, self.public_key)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{encode_base64(ED25519 + self.public_key)}"

    def accepts(self, text: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Signer:
    """A log's name and Ed25519 seed (32 bytes). Its text form follows Go's sumdb/note: `PRIVATE+KEY+name+id+base64(0x01 || seed)`."""

    name: str
    seed: bytes

    @classmethod
    def generate(cls, name: str) -> "Signer":
        """A new random key under `name`."""
        return cls(check_key_name(name), Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> "Signer":
        """Read the text form; raises NoteInvalid without repeating any of the secret."""
        match text.split("+", 4):
            case ["PRIVATE", "KEY", name, identifier, encoded]:
                pass
            case _:
                raise NoteInvalid("This is not a signing key of the form PRIVATE+KEY+name+id+key.")
        try:
            data = decode_base64(encoded)
        except NoteInvalid:
            raise NoteInvalid("The signing key is not canonical base64.") from None
        if data[:1] != ED25519 or len(data) != 1 + _PUBLIC_KEY_BYTES:
            raise NoteInvalid("The signing key is not an Ed25519 key.")
        signer = cls(check_key_name(name), data[1:])
        if signer.verifier.id.hex() != identifier:
            raise NoteInvalid("The signing key's id does not match its name and key.")
        return signer

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return VerifierKey(self.name, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())

    def export(self) -> str:
        """The secret text form."""
        return f"PRIVATE+KEY+{self.name}+{self.verifier.id.hex()}+{encode_base64(ED25519 + self.seed)}"

    def __repr__(self) -> str:
        return f"Signer({self.name!r})"


class SignatureLine(NamedTuple):
    """One parsed signature line of a note."""

    name: str
    key_id: bytes
    signature: bytes


def sign_note(text: str, signer: Signer) -> bytes:
    """The note over `text`, which ends in a newline."""
    if not text.endswith("\n") or any(ord(char) < ord(" ") and char != "\n" for char in text):
        raise NoteInvalid("A note's text ends in a newline and holds no control characters.")
    signature = Ed25519PrivateKey.from_private_bytes(signer.seed).sign(text.encode())
    return f"{text}\n{_EM_DASH} {signer.name} {encode_base64(signer.verifier.id + signature)}\n".encode()


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
            case [dash, name, encoded] if dash == _EM_DASH:
                data = decode_base64(encoded)
            case _:
                raise NoteInvalid("A signature line is 'em dash, space, key name, space, base64'.")
        if len(data) <= _KEY_ID_BYTES:
            raise NoteInvalid("A signature line holds no signature.")
        signatures.append(SignatureLine(check_key_name(name), data[:_KEY_ID_BYTES], data[_KEY_ID_BYTES:]))
    return f"{body}\n", signatures


def open_note(note: bytes, key: VerifierKey) -> str:
    """The text of a note that `key` signed. Lines of other keys (witnesses) are left alone; a wrong one of `key` refuses all."""
    text, signatures = parse_note(note)
    own = [line for line in signatures if line.name == key.name and line.key_id == key.id]
    if not own:
        raise NoteInvalid(f"The note carries no signature of '{key.name}' ({key.id.hex()}).", next_step="Check that this is the log's key.")
    if not all(key.accepts(text.encode(), line.signature) for line in own):
        raise NoteInvalid(f"The signature of '{key.name}' does not fit the note's text.")
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
        if len(root) != _ROOT_BYTES:
            raise NoteInvalid("A checkpoint's root has 32 bytes.")
        return cls(check_key_name(origin), int(size), root)


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> bytes:
    """The signed note; the key's name is the log's origin."""
    if checkpoint.origin != signer.name:
        raise NoteInvalid(f"The key is for '{signer.name}' and cannot sign for '{checkpoint.origin}'.")
    return sign_note(checkpoint.text, signer)


def open_checkpoint(note: bytes, key: VerifierKey) -> Checkpoint:
    """The checkpoint of a note signed by `key`, for the origin that `key` names."""
    checkpoint = Checkpoint.parse(open_note(note, key))
    if checkpoint.origin != key.name:
        raise NoteInvalid(f"The checkpoint is of '{checkpoint.origin}', the key of '{key.name}'.")
    return checkpoint
