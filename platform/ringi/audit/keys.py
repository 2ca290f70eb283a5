"""Files of signing keys, one a line, that nobody but their owner may read: of the log, of a witness, of an administrator. No database."""

from pathlib import Path

from ringi.audit.note import Signer
from ringi.audit.ringi_verify import ED25519, NoteInvalid, Refused


class KeyUnusable(Refused):
    """The file is missing, readable by others, or holds something else than signing keys."""

    code = "key_unusable"


def read_signers(path: Path, whose: str, *, kind: bytes = ED25519) -> tuple[Signer, ...]:
    """The keys in their order, at least one; `kind` as in Signer, `whose` begins a refusal's sentence. Raises KeyUnusable."""
    try:
        mode, text = path.stat().st_mode & 0o777, path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnusable(f"{whose} cannot be read: {error}.", next_step="Check the path, and whose file it is.") from error
    if mode & 0o077:
        raise KeyUnusable(f"{whose} has the mode {mode:o}: others can read it.", next_step="Set it to 600, and consider a new key.")
    try:
        return tuple(Signer.parse(line, kind=kind) for line in text.removesuffix("\n").split("\n"))
    except NoteInvalid as error:
        raise KeyUnusable(f"{whose} is malformed: {error.message}", next_step="Put the key file back.") from error
