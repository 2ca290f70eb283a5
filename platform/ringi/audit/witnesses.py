"""The witnesses that cosign this log, and how one is asked (C2SP tlog-witness, `add-checkpoint`).

RINGI_WITNESSES is a file in the syntax of C2SP tlog-policy, the one of trust files, in which a witness's line ends in its URL:

    log ringi.example/audit/1+1a2b3c4d+Ab…
    witness compliance witness.example/w1+0a1b2c3d+BD… https://witness.example/ringi
    quorum compliance
"""

import re
import time
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import httpx

from ringi.audit.ringi_verify import NoteInvalid, Policy, Refused, VerifierKey, encode_base64, parse_note, parse_policy
from ringi.kit.errors import RingiError

ANSWERS_S = 10.0
_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_LAST_PORT = 65_535
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_LARGEST_ANSWER = 64 * 1024


class WitnessesUnusable(RingiError):
    """The file of RINGI_WITNESSES is missing or malformed."""

    code, status = "audit_witnesses_unusable", 500


class WitnessAway(RingiError):
    """A witness did not answer, or not as the protocol says; it is asked again."""

    code, status, retryable = "audit_witness_away", 503, True

    def __init__(self, witness: str, what: str) -> None:
        super().__init__(f"The witness '{witness}' gave no cosignature: {what}.", next_step="It is asked again; look at it if this stays.")


class Witness(NamedTuple):
    """Who cosigns, under which key, and where it is asked."""

    name: str
    key: VerifierKey
    url: str

    @property
    def id(self) -> str:
        """What its lines are kept under."""
        return f"{self.key.name}+{self.key.id.hex()}"


class Witnesses(NamedTuple):
    """A policy and the witnesses in it that have a URL."""

    policy: Policy
    asked: tuple[Witness, ...]


class Said(StrEnum):
    """What a witness answered."""

    COSIGNED = "cosigned"
    OTHER_SIZE = "other_size"
    INCONSISTENT = "inconsistent"


class Answer(NamedTuple):
    """COSIGNED with its verified line, OTHER_SIZE with the size that it knows, or INCONSISTENT."""

    said: Said
    line: bytes = b""
    size: int = 0


def load_witnesses(path: Path) -> Witnesses:
    """Read the file; raises WitnessesUnusable."""
    try:
        data = path.read_bytes()
        policy = parse_policy(data)
    except (OSError, Refused) as error:
        raise WitnessesUnusable(
            f"RINGI_WITNESSES cannot be used: {getattr(error, 'message', error)}", next_step="See docs/audit.md for its syntax."
        ) from error
    asked = []
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        match line.split():
            case ["witness", name, _, url]:
                if not _can_be_asked(url):
                    raise WitnessesUnusable(f"'{url[:80]}' is no URL of a witness.", next_step="Write https://host/prefix.")
                asked.append(Witness(name, policy.witnesses[name], url.rstrip("/")))
    return Witnesses(policy, tuple(asked))


def _can_be_asked(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return _URL.fullmatch(url) is not None and parsed.host != "" and (parsed.port is None or 0 < parsed.port <= _LAST_PORT)


def ask(client: httpx.Client, witness: Witness, note: bytes, *, old: int, proof: list[bytes]) -> Answer:
    """Ask for a cosignature of `note`, which extends the tree of `old` entries by `proof`. Raises WitnessAway."""
    body = "\n".join([f"old {old}", *map(encode_base64, proof), "", ""]).encode() + note
    try:
        with client.stream("POST", f"{witness.url}/add-checkpoint", content=body, headers={"Content-Type": "text/plain"}) as response:
            said, deadline = bytearray(), time.monotonic() + ANSWERS_S
            for piece in response.iter_bytes():
                said += piece
                if len(said) > _LARGEST_ANSWER or time.monotonic() > deadline:
                    raise WitnessAway(witness.name, "its answer is too long, or too slow")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise WitnessAway(witness.name, f"{type(error).__name__} {error}".strip()) from error
    text = said.decode("utf-8", "replace")
    if response.status_code == httpx.codes.OK:
        return Answer(Said.COSIGNED, line=_own_line(witness, note, bytes(said)))
    if response.status_code == httpx.codes.CONFLICT and _SIZE.fullmatch(text.removesuffix("\n")):
        return Answer(Said.OTHER_SIZE, size=int(text))
    if response.status_code == httpx.codes.UNPROCESSABLE_ENTITY:
        return Answer(Said.INCONSISTENT)
    raise WitnessAway(witness.name, f"{response.status_code} {text.strip()[:200]}")


def _own_line(witness: Witness, note: bytes, said: bytes) -> bytes:
    """The line of the witness's own key, verified; lines of other keys are left out."""
    try:
        text, lines = parse_note(note + said)
    except NoteInvalid as error:
        raise WitnessAway(witness.name, error.message) from error
    own = [line for line in lines if line.name == witness.key.name and line.key_id == witness.key.id]
    if not own or not witness.key.accepts(text.encode(), own[-1].signature):
        raise WitnessAway(witness.name, "its answer holds no cosignature of its key that fits this checkpoint")
    return f"\u2014 {own[-1].name} {encode_base64(own[-1].key_id + own[-1].signature)}\n".encode()
