"""What only the operator does, on the machine that holds the log's key: `python -m ringi.audit.operating`, behind `ringi audit rotate-key`
and `ringi audit resume`. Prints one JSON document; a refusal is one on standard error, with exit code 1.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, func, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit import stops
from ringi.audit.durable import remove_durably
from ringi.audit.models import AuditEvent
from ringi.audit.note import Signer
from ringi.audit.ringi_verify import NoteInvalid, Refused, open_note
from ringi.audit.schemas import AuditAction
from ringi.audit.signing import CheckpointFile, load_or_create_signers, load_signers, store_signers
from ringi.audit.witnesses import load_witnesses
from ringi.db.session import transaction, work_for_all
from ringi.kit.actor import system_actor
from ringi.kit.errors import Conflict, RingiError
from ringi.settings import Settings, get_settings

_LONGEST_REASON = 1000
# What a program of the operator tells as one document, and does not crash with.
FAILURES = (RingiError, Refused, SQLAlchemyError, OSError)
_AGAIN = "The database holds all of it or nothing: run the same command again, which ends what was cut off."
# Whoever replaces a key; two who do it at once are told apart by the entry that the first has made.
_KEYS_LOCK = 0x72696E67_00000003


class OwnerNeeded(RingiError):
    """The read-only mode is ended by the owner of the tables, which no part of the running platform is."""

    code, status = "audit_owner_needed", 403

    def __init__(self) -> None:
        super().__init__("RINGI_OWNER_DATABASE_URL is not set.", next_step="Set it to the database with the role that owns its tables.")


class KeyRotation(Conflict):
    """A step of the replacement of the log's key is not due."""

    code = "audit_key_rotation"


def _keys(settings: Settings) -> tuple[Path, tuple[Signer, ...]]:
    """The key file, which is replaced as a whole and so must be this user's, and what is in it."""
    path = settings.audit_key_path
    signers = load_signers(path, settings.audit_origin)
    if path.stat().st_uid != os.geteuid():
        raise KeyRotation(
            "The key file belongs to another user: the sequencer could not read a new one.", next_step="Run this as its owner."
        )
    return path, signers


def being_added(path: Path) -> Path:
    """Where a key lies that the log may not know of yet."""
    return path.with_name(f"{path.name}.added")


def rotate_key(settings: Settings) -> dict[str, Any]:
    """Add a key: from now on both sign. Raises KeyRotation while another one is being replaced.

    The key lies beside the file until the log knows of it, so that none ever signs of which it does not; cut off anywhere, the same again ends it.
    """
    path, signers = _keys(settings)
    aside = being_added(path)
    if len(signers) > 1 and not aside.exists():
        raise KeyRotation("Two keys sign already.", next_step="End that first: ringi audit rotate-key --finish.")
    new = load_or_create_signers(aside, settings.audit_origin)[0]
    if new not in signers:
        with transaction() as session:
            _record(session, AuditAction.LOG_KEY_ADDED, new, {})
        store_signers(path, [new, *signers])
    remove_durably(aside)
    old = next(one for one in signers if one != new)
    return {"state": "overlap", "trust": [f"log {old.verifier}", f"log {new.verifier}"]}


def finish_rotation(settings: Settings) -> dict[str, Any]:
    """Retire the older key: it is gone from the file and signs nothing any more. Raises KeyRotation until the new one has signed."""
    path, signers = _keys(settings)
    if len(signers) == 1:
        raise KeyRotation("One key signs; none is being replaced.", next_step="Begin: ringi audit rotate-key.")
    remove_durably(being_added(path))
    new, *retired = signers
    last_signed = CheckpointFile(settings.audit_checkpoint_path)
    last, note = last_signed.load(*(one.verifier for one in signers)), last_signed.read() or b""
    if last is None or not _signed_by(note, new):
        raise KeyRotation(
            "The new key has signed nothing yet.", next_step="Let the sequencer run; the entry about the key is signed by both."
        )
    _known_to_witnesses(settings, new)
    # What both keys sign between the two steps is as good: the new key's signature counts beyond the size that is told.
    with transaction() as session:
        for one in retired:
            _record(session, AuditAction.LOG_KEY_RETIRED, one, {"last_size": last.size})
    store_signers(path, [new])
    lines = [line for one in retired for line in (f"log {one.verifier}", f"#sizes 0-{last.size}")]
    return {"state": "finished", "trust": [*lines, f"log {new.verifier}"]}


def _signed_by(note: bytes, signer: Signer) -> bool:
    try:
        open_note(note, signer.verifier)
    except NoteInvalid:
        return False
    return True


def _known_to_witnesses(settings: Settings, new: Signer) -> None:
    if settings.witnesses is None:
        return
    listed = [log.key for log in load_witnesses(settings.witnesses).policy.logs]
    if new.verifier not in listed:
        raise KeyRotation(
            "RINGI_WITNESSES does not list the new key: nothing that it signs alone would count as cosigned.",
            next_step=f"Add 'log {new.verifier}' there and to every witness's logs.",
        )


def _record(session: Session, action: AuditAction, signer: Signer, told: dict[str, str | int]) -> None:
    """Once: whoever repeats a step that was cut off finds its entry."""
    key = signer.verifier
    details = {"key_id": key.id.hex(), "public_key": key.public_key.hex(), **told}
    session.execute(select(func.pg_advisory_xact_lock(_KEYS_LOCK)))
    said = session.scalars(select(AuditEvent).where(AuditEvent.action == action.value, AuditEvent.object_id == key.name))
    if details not in [audit.read_event(one).details for one in said]:
        audit.record(session, system_actor("operator"), action, object_type="audit_log", object_id=key.name, details=details)


def resume(settings: Settings, reason: str) -> dict[str, Any]:
    """End the read-only mode for a reason that is recorded. Raises OwnerNeeded, NotStopped."""
    if settings.owner_database_url is None:
        raise OwnerNeeded
    engine = create_engine(settings.owner_database_url, hide_parameters=True, connect_args={"options": "-c timezone=UTC"})
    try:
        with Session(engine) as session, session.begin():
            ended = stops.resume(session, reason)
    finally:
        engine.dispose()
    return {"state": "resumed", "ended": ended}


def refusal_of(error: Exception) -> dict[str, str]:
    """What a program of the operator says of one of FAILURES on standard error."""
    if isinstance(error, RingiError | Refused):
        return {"code": error.code, "message": error.message, "next_step": error.next_step}
    if isinstance(error, OSError):
        return {
            "code": "file_unusable",
            "message": f"A file cannot be used: {error}.",
            "next_step": f"Check its path and its rights. {_AGAIN}",
        }
    reason = " ".join(str(getattr(error, "orig", None) or error).split())[:500]
    code = "database_unavailable" if isinstance(error, OperationalError) else "database_refused"
    return {"code": code, "message": f"The database did not do it: {reason}", "next_step": f"Look at the database. {_AGAIN}"}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m ringi.audit.operating", description="What only the operator of the audit log does.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("rotate-key", help="add a key; both sign").add_argument("--finish", action="store_true", help="retire the older one")
    verbs.add_parser("resume", help="end the read-only mode").add_argument("--reason", required=True)
    given = parser.parse_args(argv)
    work_for_all()
    settings = get_settings()
    try:
        if given.verb == "resume":
            done = resume(settings, given.reason.strip()[:_LONGEST_REASON])
        else:
            done = finish_rotation(settings) if given.finish else rotate_key(settings)
    except FAILURES as error:
        sys.stderr.write(json.dumps(refusal_of(error)) + "\n")
        return 1
    sys.stdout.write(json.dumps(done) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
