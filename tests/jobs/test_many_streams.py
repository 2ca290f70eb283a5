"""Very many open streams on one API process: bounded memory and threads, one connection of the database, quick answers to everybody else."""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import psutil
import psycopg
import pytest

from ringi.embedded.postgres import PostgresHandle
from support.postgres import DatabaseUrls, fresh_database
from support.running_platform import PROJECT, Platform, Processes, new_organization, start_api, started
from support.tiny_model import make_tiny_rows
from support.waiting import until

LINES = 20
PER_STREAM_KIB = 200


@dataclass
class Reader:
    """What one client heard."""

    places: list[int]
    messages: list[str]
    ended: bool = False


@pytest.fixture(scope="module")
def idle(
    postgres_server: PostgresHandle, migrated_template: DatabaseUrls, broker: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """A platform without workers, whose API checks its streams often."""
    urls = fresh_database(postgres_server, f"streams_{uuid4().hex[:8]}", template=migrated_template.name)
    processes = started(tmp_path_factory.mktemp("streams"), urls, broker)
    processes.kill("api")
    start_api(processes, RINGI_STREAM_PULSE_S="2")
    with new_organization(processes) as platform:
        yield platform
    processes.stop()


def queued(platform: Platform, processes: Processes) -> UUID:
    """A job that nobody takes."""
    datasets = platform.as_("contributor").datasets
    name = f"rows-{uuid4().hex[:8]}"
    datasets.create(PROJECT, name)
    job = datasets.add_version(PROJECT, name, make_tiny_rows(processes.folder / f"{name}.jsonl", 5)).job_id
    assert job is not None
    return job


async def follow(platform: Platform, job: UUID, user: str, opened: asyncio.Semaphore, reader: Reader) -> None:
    """One client: plain sockets, so that a thousand of them cost this process little."""
    host = urlsplit(platform.server)
    async with opened:
        stream, writer = await asyncio.open_connection(host.hostname, host.port)
        writer.write(
            f"GET /api/v1/jobs/{job}/events HTTP/1.1\r\nHost: {host.netloc}\r\nAuthorization: Bearer {platform.tokens[user]}\r\n\r\n".encode()
        )
        head = await stream.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        while b": live" not in (line := await stream.readline()):
            assert line, "closed before the past was told"
            _hear(line, reader)
    while not reader.ended and (line := await stream.readline()):
        _hear(line, reader)
    writer.close()


def _hear(line: bytes, reader: Reader) -> None:
    if line.startswith(b"id: "):
        reader.places.append(int(line[4:]))
    elif line.startswith(b"event: end"):
        reader.ended = True
    elif line.startswith(b"data: "):
        said = json.loads(line[6:]).get("message")
        if said is not None:
            reader.messages.append(said)


def say(platform: Platform, job: UUID, line: str) -> None:

    with psycopg.connect(platform.processes.urls.superuser_url.replace("postgresql+psycopg", "postgresql")) as database:
        database.execute(
            "INSERT INTO job_log (job_id, organization_id, project_id, attempt, kind, level, line, message)"
            " SELECT id, organization_id, project_id, 1, 'log', 20, (SELECT count(*) + 1 FROM job_log WHERE job_id = %s), %s FROM jobs WHERE id = %s",
            [job, line, job],
        )


def connections(platform: Platform) -> int:

    with psycopg.connect(platform.processes.urls.superuser_url.replace("postgresql+psycopg", "postgresql")) as database:
        row = database.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'api%'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def answers_ms(platform: Platform, count: int) -> list[float]:
    """How long plain requests take, one after the other."""
    taken = []
    with httpx.Client(timeout=30, headers={"Authorization": f"Bearer {platform.tokens['viewer']}"}) as client:
        for _ in range(count):
            begun = time.perf_counter()
            assert client.get(f"{platform.server}/api/v1/whoami").status_code == 200
            taken.append(1000 * (time.perf_counter() - begun))
    return taken


async def all_open(tasks: list[asyncio.Task[None]], heard: Callable[[], bool]) -> None:
    """Until `heard`; a client that has ended by then failed, or was cut off, and would never hear it."""
    while not heard():
        done, _ = await asyncio.wait(tasks, timeout=0.1)
        for task in done:
            task.result()
        assert not done, f"{len(done)} streams ended too early"


async def crowd(platform: Platform, job: UUID, count: int, process: psutil.Process) -> tuple[list[Reader], dict[str, float]]:
    readers = [Reader([], []) for _ in range(count)]
    users = ["viewer", "reviewer", "contributor", "deployer"]
    opened = asyncio.Semaphore(50)
    begun = time.perf_counter()
    tasks = [asyncio.create_task(follow(platform, job, users[number % 4], opened, one)) for number, one in enumerate(readers)]
    await all_open(tasks, lambda: all(one.places for one in readers))
    measured = {"opened_s": time.perf_counter() - begun}
    for number in range(LINES):
        await asyncio.to_thread(say, platform, job, f"行{number}")
    taken = await asyncio.to_thread(answers_ms, platform, 100)
    measured |= {"p50_ms": statistics.median(taken), "p95_ms": sorted(taken)[94]}
    await all_open(tasks, lambda: all(len(one.messages) >= LINES for one in readers))
    measured |= {"rss_mib": process.memory_info().rss / 2**20, "threads": process.num_threads(), "connections": connections(platform)}
    await asyncio.to_thread(platform.as_("contributor").jobs.cancel, job)
    await asyncio.gather(*tasks)
    return readers, measured


def prove(platform: Platform, count: int) -> dict[str, float]:
    job = queued(platform, platform.processes)
    process = psutil.Process(platform.processes.running["api"].pid)
    alone = answers_ms(platform, 100)
    before, threads = process.memory_info().rss / 2**20, process.num_threads()
    readers, measured = asyncio.run(crowd(platform, job, count, process))
    print(f"{count} streams: before {before:.0f} MiB, {threads} threads, p50 {statistics.median(alone):.1f} ms; {measured}")
    for reader in readers:
        assert reader.messages == [f"行{number}" for number in range(LINES)]
        assert reader.ended
        assert reader.places[1:] == sorted(reader.places[1:])
    assert measured["rss_mib"] - before < 30 + count * PER_STREAM_KIB / 1024
    # The pool of requests, two readers of the feed; nothing that grows with the streams.
    assert measured["threads"] <= 40 + 10 + 6
    assert measured["connections"] <= 22
    until(lambda: len(process.net_connections()) < count / 2, timeout_s=30)
    return measured


def test_two_hundred_streams_hear_every_line_and_hold_nothing_of_the_database(idle: Platform) -> None:
    prove(idle, 200)


@pytest.mark.proof
@pytest.mark.timeout(0)
def test_a_thousand_streams(idle: Platform) -> None:
    measured = prove(idle, int(os.environ.get("RINGI_PROOF_STREAMS", "1000")))
    assert measured["p95_ms"] < 1000, "everybody else is answered quickly"


def test_a_client_that_takes_nothing_is_cut_off_and_loses_nothing(idle: Platform) -> None:
    job = queued(idle, idle.processes)
    long_line = "長い行です。" * 600

    async def stalled() -> int:
        host = urlsplit(idle.server)
        stream, writer = await asyncio.open_connection(host.hostname, host.port, limit=4096)
        writer.write(
            f"GET /api/v1/jobs/{job}/events HTTP/1.1\r\nHost: {host.netloc}\r\nAuthorization: Bearer {idle.tokens['viewer']}\r\n\r\n".encode()
        )
        await stream.readuntil(b"\r\n\r\n")
        # Reads no more: the buffers between the two fill, then the queue, then the stream is cut.
        await asyncio.to_thread(_flood, idle, job, long_line, 3000)
        await asyncio.to_thread(until, lambda: "takes its events too slowly" in idle.processes.log_of("api"), timeout_s=60)
        heard = 0
        try:
            while piece := await stream.read(65536):
                heard += len(piece)
        except ConnectionError:
            pass
        writer.close()
        return heard

    heard = asyncio.run(stalled())
    assert heard < 3000 * len(long_line.encode()) / 2, "most of it was never buffered for this client"
    lines = list(idle.as_("viewer").jobs.lines(job))
    assert len(lines) == 3000, "and it is all still there"


def _flood(platform: Platform, job: UUID, line: str, count: int) -> None:

    with psycopg.connect(platform.processes.urls.superuser_url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as database:
        for start in range(0, count, 100):
            database.execute(
                "INSERT INTO job_log (job_id, organization_id, project_id, attempt, kind, level, line, message)"
                " SELECT id, organization_id, project_id, 1, 'log', 20, n, %s FROM jobs, generate_series(%s::int, %s::int) n WHERE id = %s",
                [line, start + 1, start + 100, job],
            )
