"""The audit log's cost and its proofs: `python -m benchmarks.audit_log [ENTRIES] [SECONDS] [GO_VERIFIER]`.

1. A bundle of ENTRIES (1,000,000) events as `audit.service` writes them, made without a database: building the tree, writing the file, verifying it
   with `ringi-verify` and, where the program built from tests/audit/independent is named, with Go; inclusion and consistency proofs made and verified.
2. The same small update by 8 and 32 clients, SECONDS (10) each: without an event, with an event and its queue row (two-phase, what the platform does;
   one sequencer process runs beside), and with the index taken inside the transaction under the head's lock (what it does not do).
Prints what it measured and what machine it is on; compare only within one run.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import rfc8785

from ringi.audit.container import BundleWriter
from ringi.audit.merkle import consistency_proof, inclusion_proof
from ringi.audit.note import Signer, sign_checkpoint
from ringi.audit.ringi_verify import FORMAT, Checkpoint, Frontier, leaf_hash, verify_bundle, verify_consistency, verify_inclusion
from ringi.embedded import postgres
from ringi.embedded.postgres import APPLICATION, OWNER, PostgresHandle

ROOT = Path(__file__).parents[1]
ORIGIN = "bench.example/audit/1"
PROOFS = 5000
Way = Callable[[psycopg.Connection, int], None]


def events(count: int) -> Iterator[bytes]:
    """Events of the size that the platform writes."""
    organization, actor, start = str(uuid4()), str(uuid4()), datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(count):
        time_ = (start + timedelta(milliseconds=number)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        yield rfc8785.dumps({
            "v": 1, "origin": ORIGIN, "id": f"{number:032x}", "ts": time_, "actor": {"type": "user", "id": actor, "on_behalf_of": None, "auth": None},
            "action": "approval.vote", "outcome": "ok", "object": {"type": "approval_vote", "id": f"{number:x}", "digest": None},
            "organization": organization, "project": None, "before": None, "after": None, "policy": None, "request_id": f"r-{number}",
            "details": None, "payload_commit": None,
        })  # fmt: skip


def now() -> tuple[float, float]:
    """The clock, and the processor time of this process and of those that it has waited for."""
    return time.perf_counter(), sum(os.times()[:4])


def said(what: str, began: tuple[float, float], count: int) -> None:
    """One line of the result; on a machine that others use, the processor time is what can be compared."""
    wall, cpu = (after - before for after, before in zip(now(), began, strict=True))
    print(f"{what:58} {wall:8.2f} s {count / wall:11,.0f} per s | CPU {cpu:8.2f} s {count / max(cpu, 0.01):11,.0f} per s", flush=True)


def write_bundle(path: Path, count: int, signer: Signer) -> tuple[Frontier, dict[tuple[int, int], bytes]]:
    """The file that an export of these events would be."""
    began = now()
    entries = list(events(count))
    said("events written canonically (rfc8785)", began, count)
    began = now()
    frontier, stored, completed = Frontier(), {}, []
    for number, entry in enumerate(entries):
        leaf = leaf_hash(entry)
        stored[0, number] = leaf
        for node in frontier.append(leaf):
            stored[node.level, node.place] = node.hash
            completed.append(node.hash)
    said("leaf hashes and all nodes of the tree", began, count)
    note = sign_checkpoint(Checkpoint(ORIGIN, count, frontier.root()), signer)
    description: dict[str, Any] = {
        "format": FORMAT, "origin": ORIGIN, "size": count, "vkey": None, "organization": None, "withheld": [], "record_types": [], "unsealed": [],
    }  # fmt: skip
    contents = {
        "checkpoint": note, "entries.bin": b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries),
        "leaves.bin": b"".join(stored[0, number] for number in range(count)), "nodes.bin": b"".join(completed), "records.jsonl": b"",
        "bundle.json": rfc8785.dumps(description),
    }  # fmt: skip
    with path.open("wb") as out:
        writer = BundleWriter(out)
        for name, data in contents.items():
            with writer.member(name) as member:
                member.write(data)
        writer.finish()
    print(f"bundle: {path.stat().st_size / 1e6:.0f} MB, {len(contents['entries.bin']) / count:.0f} bytes an entry")
    return frontier, stored


def prove(frontier: Frontier, stored: dict[tuple[int, int], bytes]) -> None:
    """Proofs from stored nodes in memory: what the tree costs, without the database."""
    size, root = frontier.size, frontier.root()
    places = [number * (size - 1) // PROOFS for number in range(PROOFS)]

    def read(level: int, place: int) -> bytes:
        return stored[level, place]

    began = now()
    paths = [inclusion_proof(place, size, read) for place in places]
    said(f"inclusion proofs made, {max(map(len, paths))} hashes", began, PROOFS)
    began = now()
    good = sum(verify_inclusion(place, size, stored[0, place], root, path) for place, path in zip(places, paths, strict=True))
    said("inclusion proofs verified", began, good)
    moved = sum(verify_inclusion(place + 1, size, stored[0, place], root, path) for place, path in zip(places, paths, strict=True))
    print(f"inclusion proofs accepted for a neighbour's place: {moved} of {PROOFS}")
    began = now()
    proofs = [consistency_proof(place, size, read) for place in places]
    said("consistency proofs made", began, PROOFS)
    accepted = sum(verify_consistency(place, size, bytes(32), root, proof) for place, proof in zip(places, proofs, strict=True) if place)
    print(f"consistency proofs accepted for another old root: {accepted} of {PROOFS - 1}")


def verify(path: Path, count: int, vkey: str, go: str) -> None:
    """Both tools over the whole file, each in a process of its own."""
    (path.parent / "trust").write_text(f"log {vkey}\nquorum none\n")
    verifier = ROOT / "platform/ringi/audit/ringi_verify.py"
    commands = {"ringi-verify, every byte": [sys.executable, "-I", str(verifier), str(path), "--trust", str(path.parent / "trust")]}
    if go:
        commands["Go sumdb/note and sumdb/tlog, the same"] = [go, f"-bundle={path}", f"-vkey={vkey}"]
    for name, command in commands.items():
        began = now()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said(f"{name} (exit code {done.returncode})", began, count)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    print(f"one changed byte: {[problem.code for problem in verify_bundle(path, vkey).problems]}")


_EVENT = """WITH event AS (INSERT INTO audit_event (event_id, body, leaf_hash, ts, action, outcome, actor_type, actor_id, object_type, object_id)
 VALUES (%(id)s, %(body)s, %(leaf)s, clock_timestamp(), 'job.cancel', 'ok', 'user', 'a', 'job', 'x') RETURNING id)
