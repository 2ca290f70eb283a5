"""One feed of the job log for the whole API process: one connection that listens, and short reads in at most two threads.

A stream (stream.py) joins with what it may see, gets every entry that is committed from then on, and costs one bounded queue: no thread,
no session, no connection of a pool. Who does not take what it is given is cut off; the log is in the database, so it loses nothing.
"""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import NamedTuple, TypeVar
from uuid import UUID

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from ringi.db.session import get_engine, platform_transaction
from ringi.identity.authentication import authenticate
from ringi.jobs import log as job_log
from ringi.jobs.ddl import CHANNEL
from ringi.jobs.log import Sight, level_of
from ringi.jobs.models import JobLogEntry
from ringi.jobs.schemas import OPEN, EntryKind
from ringi.kit.errors import NotFound, RingiError
from ringi.settings import get_settings

log = logging.getLogger("ringi.streams")
Answer = TypeVar("Answer")
# Entries that a stream may be behind before it is cut off, and entries of one read.
BEHIND, PAGE = 512, 500
_READERS = 2
# Notifications within this time are answered by one read; without any, the feed looks by itself.
_GATHER_S, _LOOK_S = 0.02, 1.0
_PAUSE_S = 1.0
_SESSIONS_OF = 50  # tokens checked in one transaction


class Entry(NamedTuple):
    """An entry as a stream sends it; `over`: the state in which the job has ended with it."""

    position: int
    over: str | None
    text: bytes


# Line breaks of Unicode that JSON leaves as they are and many readers of lines take for one.
_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def event(kind: str, data: dict[str, object], *, position: int | None = None) -> bytes:
    """One server-sent event (WHATWG HTML, section 9.2.6): JSON has no bare line breaks, so its data is one line."""
    place = "" if position is None else f"id: {position}\n"
    document = json.dumps(data, ensure_ascii=False).translate(_BREAKS)
    return f"{place}event: {kind}\ndata: {document}\n\n".encode("utf-8", "replace")


def rendered(entry: JobLogEntry) -> Entry:
    """The event of an entry."""
    data: dict[str, object] = {"job": str(entry.job_id), "at": entry.at.isoformat(), "attempt": entry.attempt}
    if entry.kind == EntryKind.LOG:
        data |= {"level": str(level_of(entry)), "message": entry.message}
    else:
        data |= entry.data or {}
    state = str(data.get("state")) if entry.kind == EntryKind.STATE else None
    over = state if state is not None and state not in set(OPEN) else None
    return Entry(entry.position or 0, over, event(str(entry.kind), data, position=entry.position))


def sight_of(secrets: Iterable[str]) -> dict[str, frozenset[UUID | None] | RingiError]:
    """What the owner of each token may follow now, or why nothing any more."""
    found: dict[str, frozenset[UUID | None] | RingiError] = {}
    with platform_transaction() as session:
        for secret in secrets:
            try:
                found[secret] = job_log.projects_in_sight(session, authenticate(session, secret, watching=True))
            except RingiError as refusal:
                found[secret] = refusal
    return found


@dataclass(eq=False)
class Seat:
    """A stream's place in the feed. `wanted`: the projects it was opened for, None for whatever is in sight."""

    secret: str
    sight: Sight
    wanted: frozenset[UUID | None] | None
    queue: deque[Entry] = field(default_factory=deque)
    behind: bool = False
    live: bool = False
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    # Set when there is something in the queue, or when the stream is to end: for a reason, or because the server stops.
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    refusal: RingiError | None = None

    def give(self, entry: Entry) -> None:
        """Queue an entry. Who is behind while it reads what was there before reads it from the database; who is behind later is cut off."""
        if len(self.queue) < BEHIND:
            self.queue.append(entry)
            self.stirred.set()
            return
        self.behind = True
        if self.live:
            self.cut.set()

    def taken(self) -> list[Entry]:
        """Everything that is queued."""
        entries = list(self.queue)
        self.queue.clear()
        self.stirred.clear()
        return entries

    def end(self, refusal: RingiError | None = None) -> None:
        """Ask the stream to say why, and to close."""
        self.refusal, self.ended = refusal, True
        self.stirred.set()


