"""The writes of `audit_appends`, by pgbench: clients in C, so that the figure is of the database and not of the clients' Python."""

import re
import subprocess
import tempfile
from pathlib import Path

from ringi.embedded.postgres import binaries

PROJECT, ORGANIZATION = (f"01a20000-0000-7000-8000-{one:012}" for one in (1, 2))
_UPDATE = "UPDATE bench_row SET n = n + 1 WHERE id = :client_id + 1;"
# MATERIALIZED: inlined, each of both would get random bytes of its own, and the hash would not be of the body.
_EVENT = """WITH entry AS MATERIALIZED (SELECT '\\x{body}'::bytea || uuid_send(gen_random_uuid()) AS body),
 event AS (INSERT INTO audit_event (event_id, body, leaf_hash, ts, action, outcome, actor_type, actor_id, object_type, object_id, project_id, organization_id)
 SELECT uuidv7(), body, sha256('\\x00'::bytea || body), clock_timestamp(), 'job.cancel', 'ok', 'user', 'a' || :client_id, 'job', 'x' || :client_id,
 '{project}', '{organization}' FROM entry RETURNING id)
 INSERT INTO audit_pending SELECT id FROM event;"""
_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


def plain() -> str:
    """The change alone."""
    return f"BEGIN;\n{_UPDATE}\nCOMMIT;\n"


def two_phase(body: bytes) -> str:
    """The change, its event and its place in the queue."""
    event = _EVENT.format(body=body.hex(), project=PROJECT, organization=ORGANIZATION)
    return f"BEGIN;\n{_UPDATE}\n{event.replace(chr(10), '')}\nCOMMIT;\n"  # pgbench ends a command with its line or its semicolon


def rate(url: str, script: str, clients: int, seconds: float) -> float:
    """Transactions per second of all clients, each with its commit; prepared statements, as the platform's driver uses."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        options = ("-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(max(1, round(seconds))), "-f", file.name)
        done = subprocess.run([str(Path(binaries()) / "pgbench"), *options, url], capture_output=True, text=True, check=True)
    found = _RATE.search(done.stdout)
    if found is None:
        raise RuntimeError(done.stdout + done.stderr)
    return float(found[1])
