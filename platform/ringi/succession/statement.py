"""What two administrators sign before a log that lost entries is followed by another, and the keys that they sign with. Pure.

A key's name is `ringi-admin/<user id>`, opaque as everything in a leaf; its public half stands in the trust file as `#admin VKEY`, so that an auditor
checks the approvals from leaf 0 alone, with keys that no administrator of the database can replace (docs/decisions/0016).
"""

import re
from uuid import UUID

from ringi.audit.note import Signer, sign_note
from ringi.audit.ringi_verify import NoteInvalid, OpeningInvalid, VerifierKey, parse_note, parse_statement, signed_by
from ringi.kit.errors import Conflict

_NAME = re.compile(r"ringi-admin/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_NUMBERED = re.compile(r"(.*/)([1-9][0-9]{0,8})")
LONGEST_REASON = 256


class ApprovalInvalid(Conflict):
    """An approval is of another statement, of nobody who is trusted, or its signature is wrong."""

    code = "audit_approval_invalid"


def new_admin_key(person: UUID) -> Signer:
    """A key for one administrator."""
    return Signer.generate(f"ringi-admin/{person}")


def person_of(name: str) -> UUID:
    """Whose key it is; raises ApprovalInvalid."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ApprovalInvalid(f"'{name[:80]}' is no administrator's key.", next_step="Make keys with ringi audit admin-key.")
    return UUID(found[1])


def next_origin(origin: str) -> str:
    """`…/2` after `…/1`."""
    found = _NUMBERED.fullmatch(origin)
    return f"{found[1]}{int(found[2]) + 1}" if found else f"{origin}/2"


def approve(statement: str, key: Signer) -> bytes:
    """The statement as a note that `key` signed. Raises ApprovalInvalid."""
    try:
        parse_statement(statement)
    except OpeningInvalid as error:
        raise ApprovalInvalid(error.message, next_step="Get the statement again from whoever proposed it.") from error
    person_of(key.name)
    return sign_note(statement, key)


def signature_line(note: bytes, statement: str, admins: tuple[VerifierKey, ...]) -> tuple[str, str]:
    """The name of the trusted key that approved exactly this statement, and its line. Raises ApprovalInvalid."""
    try:
        text, lines = parse_note(note)
        signed = [admin for admin in admins if signed_by(text, lines, admin)]
    except NoteInvalid as error:
        raise ApprovalInvalid(f"An approval cannot be used: {error.message}", next_step="Let its administrator approve again.") from error
    if text != statement:
        raise ApprovalInvalid("An approval is of another statement than this one.", next_step="Let everybody approve the same file.")
    if not signed:
        raise ApprovalInvalid(
            "An approval is of no administrator whom the trust file lists.", next_step="Add '#admin VKEY' there, or use the key listed."
        )
    found = next(line for line in note.decode().split("\n") if line.startswith(f"\u2014 {signed[0].name} "))
    return signed[0].name, found