class Feed:
    """Follows the log while anybody sits in it."""

    def __init__(self) -> None:
        self._seats: set[Seat] = set()
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._readers = asyncio.Semaphore(_READERS)
        self._position = 0
        self._checked_at = 0.0
        self._checking: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """How many streams are open."""
        return len(self._seats)

    def count_of(self, secret: str) -> int:
        """How many of them are of one token."""
        return sum(seat.secret == secret for seat in self._seats)

    async def join(self, seat: Seat) -> int:
        """Sit down, and return the place behind which everything will be given."""
        self._seats.add(seat)
        if self._task is None or self._task.done():
            self._listening = asyncio.Event()
            self._position = -1
            # In a context of its own: what it notes of others must not stand in the log lines of the request that came first.
            self._task = asyncio.create_task(self._run(), name="job-feed", context=Context())
        await self._listening.wait()
        return self._position

    def leave(self, seat: Seat) -> None:
        """Get up; with the last one the connection closes."""
        self._seats.discard(seat)
        if not self._seats and self._task is not None:
            self._task.cancel()
            self._task = None

    def close(self) -> None:
        """The server stops: every stream ends, and its client comes back with the last event's id."""
        for seat in self._seats:
            seat.end()

    async def read(self, sight: Sight | None, *, after: int, limit: int = PAGE) -> list[Entry]:
        """What is already there for a sight."""
        return [rendered(one) for one in await self._rows(sight, after, limit)]

    async def _rows(self, sight: Sight | None, after: int, limit: int = PAGE) -> Sequence[JobLogEntry]:
        def look() -> Sequence[JobLogEntry]:
            with platform_transaction() as session:
                return job_log.read(session, after=after, sight=sight, limit=limit)

        return await self._in_thread(look)

    async def _in_thread(self, work: Callable[[], Answer]) -> Answer:
        # Few at once: the streams must not take the threads and connections that requests need.
        async with self._readers:
            return await asyncio.to_thread(work)

    async def _run(self) -> None:
        while self._seats:
            try:
                await self._follow()
            except (psycopg.Error, SQLAlchemyError, OSError) as error:
                # Streams stay open: what is committed meanwhile is read when the database is back.
                log.warning("the job feed waits for the database: %s", " ".join(str(error).split())[:300])
                await _pause(_PAUSE_S)
            except Exception:
                # Without this task every stream of the process would stay open and hear nothing more.
                log.exception("nobody foresaw this; the job feed goes on where it was")
                await _pause(_PAUSE_S)

    async def _follow(self) -> None:
        url = get_engine().url.set(drivername="postgresql").render_as_string(hide_password=False)
        name = get_settings().process_name
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, application_name=f"{name}-feed") as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            if self._position < 0:
                self._position = await self._in_thread(_newest)
            self._checked_at = time.monotonic()
            self._listening.set()
            while self._seats:
                await self._deliver()
                self._check_in_time()
                async for _ in connection.notifies(timeout=_LOOK_S, stop_after=1):
                    pass
                async for _ in connection.notifies(timeout=_GATHER_S):
                    pass

    async def _deliver(self) -> None:
        while rows := await self._rows(None, self._position):
            for row in rows:
                entry = rendered(row)
                for seat in self._seats:
                    if seat.sight.shows(row):
                        seat.give(entry)
                self._position = entry.position

    def _check_in_time(self) -> None:
        """Once a pulse, beside the deliveries: many tokens take a while, and events do not wait for that."""
        if self._checking is not None and self._checking.done():
            failed, self._checking = self._checking.exception(), None
            if failed is not None:
                raise failed
        if self._checking is None and time.monotonic() - self._checked_at >= get_settings().stream_pulse_s:
            self._checked_at = time.monotonic()
            self._checking = asyncio.create_task(self._check(), name="job-feed-check")

    async def _check(self) -> None:
        """Ask again, once per token, whether each stream may still see what it shows."""
        secrets = sorted({seat.secret for seat in self._seats})
        for start in range(0, len(secrets), _SESSIONS_OF):
            found = await self._in_thread(partial(sight_of, secrets[start : start + _SESSIONS_OF]))
            for seat in [one for one in self._seats if one.secret in found]:
                _narrow(seat, found[seat.secret])


def _narrow(seat: Seat, found: frozenset[UUID | None] | RingiError) -> None:
    if isinstance(found, RingiError):
        seat.end(found)
    elif seat.wanted is not None and not seat.wanted & found:
        seat.end(NotFound("job" if seat.sight.job_id else "project", seat.sight.job_id or "in this stream"))
    else:
        seat.sight = replace(seat.sight, projects=found if seat.wanted is None else seat.wanted & found)


def _newest() -> int:
    with platform_transaction() as session:
        return job_log.newest(session)


async def _pause(seconds: float) -> None:
    with_nothing = asyncio.Event()
    try:
        await asyncio.wait_for(with_nothing.wait(), seconds)
    except TimeoutError:
        return


@cache
def get_feed() -> Feed:
    """The process's feed."""
    return Feed()
