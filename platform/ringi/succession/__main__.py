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

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from ringi.audit.durable import sync_folder
from ringi.audit.generations import logs
from ringi.audit.note import Signer
from ringi.audit.operating import OwnerNeeded
from ringi.audit.ringi_verify import Refused, parse_policy, parse_statement, statement_text
from ringi.audit.signing import load_signers, store_signers
from ringi.db.session import work_for_all
from ringi.kit.errors import RingiError
from ringi.settings import Settings, get_settings
from ringi.succession.opening import OriginOpened, fields_of, open_origin
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


def propose(settings: Settings, reason: str, origin: str | None, notes: list[bytes], out: Path) -> dict[str, Any]:
    """Write the statement, and the new log's key beside the old one. Changes nothing in the database."""
    name = origin or next_origin(settings.audit_origin)
    with _owner(settings) as session:
        state = gather(session, settings, notes)
        path = _next_key(settings)
        if not path.exists():
            store_signers(path, [Signer.generate(name)])
        fields = fields_of(state, load_signers(path, name)[0].verifier)
    fields |= {"reason": reason, "proposed_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    out.write_text(statement_text(fields), encoding="utf-8")
    return {"statement": str(out), **fields}


def open_(settings: Settings, statement: str, approvals: list[bytes], trust: bytes) -> dict[str, Any]:
    """Begin the new log, then put the new key and a clean checkpoint folder in place; the same command again ends what was cut off."""
    fields, policy = parse_statement(statement), parse_policy(trust)
    if not _is_begun(settings, fields):
        new = load_signers(_next_key(settings), fields["new_origin"])[0]
        with _owner(settings) as session:
            carried = open_origin(session, settings, statement, approvals, policy, new.verifier).carried
    elif not _next_key(settings).exists():
        raise OriginOpened(fields["new_origin"])
    else:
        carried = None
    _put_in_place(settings, fields["old_origin"])
    retired = [f"log {fields['old_key']}", f"#sizes 0-{fields['last_size']}"]
    return {"state": "opened", "origin": fields["new_origin"], "carried": carried, "trust": [*retired, f"log {fields['new_key']}"]}


def _is_begun(settings: Settings, fields: dict[str, Any]) -> bool:
    with _owner(settings) as session:
        found = logs(session)
        return bool(found) and any((one.origin, one.vkey) == (fields["new_origin"], fields["new_key"]) for one in found)


def _put_in_place(settings: Settings, old_origin: str) -> None:
    # First the old log's last word: a signer with the new key must not meet it. The old key goes with its file: that log never signs again.
    last = checkpoint_file(settings).path
    if last.exists():
        last.rename(last.with_name(f"{last.name}-of-{re.sub(r'[^A-Za-z0-9.-]', '_', old_origin)}"))
        sync_folder(last.parent)
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


def _done(given: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    if given.verb == "propose":
        notes = [path.read_bytes() for path in given.checkpoint]
        return propose(settings, given.reason.strip()[:LONGEST_REASON], given.origin, notes, given.statement)
    approvals = [path.read_bytes() for path in given.approve]
    return open_(settings, given.statement.read_text(encoding="utf-8"), approvals, given.trust.read_bytes())


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = _arguments(argv)
    work_for_all()
    try:
        done = _done(given, get_settings())
    except (RingiError, Refused) as error:
        said = {"code": error.code, "message": error.message, "next_step": error.next_step}
    except OSError as error:
        said = {"code": "file_unusable", "message": f"A file cannot be used: {error}.", "next_step": "Check its path and its rights."}
    else:
        sys.stdout.write(json.dumps(done) + "\n")
        return 0
    sys.stderr.write(json.dumps(said) + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
