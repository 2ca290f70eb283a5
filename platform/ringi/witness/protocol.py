"""C2SP tlog-witness, `add-checkpoint`: from a request's body to its answer. Cosignatures are Ed25519 (tlog-cosignature, type 0x04).

Checkpoints with extension lines are refused: the logs that this witness is made for write none.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple

from ringi.audit.note import Signer, cosign
from ringi.audit.ringi_verify import (
    EM_DASH,
    EMPTY_ROOT,
    HASH_BYTES,
    Checkpoint,
    LogKey,
    NoteInvalid,
    SignatureLine,
    decode_base64,
    encode_base64,
    parse_note,
    signed_by,
    verify_consistency,
)
from ringi.witness.state import State

MAX_PROOF_LINES = 63
PLAIN, SIZE = "text/plain; charset=utf-8", "text/x.tlog.size"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")
log = logging.getLogger("ringi.witness")


class Answer(NamedTuple):
    """What the client gets."""

    status: HTTPStatus
    body: str
    content_type: str = PLAIN


class Asked(NamedTuple):
    """A request, read and not believed."""

    old: int
    proof: list[bytes]
    text: str
    lines: list[SignatureLine]
    checkpoint: Checkpoint


def read(body: bytes) -> Asked:
    """`old <size>`, proof lines, an empty line, a checkpoint. Raises NoteInvalid."""
    head, separator, note = body.partition(b"\n\n")
    try:
        first, *rest = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise NoteInvalid("The lines before the checkpoint are not ASCII.") from error
    old = _OLD.fullmatch(first)
    if not separator or old is None:
        raise NoteInvalid("A request is 'old <size>', proof lines, an empty line and a checkpoint.")
    proof = [decode_base64(line) for line in rest]
    if len(proof) > MAX_PROOF_LINES or any(len(one) != HASH_BYTES for one in proof):
        raise NoteInvalid(f"A proof has at most {MAX_PROOF_LINES} lines of {HASH_BYTES} bytes.")
    text, lines = parse_note(note)
    return Asked(int(old[1]), proof, text, lines, Checkpoint.parse(text))


class Witness:
    """Cosigns checkpoints of `logs`, each only when it extends the one before. Raises StateUnusable at once when its memory is damaged."""

    def __init__(self, signer: Signer, logs: Sequence[LogKey], state: State, *, now: Callable[[], float] = time.time) -> None:
        self.signer, self.logs, self._state, self._now = signer, tuple(logs), state, now
        # Comparing with what is remembered and replacing it is one step, or a slow request would roll back a fast one.
        self._one_at_a_time = threading.Lock()
        for origin in {log.key.name for log in self.logs}:
            self._known(origin)

    def add_checkpoint(self, body: bytes) -> Answer:
        """The answer to a request. OSError when the memory cannot be written: nothing was cosigned then."""
        try:
            asked = read(body)
        except NoteInvalid as error:
            return Answer(HTTPStatus.BAD_REQUEST, f"{error.message}\n")
        checkpoint = asked.checkpoint
        keys = [log for log in self.logs if log.key.name == checkpoint.origin]
        if not keys:
            return Answer(HTTPStatus.NOT_FOUND, f"This witness does not know the log '{checkpoint.origin}'.\n")
        note = _signed(asked, keys)
        if note is None:
            return Answer(HTTPStatus.FORBIDDEN, f"No trusted key of '{checkpoint.origin}' signed this checkpoint of {checkpoint.size}.\n")
        if asked.old > checkpoint.size:
            return Answer(HTTPStatus.BAD_REQUEST, f"The old size {asked.old} is larger than the checkpoint's, {checkpoint.size}.\n")
        with self._one_at_a_time:
            return self._extend(asked, note, self._known(checkpoint.origin))

    def _known(self, origin: str) -> Checkpoint:
        keys = [self.signer.verifier, *(log.key for log in self.logs if log.key.name == origin)]
        return self._state.load(origin, keys) or Checkpoint(origin, 0, EMPTY_ROOT)

    def _extend(self, asked: Asked, note: bytes, known: Checkpoint) -> Answer:
        new = asked.checkpoint
        if asked.old != known.size:
            return Answer(HTTPStatus.CONFLICT, f"{known.size}\n", SIZE)
        if new.size == known.size and new.root != known.root:
            self._contradicted(note, f"the log '{new.origin}' signed two roots for {new.size} entries: a split view")
            return Answer(HTTPStatus.CONFLICT, f"{known.size}\n", SIZE)
        if not verify_consistency(known.size, new.size, known.root, new.root, asked.proof):
            self._contradicted(note, f"'{new.origin}': no proof that the tree of {new.size} extends the one of {known.size}")
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, f"The proof does not lead from {known.size} to {new.size} entries.\n")
        line = cosign(note, self.signer, at=int(self._now()))
        self._state.store(new.origin, note + line)
        log.info("cosigned %s at %d entries", new.origin, new.size)
        return Answer(HTTPStatus.OK, line.decode())

    def _contradicted(self, note: bytes, what: str) -> None:
        """Tell it. A wrong proof may be a client's mistake; the note itself is evidence only together with the one remembered."""
        kept = self._state.keep_evidence(note)
        log.error("REFUSED: %s%s", what, f"; the signed checkpoint is kept as {kept}" if kept else "")


def _signed(asked: Asked, keys: list[LogKey]) -> bytes | None:
    """The checkpoint with the lines of the log's keys, all verified; None unless one of them may sign this size.

    A wrong signature under a known key refuses, as signed-note asks. Lines of other keys are ignored, as tlog-witness asks, and so never kept:
    anybody may have written them, also under this witness's own name.
    """
    try:
        signers = [key for key in keys if signed_by(asked.text, asked.lines, key.key)]
    except NoteInvalid:
        return None
    if not any(key.first <= asked.checkpoint.size <= key.last for key in signers):
        return None
    verified = {(key.key.name, key.key.id) for key in signers}
    lines = dict.fromkeys(line for line in asked.lines if (line.name, line.key_id) in verified)
    kept = [f"{EM_DASH} {line.name} {encode_base64(line.key_id + line.signature)}" for line in lines]
    return "\n".join([asked.text, *kept, ""]).encode()