"""
_QUEUED = _EVENT + "INSERT INTO audit_pending SELECT id FROM event"  # noqa: S608  # two constants
_INDEXED = _EVENT + "INSERT INTO bench_leaf SELECT %(index)s, id, %(leaf)s FROM event"  # noqa: S608  # two constants
_BODY = next(events(1))


def _update(connection: psycopg.Connection, row: int) -> None:
    connection.execute("UPDATE bench_row SET n = n + 1 WHERE id = %s", [row])


def plain(connection: psycopg.Connection, row: int) -> None:
    """The change alone."""
    _update(connection, row)


def two_phase(connection: psycopg.Connection, row: int) -> None:
    """The change, its event and its place in the queue."""
    _update(connection, row)
    body = _BODY + uuid4().bytes
    connection.execute(_QUEUED, {"id": uuid4(), "body": body, "leaf": leaf_hash(body)})


def in_transaction(connection: psycopg.Connection, row: int) -> None:
    """The change, its event and its index, under the lock of the head until the commit."""
    _update(connection, row)
    body = _BODY + uuid4().bytes
    leaf = leaf_hash(body)
    found = connection.execute("SELECT size, frontier FROM bench_head WHERE id = 1 FOR UPDATE").fetchone()
    frontier = Frontier.from_bytes(*(found or (0, b"")))
    connection.execute(_INDEXED, {"id": uuid4(), "body": body, "leaf": leaf, "index": frontier.size})
    frontier.append(leaf)
    connection.execute("UPDATE bench_head SET size = %s, frontier = %s WHERE id = 1", [frontier.size, frontier.to_bytes()])


WAYS: dict[str, Way] = {"no audit": plain, "two-phase, sequencer live": two_phase, "index inside the transaction": in_transaction}


def client(url: str, way: str, seconds: float, row: int) -> float:
    """One client's transactions per second, each with its commit."""
    done = 0
    with psycopg.connect(url) as connection:
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            WAYS[way](connection, row)
            connection.commit()
            done += 1
        return done / (time.perf_counter() - began)


def appends(handle: PostgresHandle, seconds: float) -> None:
    """Every way with 8 and with 32 clients, in turn, on one durable server."""
    postgres.create_database(handle, "audit_bench")
    urls = [handle.url(role, "audit_bench") for role in (OWNER, APPLICATION)]
    environment = os.environ | {
        "RINGI_OWNER_DATABASE_URL": urls[0],
        "RINGI_DATABASE_URL": urls[1],
        "RINGI_DATA_DIR": str(handle.data_dir / "bench"),
    }
    subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], cwd=ROOT, env=environment, check=True, capture_output=True)
    owner, app = (url.replace("postgresql+psycopg", "postgresql") for url in urls)
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("CREATE TABLE bench_row AS SELECT id, 0 n FROM generate_series(1, 64) id")
        connection.execute("CREATE TABLE bench_head AS SELECT 1 id, 0::bigint size, ''::bytea frontier")
        connection.execute("CREATE TABLE bench_leaf (leaf_index bigint PRIMARY KEY, event_id bigint, leaf_hash bytea)")
        connection.execute("GRANT SELECT, INSERT, UPDATE ON bench_row, bench_head, bench_leaf TO ringi_app")
        sequencer = subprocess.Popen(
            [sys.executable, "-m", "ringi_workers.sequencer"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            for clients in (8, 32):
                for way in WAYS:
                    with ProcessPoolExecutor(clients) as pool:
                        rate = sum(pool.map(partial(client, app, way, seconds), range(1, clients + 1)))
                    waiting = (connection.execute("SELECT count(*) FROM audit_pending").fetchone() or (0,))[0]
                    print(f"{way:32} {clients:3} clients {rate:9,.0f} per s, {waiting} waiting for their place", flush=True)
        finally:
            sequencer.terminate()
            sequencer.wait()


def main() -> None:
    """Both parts."""
    count, seconds, go = [*sys.argv[1:], *("1000000", "10", "")[len(sys.argv) - 1 :]]
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory(prefix="ringi-bench-") as folder:
        if int(count):
            signer, path = Signer.generate(ORIGIN), Path(folder) / "bundle.zip"
            frontier, stored = write_bundle(path, int(count), signer)
            prove(frontier, stored)
            del stored
            verify(path, int(count), str(signer.verifier), go)
        if float(seconds):
            handle = postgres.start(Path(folder) / "postgres")
            try:
                appends(handle, float(seconds))
            finally:
                postgres.stop(Path(folder) / "postgres")


if __name__ == "__main__":
    main()
