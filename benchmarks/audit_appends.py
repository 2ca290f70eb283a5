"""The database's side of `benchmarks.audit_log`: what an event costs a transaction, and how long it waits for its place."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from uuid import uuid4

import psycopg

from benchmarks import audit_pgbench
from benchmarks.audit_events import ORIGIN, events, now, said
from ringi.audit.ringi_verify import Frontier, leaf_hash
from ringi.embedded import postgres
from ringi.embedded.postgres import OWNER, PLATFORM, PostgresHandle
from ringi.kit.ids import uuid7

ROOT = Path(__file__).parents[1]
BACKLOG, CLIENTS, ROUNDS = 100_000, (8, 32), 5
Way = Callable[[psycopg.Connection, int], None]
# Each client is an actor who changes a row of its own, as the platform's callers are.
_EVENT = f"""WITH event AS (
 INSERT INTO audit_event (event_id, body, leaf_hash, ts, action, outcome, actor_type, actor_id, object_type, object_id, project_id, organization_id)
 VALUES (%(id)s, %(body)s, %(leaf)s, clock_timestamp(), 'job.cancel', 'ok', 'user', %(actor)s, 'job', %(object)s, '{audit_pgbench.PROJECT}',
  '{audit_pgbench.ORGANIZATION}') RETURNING id)
"""  # noqa: S608  # of constants
_QUEUED = _EVENT + "INSERT INTO audit_pending SELECT id FROM event"  # noqa: S608  # two constants
_INDEXED = _EVENT + "INSERT INTO bench_leaf SELECT %(index)s, id, %(leaf)s FROM event"  # noqa: S608  # two constants
_BODY = next(events(1))


def _update(connection: psycopg.Connection, row: int) -> None:
    connection.execute("UPDATE bench_row SET n = n + 1 WHERE id = %s", [row])


def plain(connection: psycopg.Connection, row: int) -> None:
    """The change alone."""
    _update(connection, row)


def _values(body: bytes, row: int) -> dict[str, object]:
    return {"id": uuid7(), "body": body, "leaf": leaf_hash(body), "actor": f"a{row}", "object": f"x{row}"}


def two_phase(connection: psycopg.Connection, row: int) -> None:
    """The change, its event and its place in the queue."""
    _update(connection, row)
    body = _BODY + uuid4().bytes
    connection.execute(_QUEUED, _values(body, row))


def in_transaction(connection: psycopg.Connection, row: int) -> None:
    """The change, its event and its index, under the lock of the head until the commit."""
    _update(connection, row)
    body = _BODY + uuid4().bytes
    values = _values(body, row)
    found = connection.execute("SELECT size, frontier FROM bench_head WHERE id = 1 FOR UPDATE").fetchone()
    frontier = Frontier.from_bytes(*(found or (0, b"")))
    connection.execute(_INDEXED, values | {"index": frontier.size})
    frontier.append(leaf_hash(body))
    connection.execute("UPDATE bench_head SET size = %s, frontier = %s WHERE id = 1", [frontier.size, frontier.to_bytes()])


WAYS: dict[str, Way] = {"no audit": plain, "two-phase, sequencer live": two_phase, "index inside the transaction": in_transaction}


PAIR = ("no audit", "two-phase, sequencer live")


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


def paced(url: str, seconds: float, per_second: float, row: int) -> int:
    """One client that writes events at a rate; returns how many."""
    done = 0
    with psycopg.connect(url) as connection:
        began = time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            if done > elapsed * per_second:
                time.sleep(1 / per_second)
                continue
            two_phase(connection, row)
            connection.commit()
            done += 1
    return done


def waits(owner: psycopg.Connection, app: str, seconds: float) -> list[float]:
    """Seconds from an event's commit to its place in the log, one event after another."""
    found = []
    with psycopg.connect(app) as connection:
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            values = _values(_BODY + uuid4().bytes, 0)
            connection.execute(_QUEUED, values)
            connection.commit()
            began = time.perf_counter()
            placed = "SELECT 1 FROM audit_leaf JOIN audit_event ON audit_event.id = audit_leaf.event_id WHERE audit_event.event_id = %s"
            while owner.execute(placed, [values["id"]]).fetchone() is None:
                time.sleep(0.005)
            found.append(time.perf_counter() - began)
    return sorted(found)


