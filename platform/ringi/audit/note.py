"""Sign notes, checkpoints and cosignatures. Pure.

Formats: C2SP signed-note (text, blank line, signature lines), tlog-checkpoint (origin, size, root; no extension lines here),
tlog-cosignature, and the key encodings of Go's `golang.org/x/mod/sumdb/note`, with Ed25519 (RFC 8032). What reads and verifies them is in
`ringi_verify.py`, the file that an auditor runs alone.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ringi.audit.ringi_verify import (
    COSIGNATURE,
    ED25519,
    EM_DASH,
    PUBLIC_KEY_BYTES,
    Checkpoint,
    NoteInvalid,
    VerifierKey,
    check_key_name,
    cosigned_message,
    decode_base64,
    encode_base64,
    parse_note,
)


@dataclass(frozen=True)
class Signer:
    """A log's or witness's name and Ed25519 seed (32 bytes). Its text form follows Go's sumdb/note: `PRIVATE+KEY+name+id+base64(kind || seed)`.

    `kind` as in VerifierKey: 0x01 for a log, 0x04 for a witness. A witness's key must not serve anything else (C2SP tlog-cosignature).
    """

    name: str
    seed: bytes
    kind: bytes = ED25519

    @classmethod
    def generate(cls, name: str, *, kind: bytes = ED25519) -> "Signer":
        """A new random key under `name`."""
        return cls(check_key_name(name), Ed25519PrivateKey.generate().private_bytes_raw(), kind)

    @classmethod
    def parse(cls, text: str, *, kind: bytes = ED25519) -> "Signer":
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
        if data[:1] != kind or len(data) != 1 + PUBLIC_KEY_BYTES:
            raise NoteInvalid(f"The signing key is not an Ed25519 key under the type {kind.hex()}.")
        signer = cls(check_key_name(name), data[1:], kind)
        if signer.verifier.id.hex() != identifier:
            raise NoteInvalid("The signing key's id does not match its name and key.")
        return signer

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return VerifierKey(self.name, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw(), self.kind)

    def export(self) -> str:
        """The secret text form."""
        return f"PRIVATE+KEY+{self.name}+{self.verifier.id.hex()}+{encode_base64(self.kind + self.seed)}"

    def __repr__(self) -> str:
        return f"Signer({self.name!r})"


def _line(text: bytes, signer: Signer, before: bytes = b"") -> bytes:
    signature = before + Ed25519PrivateKey.from_private_bytes(signer.seed).sign(text)
    return f"{EM_DASH} {signer.name} {encode_base64(signer.verifier.id + signature)}\n".encode()


def sign_note(text: str, *signers: Signer) -> bytes:
    """The note over `text`, which ends in a newline, with one line of each signer: several while a key is being replaced."""
    if not signers or not text.endswith("\n") or any(ord(char) < ord(" ") and char != "\n" for char in text):
        raise NoteInvalid("A note has a signer, and its text ends in a newline and holds no control characters.")
    if any(signer.kind != ED25519 for signer in signers):
        raise NoteInvalid("A witness's key signs cosignatures and nothing else.")
    return f"{text}\n".encode() + b"".join(_line(text.encode(), signer) for signer in signers)


def sign_checkpoint(checkpoint: Checkpoint, *signers: Signer) -> bytes:
    """The signed note; each key's name is the log's origin."""
    for signer in signers:
        if checkpoint.origin != signer.name:
            raise NoteInvalid(f"The key is for '{signer.name}' and cannot sign for '{checkpoint.origin}'.")
    return sign_note(checkpoint.text, *signers)


def cosign(note: bytes, witness: Signer, *, at: int) -> bytes:
    """The line that a witness adds to a checkpoint's note at the POSIX time `at` (C2SP tlog-cosignature, Ed25519).

    It states that this is the largest consistent tree that the witness has seen: check that first. Raises NoteInvalid.
    """
    if witness.kind != COSIGNATURE:
        raise NoteInvalid(f"The key of '{witness.name}' is no witness's.")
    text, _ = parse_note(note)
    return _line(cosigned_message(Checkpoint.parse(text).text.encode(), at), witness, at.to_bytes(8, "big"))
