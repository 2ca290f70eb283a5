"""What the audit log in a database comes to: every entry hashed again, from its exact bytes to the root."""

from typing import NamedTuple

import psycopg

from ringi.audit.ringi_verify import Checkpoint, Frontier, leaf_hash, parse_note
from ringi.kit.errors import RingiError

_ROWS = 5000


class LogBroken(RingiError):
    """The log in this database is not the one that its own hashes and its checkpoint say."""

    code, status = "audit_log_broken", 500

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The audit log does not hold: {what}.", next_step="Do not use this database; take another backup, and tell the auditors."
        )


class LogState(NamedTuple):
    """`size` entries with this root (hex), placed; `note` is the newest signed checkpoint, None before the first."""

    size: int
    root: str
    note: bytes | None


def check_log(connection: psycopg.Connection) -> LogState:
    """Replay the logs whole, those that have ended too; returns the state of the one that grows.

    Raises LogBroken at the first entry that is missing or changed, or when the checkpoint is of another log.
    """
    growing = (connection.execute("SELECT generation FROM audit_head WHERE id = 1").fetchone() or (1,))[0]
    for generation in range(1, growing):
        _check_one(connection, generation)
    return _check_one(connection, growing)


def _check_one(connection: psycopg.Connection, generation: int) -> LogState:
    row = connection.execute(
        "SELECT size, note FROM audit_checkpoint WHERE generation = %s ORDER BY size DESC LIMIT 1", (generation,)
    ).fetchone()
    size, note = (row[0], bytes(row[1])) if row else (0, None)
    signed = Checkpoint.parse(parse_note(note)[0]) if note else None
    frontier = Frontier()
    query = (
        "SELECT l.leaf_index, l.leaf_hash, e.body FROM audit_leaf l LEFT JOIN audit_event e ON e.id = l.event_id"
        " WHERE l.generation = %s ORDER BY l.leaf_index"
    )
    with connection.cursor(name="ringi_log") as cursor:
        cursor.itersize = _ROWS
        for index, stored, body in cursor.execute(query, (generation,)):
            if index != frontier.size or body is None:
                raise LogBroken(f"entry {frontier.size} is missing")
            if leaf_hash(bytes(body)) != bytes(stored):
                raise LogBroken(f"entry {index} was changed")
            frontier.append(bytes(stored))
            if signed is not None and frontier.size == size and frontier.root() != signed.root:
                raise LogBroken(f"its first {size} entries are not those that were signed")
    if frontier.size < size:
        raise LogBroken(f"it has {frontier.size} entries, and {size} were signed")
    return LogState(frontier.size, frontier.root().hex(), note)
