"""A write whose answer was lost is repeated with its key: killed before the commit, killed after it, and a database that restarts."""

import os
import signal
from uuid import uuid4

import httpx
import psycopg
import pytest

from api_manners.conftest import Alone
from ringi.embedded import postgres
from ringi.kit.digests import sha256_bytes
from ringi.storage.blobs import store_at
from ringi.storage.schemas import StoredKind
from ringi.uploads.schemas import UploadState
from support.at_once import in_background
from support.own_api import store_url
from support.running_platform import PROJECT, start_api
from support.waiting import until

DATASETS = f"/projects/{PROJECT}/datasets"
# A commit that waits for the test: the trigger runs at the end of the transaction, and the lock is the test's.
HELD_COMMIT = """
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON idempotency_keys DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold();
"""


def post(alone: Alone, name: str, key: str) -> httpx.Response:
    return alone.platform.call("contributor", "POST", DATASETS, json={"name": name}, headers={"Idempotency-Key": key})


def lost(alone: Alone, name: str, key: str) -> None:
    with pytest.raises(httpx.TransportError):
        post(alone, name, key)


def waits(database: psycopg.Connection) -> int:
    row = database.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
    return int(row[0]) if row else 0


def made(alone: Alone, name: str) -> list[int]:
    """How many datasets of that name there are, and how many times the log says that one was made since."""
    with alone.superuser() as database:
        rows = database.execute("SELECT id FROM datasets WHERE name = %s", [name]).fetchall()
        ids = [str(row[0]) for row in rows]
        events = database.execute("SELECT count(*) FROM audit_event WHERE action = 'dataset.create' AND object_id = ANY(%s)", [ids])
        return [len(rows), (events.fetchone() or (0,))[0]]


def test_killed_before_the_commit_nothing_was_done_and_the_retry_does_it(alone: Alone) -> None:
    key = str(uuid4())
    with alone.superuser() as database:
        database.execute("LOCK TABLE datasets IN SHARE MODE")
        with in_background(lambda: lost(alone, "before", key)) as gone:
            until(lambda: waits(database) == 1)
            alone.processes.kill("api")
            gone.result(timeout=60)
        database.rollback()
    start_api(alone.processes)
    # The dead process's transaction ends when PostgreSQL notices; until then its key is in flight.
    answer = until(lambda: one if (one := post(alone, "before", key)).status_code != 409 else None, timeout_s=60)
    assert answer is not None
    assert answer.status_code == 201
    assert made(alone, "before") == [1, 1]


def test_killed_after_the_commit_and_before_the_answer_the_retry_gets_the_answer(alone: Alone) -> None:
    key = str(uuid4())
    with alone.superuser() as database, alone.superuser() as holder:
        database.execute(HELD_COMMIT)
        database.commit()
        holder.execute("SELECT pg_advisory_lock(4711)")
        with in_background(lambda: lost(alone, "after", key)) as gone:
            until(lambda: waits(database) == 1)
            # The API has asked for the commit and will never read that it was done.
            alone.processes.send("api", signal.SIGSTOP)
            holder.execute("SELECT pg_advisory_unlock(4711)")
            until(lambda: made(alone, "after") == [1, 1])
            alone.processes.kill("api")
            gone.result(timeout=60)
        database.rollback()
        database.execute("DROP TRIGGER hold ON idempotency_keys; DROP FUNCTION hold()")
        database.commit()
    start_api(alone.processes)
    answer = post(alone, "after", key)
    assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (201, "true")
    assert answer.json()["name"] == "after"
    assert made(alone, "after") == [1, 1]


def test_a_database_that_restarts_in_the_middle_of_a_request_is_a_503_that_may_be_repeated(alone: Alone) -> None:
    key, name = str(uuid4()), "restarted"
    with alone.superuser() as database:
        database.execute("LOCK TABLE datasets IN SHARE MODE")
        with in_background(lambda: post(alone, name, key)) as asked:
            until(lambda: waits(database) == 1)
            postgres.stop(alone.database.data_dir)
            cut = asked.result(timeout=60)
        database.close()
    assert (cut.status_code, cut.json()["code"], cut.headers["Retry-After"]) == (503, "database_unavailable", "1")
    while_away = post(alone, name, key)
    assert (while_away.status_code, while_away.json()["code"]) == (503, "database_unavailable")
    postgres.start(alone.database.data_dir, durable=False)
    assert post(alone, name, key).status_code == 201
    assert post(alone, name, key).headers["Idempotent-Replayed"] == "true"
    assert made(alone, name) == [1, 1]


def test_a_database_that_restarts_while_an_upload_is_finished_costs_no_byte_of_it(alone: Alone) -> None:
    platform, data = alone.platform, os.urandom(1024 * 1024)
    uploads, digest, store = platform.as_("contributor").uploads, sha256_bytes(data), store_at(store_url(platform))
    session = uploads.open(size=len(data), digest=digest)
    uploads.append(session.id, offset=0, content=data)

    def finish() -> httpx.Response:
        return platform.call("contributor", "POST", f"/uploads/sessions/{session.id}/finish")

    with alone.superuser() as database:
        # The parts are joined, and the row that says so cannot be written.
        database.execute("LOCK TABLE uploads IN SHARE MODE")
        with in_background(finish) as asked:
            until(lambda: waits(database) == 1)
            postgres.stop(alone.database.data_dir)
            cut = asked.result(timeout=60)
        database.close()
    assert (cut.status_code, cut.json()["code"]) == (503, "database_unavailable")
    postgres.start(alone.database.data_dir, durable=False)
    found = uploads.get(session.id)
    assert (found.state, found.offset) == (UploadState.OPEN, len(data))
    assert [(answer.status_code, answer.json()["digest"]) for answer in (finish(), finish())] == [(201, digest)] * 2
    assert uploads.get(session.id).state is UploadState.STORED
    assert b"".join(store.open(digest)) == data
    assert {one.kind for one in store.objects()} == {StoredKind.BLOB}
    assert len(list(platform.as_("auditor").audit.events(action="upload.store", object_id=digest))) == 1


def test_the_typed_client_outlives_a_restart_of_the_api_and_makes_one_thing(alone: Alone) -> None:
    with alone.superuser() as database:
        database.execute("LOCK TABLE datasets IN SHARE MODE")
        with in_background(lambda: alone.platform.as_("contributor").datasets.create(PROJECT, "typed")) as asked:
            until(lambda: waits(database) == 1)
            alone.processes.kill("api")
            database.rollback()
            start_api(alone.processes)
            # Back within the client's patience or not: what counts is that it is never made twice.
            error = asked.exception(timeout=60)
    if error is not None:
        alone.platform.as_("contributor").datasets.create(PROJECT, "typed")
    assert made(alone, "typed") == [1, 1]