def sequencing(owner: psycopg.Connection, app: str, seconds: float) -> dict[str, float]:
    """The wait at 500 events a second, and the sequencer's own rate."""
    with ProcessPoolExecutor(4) as pool:
        load = [pool.submit(paced, app, seconds + 2, 125.0, row) for row in range(1, 5)]
        lags = waits(owner, app, seconds)
        written = sum(one.result() for one in load) / (seconds + 2)
    p99 = lags[int(len(lags) * 0.99)]
    print(f"wait for a place at {written:.0f} events a second: p50 {lags[len(lags) // 2]:.3f} s, p99 {p99:.3f} s of {len(lags)} looked at")
    until_placed(owner)
    with owner.transaction():
        owner.execute(
            "WITH body AS (SELECT %(body)s::bytea || uuid_send(gen_random_uuid()) AS body FROM generate_series(1, %(count)s)),"
            " event AS (INSERT INTO audit_event (event_id, body, leaf_hash, ts, action, outcome, actor_type, actor_id, object_type, object_id)"
            " SELECT gen_random_uuid(), body, sha256('\\x00'::bytea || body), clock_timestamp(), 'job.cancel', 'ok', 'user', 'a', 'job', 'x' FROM body"
            " RETURNING id) INSERT INTO audit_pending SELECT id FROM event",
            {"body": _BODY, "count": BACKLOG},
        )
    began = now()
    until_placed(owner)
    return {
        "lag_p99_s": p99,
        "events_per_s": written,
        "sequencer_per_s": BACKLOG / said("a backlog worked off by the sequencer", began, BACKLOG),
    }


def until_placed(owner: psycopg.Connection) -> None:
    """Return when no event waits."""
    while owner.execute("SELECT EXISTS (SELECT 1 FROM audit_pending)").fetchone() == (True,):
        time.sleep(0.02)


def _python(url: str, way: str, clients: int, seconds: float) -> float:
    with ProcessPoolExecutor(clients) as pool:
        return sum(pool.map(partial(client, url, way, seconds), range(1, clients + 1)))


def _pgbench(url: str, way: str, clients: int, seconds: float) -> float:
    return audit_pgbench.rate(url, {PAIR[0]: audit_pgbench.plain(), PAIR[1]: audit_pgbench.two_phase(_BODY)}[way], clients, seconds)


# Half of a Python client's time is Python: pgbench says what the database can do, the other what a client of the platform's kind sees.
PROGRAMS = {"pgbench": _pgbench, "python": _python}


def shares(owner: psycopg.Connection, app: str, seconds: float) -> dict[str, float]:
    """Rounds of the plain and of the audited writes in turn; of each program and number of clients the median share, and the audited writes of 32 clients to those of 8."""
    found: dict[str, list[float]] = {}
    audited: dict[tuple[str, int], list[float]] = {}
    for program, measure in PROGRAMS.items():
        for clients in CLIENTS:
            for number in range(ROUNDS):
                rates = {}
                for way in WAYS if (number, program) == (0, "python") else PAIR:
                    rates[way] = measure(app, way, clients, seconds)
                    waiting = (owner.execute("SELECT count(*) FROM audit_pending").fetchone() or (0,))[0]
                    print(
                        f"{program:8} {way:32} {clients:3} clients {rates[way]:9,.0f} per s, {waiting} waiting for their place", flush=True
                    )
                    until_placed(owner)
                found.setdefault(f"{program}_{clients}", []).append(rates[PAIR[1]] / rates[PAIR[0]])
                audited.setdefault((program, clients), []).append(rates[PAIR[1]])
    for name, each in found.items():
        print(f"{name}, of each round the audited writes as a share of the plain ones: {' '.join(f'{one:.2f}' for one in sorted(each))}")
    falls = {f"audited_32_to_8_{program}": median(audited[program, 32]) / median(audited[program, 8]) for program in PROGRAMS}
    return {f"audited_to_plain_{name}": median(each) for name, each in found.items()} | falls


def appends(handle: PostgresHandle, seconds: float) -> dict[str, float]:
    """Rounds of the plain and of the audited writes in turn, with 8 and with 32 clients, on one durable server; then the sequencer.

    The machine is shared, and a round differs from the next by more than what is asked: compared is within a round, and the median counts.
    """
    postgres.create_database(handle, "audit_bench")
    urls = [handle.url(role, "audit_bench") for role in (OWNER, PLATFORM)]
    environment = os.environ | {
        "RINGI_OWNER_DATABASE_URL": urls[0],
        "RINGI_DATABASE_URL": urls[1],
        "RINGI_PLATFORM_DATABASE_URL": urls[1],
        "RINGI_DATA_DIR": str(handle.data_dir / "bench"),
        "RINGI_AUDIT_ORIGIN": ORIGIN,
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
            measured = shares(connection, app, seconds)
            return measured | sequencing(connection, app, seconds)
        finally:
            sequencer.terminate()
            sequencer.wait()
