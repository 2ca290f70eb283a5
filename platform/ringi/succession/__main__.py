"""What the operator runs after a restore that lost entries: `python -m ringi.succession`, behind `ringi audit propose-origin` and `open-origin`.

Prints one JSON document; a refusal is one on standard error, with exit code 1.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from ringi.audit.durable import remove_durably, sync_folder
from ringi.audit.generations import logs
from ringi.audit.keys import read_signers
from ringi.audit.models import AuditCheckpoint
from ringi.audit.note import Signer
from ringi.audit.operating import FAILURES, OwnerNeeded, being_added, refusal_of
from ringi.audit.ringi_verify import VerifierKey, parse_policy, parse_statement, statement_text
from ringi.audit.signing import load_signers, store_signers
from ringi.db.session import work_for_all
from ringi.settings import Settings, get_settings
from ringi.succession.opening import NextKeyMissing, OriginOpened, OtherProposed, TextUnusable, fields_of, open_origin
from ringi.succession.state import checkpoint_file, gather
from ringi.succession.statement import LONGEST_REASON, next_origin


@contextmanager
def _owner(settings: Settings) -> Iterator[Session]:
    if settings.owner_database_url is None:
        raise OwnerNeeded
    engine = create_engine(settings.owner_database_url, hide_parameters=True, connect_args={"options": "-c timezone=UTC"})
    try:
        with Session(engine) as session, session.begin():
            yield session
    finally:
        engine.dispose()


def _next_key(settings: Settings) -> Path:
    path = settings.audit_key_path
    return path.with_name(f"{path.name}.next")


def _drawn(path: Path, name: str) -> VerifierKey:
    """The new log's key, drawn once however often a statement is proposed."""
    if not path.exists():
        store_signers(path, [Signer.generate(name)])
    (drawn,) = read_signers(path, "The new log's key")
    if drawn.name != name:
        raise OtherProposed(drawn.name, path)
    return drawn.verifier


def propose(settings: Settings, reason: str, origin: str | None, notes: list[bytes], out: Path) -> dict[str, Any]:
    """Write the statement, and the new log's key beside the old one. Changes nothing in the database."""
    name = origin or next_origin(settings.audit_origin)
    with _owner(settings) as session:
        state = gather(session, settings, notes)
        if any(one.origin == name for one in logs(session)):
            raise OriginOpened(name)
    fields = fields_of(state, _drawn(_next_key(settings), name))
    fields |= {"reason": reason, "proposed_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    out.write_text(statement_text(fields), encoding="utf-8")
    return {"statement": str(out), **fields}


def open_(settings: Settings, statement: str, approvals: list[bytes], trust: bytes) -> dict[str, Any]:
    """Begin the new log, then put the new key and its checkpoint in place; the same command again ends what was cut off."""
    fields, policy = parse_statement(statement), parse_policy(trust)
    carried = None
    if _first_note(settings, fields) is None:
        if not _next_key(settings).exists():
            raise NextKeyMissing(_next_key(settings))
        new = load_signers(_next_key(settings), fields["new_origin"])[0]
        with _owner(settings) as session:
            carried = open_origin(session, settings, statement, approvals, policy, new).carried
    elif not _next_key(settings).exists():
        raise OriginOpened(fields["new_origin"])
    _put_in_place(settings, fields)
    retired = [f"log {fields['old_key']}", f"#sizes 0-{fields['last_size']}"]
    return {"state": "opened", "origin": fields["new_origin"], "carried": carried, "trust": [*retired, f"log {fields['new_key']}"]}


def _first_note(settings: Settings, fields: dict[str, Any]) -> bytes | None:
    """The checkpoint with which exactly this new log was begun, None before that."""
    with _owner(settings) as session:
        for one in logs(session):
            if (one.origin, one.vkey) == (fields["new_origin"], fields["new_key"]):
                notes = select(AuditCheckpoint.note).where(AuditCheckpoint.generation == one.generation)
                return session.scalars(notes.order_by(AuditCheckpoint.size).limit(1)).one()
    return None


def _put_in_place(settings: Settings, fields: dict[str, Any]) -> None:
    """The new log's first word in the place of the old one's last, then the key, with which the old one goes: that log never signs again."""
    last, note = checkpoint_file(settings), _first_note(settings, fields)
    kept = last.path.with_name(f"{last.path.name}-of-{re.sub(r'[^A-Za-z0-9.-]', '_', fields['old_origin'])}")
    # Until the key is in place nobody signs, so this is the new log's newest one whenever the step is repeated.
    if note is not None and last.read() != note:
        if last.path.exists():
            last.path.rename(kept)
            sync_folder(kept.parent)
        last.store(note)
    remove_durably(being_added(settings.audit_key_path))
    _next_key(settings).replace(settings.audit_key_path)
    sync_folder(settings.audit_key_path.parent)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ringi.succession", description="Begin the log that follows one that lost entries.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    proposing = verbs.add_parser("propose", help="write the statement that two administrators sign")
    proposing.add_argument("statement", type=Path)
    proposing.add_argument("--reason", required=True)
    proposing.add_argument("--origin")
    proposing.add_argument("--checkpoint", type=Path, action="append", default=[])
    opening = verbs.add_parser("open", help="begin the new log")
    opening.add_argument("statement", type=Path)
    opening.add_argument("--approve", type=Path, action="append", default=[])
    opening.add_argument("--trust", type=Path, required=True)
    return parser.parse_args(argv)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TextUnusable(path) from error


def _done(given: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    if given.verb == "propose":
        notes = [path.read_bytes() for path in given.checkpoint]
        return propose(settings, given.reason.strip()[:LONGEST_REASON], given.origin, notes, given.statement)
    approvals = [path.read_bytes() for path in given.approve]
    return open_(settings, _text(given.statement), approvals, given.trust.read_bytes())


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = _arguments(argv)
    work_for_all()
    try:
        done = _done(given, get_settings())
    except FAILURES as error:
        sys.stderr.write(json.dumps(refusal_of(error)) + "\n")
        return 1
    sys.stdout.write(json.dumps(done) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
