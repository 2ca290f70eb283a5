"""Server-sent events of jobs: the answer that stays open (WHATWG HTML, section 9.2).

Events: `state` (a change of a job), `progress` (its newest sample), `log` (a line), `end` (the job of the stream has ended: the last one),
`refused` (a problem document: the token or the role is gone). The id of an event is its place in the order of commits, so a client
that comes back with `Last-Event-ID` gets what it missed, and nothing twice. The comment `live` stands where the past ends; then a comment every pulse keeps the connection alive.
"""

import asyncio
import logging
import random
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import FrameType
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ringi.identity.dependencies import Bearer
from ringi.jobs import log as job_log
from ringi.jobs.feed import PAGE, Entry, Seat, event, get_feed
from ringi.jobs.log import LEVELS, Sight
from ringi.jobs.models import Job
from ringi.jobs.schemas import OPEN, Level
from ringi.kit.actor import Actor
from ringi.kit.errors import InvalidInput, RingiError
from ringi.settings import get_settings
from ringi.web import cookies

log = logging.getLogger("ringi.streams")
Emit = Callable[[bytes], Awaitable[None]]
MEDIA_TYPE = "text/event-stream"
# A client that takes nothing for so long is gone or stuck.
_SEND_S = 30.0
# Bytes after which entries that are there at once are sent in another piece.
_PIECE = 64 * 1024
# OpenAPI 3.1 has no word for the items of a stream (3.2 has `itemSchema`), and what reads such documents takes the schema for that of one event.
_EVENT = {
    "type": "object",
    "description": "One event of the stream (WHATWG HTML, section 9.2.6): `state`, `progress`, `log`, `end` or `refused`; `data` is a JSON object.",
    "properties": {
        "id": {"type": "string"}, "event": {"type": "string"}, "retry": {"type": "integer"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}  # fmt: skip
EVENTS: dict[int | str, dict[str, Any]] = {200: {"description": "The events, as they happen.", "content": {MEDIA_TYPE: {"schema": _EVENT}}}}


class TooManyStreams(RingiError):
    """The process serves as many streams as it may, or as many as one token may have."""

    code, status, retryable = "too_many_streams", 503, True
    retry_after_s = 30

    def __init__(self, limit: int, whose: str) -> None:
        super().__init__(
            f"This process already serves {limit} streams of events{whose}.",
            next_step="Come back later, or poll the job: GET /api/v1/jobs/{id}.",
        )


class UnknownEventId(InvalidInput):
    """A place that this log has not given yet: made up, or of a database that was restored to an earlier day."""

    code = "unknown_event_id"

    def __init__(self, given: str) -> None:
        super().__init__(
            f"'{given[:40]}' is no event id of this log.", next_step="Read the present state, then open the stream without one."
        )


@dataclass(frozen=True)
class Place:
    """Where a stream begins: behind `after`, or None where the client has seen nothing."""

    secret: str
    after: int | None


def place(
    request: Request,
    credentials: Bearer,
    last_event_id: Annotated[str | None, Header(description="The last id that was received; browsers send it by themselves.")] = None,
    after: Annotated[str | None, Query(max_length=40, description="The same, for clients that cannot set the header.")] = None,
) -> Place:
    """`Last-Event-ID:` or `?after=`."""
    given = last_event_id if last_event_id is not None else after
    if given is not None and not (given.isascii() and given.isdigit() and len(given) < len(str(2**63))):
        raise UnknownEventId(given)
    # The route's permission has already asked for the token.
    secret = cookies.session_secret(request) or (credentials.credentials if credentials else "")
    return Place(secret, None if given is None else int(given))


PlaceDep = Annotated[Place, Depends(place)]


class EventStream(Response):
    """An answer without an end: holds a seat in the process's feed, and nothing of the database."""

    media_type = MEDIA_TYPE

    def __init__(self, seat: Seat, *, after: int | None, from_the_start: bool, over: str | None) -> None:
        # Proxies must neither store nor collect what is meant to arrive at once.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._seat, self._after, self._from_the_start, self._over = seat, after, from_the_start, over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI
        """Send until the job, the right, the client or the server ends."""

        async def emit(text: bytes) -> None:
            async with asyncio.timeout(_SEND_S):
                await send({"type": "http.response.body", "body": text, "more_body": True})

        feed = get_feed()
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        tasks = [asyncio.ensure_future(one) for one in (self._pump(emit), self._seat.cut.wait(), _gone(receive))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            feed.leave(self._seat)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        failed = tasks[0].exception() if tasks[0] in done else None
        if tasks[0] in done and failed is None:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif tasks[2] not in done:
            # Left without an end, so that the server closes the connection whatever the client still holds back.
            slow = failed is None or isinstance(failed, TimeoutError)
            log.warning(
                "cut off a stream %s", "that takes its events too slowly" if slow else f"that could not go on: {type(failed).__name__}"
            )

    async def _pump(self, emit: Emit) -> None:
        seat, feed = self._seat, get_feed()
        joined = await feed.join(seat)
        last = self._after if self._after is not None else 0 if self._from_the_start else joined
        # A different pause for every client, so that after a restart they do not all come back in the same moment.
        await emit(f"retry: {random.randint(1000, 5000)}\nid: {last}\n\n".encode())  # noqa: S311  # jitter
        while True:
            page = await feed.read(seat.sight, after=last)
            if await self._send(emit, page):
                return
            last = page[-1].position if page else last
            if len(page) == PAGE:
                continue
            if not seat.behind:
                break
            seat.behind = False
            seat.taken()
        if self._over is not None:
            # A job of before there was a log has no entry that says so.
            await emit(self._end(self._over, last))
            return
        seat.live = True
        await emit(b": live\n\n")
        await self._live(emit, last)

    async def _send(self, emit: Emit, entries: list[Entry]) -> bool:
        """Send entries, many in one piece; returns whether the job of the stream has ended with one of them."""
        piece: list[bytes] = []
        size = 0
        for entry in entries:
            piece.append(entry.text)
            size += len(entry.text)
            over = entry.over is not None and self._seat.sight.job_id is not None
            if over:
                piece.append(self._end(entry.over, entry.position))
            if over or size > _PIECE:
                await emit(b"".join(piece))
                piece, size = [], 0
            if over:
                return True
        if piece:
            await emit(b"".join(piece))
        return False

    def _end(self, state: str | None, position: int) -> bytes:
        return event("end", {"job": str(self._seat.sight.job_id), "state": state}, position=position)

    async def _live(self, emit: Emit, last: int) -> None:
        seat, pulse_s = self._seat, get_settings().stream_pulse_s
        while not seat.ended:
            # No task and no queue object for each event: a thousand streams hear each of them.
            try:
                async with asyncio.timeout(pulse_s):
                    await seat.stirred.wait()
            except TimeoutError:
                await emit(b":\n\n")
                continue
            new = [entry for entry in seat.taken() if entry.position > last]
            if await self._send(emit, new):
                return
            last = new[-1].position if new else last
        if seat.refusal is not None:
            await emit(event("refused", _problem(seat.refusal)))


async def _gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _problem(error: RingiError) -> dict[str, object]:
    return {
        "type": f"urn:ringi:error:{error.code}", "title": HTTPStatus(error.status).phrase, "status": error.status, "detail": error.message,
        "code": error.code, "next_step": error.next_step,
    }  # fmt: skip


def of_job(session: Session, job: Job, begin: Place, *, level: Level) -> Response:
    """The stream of one job that the caller sees: its whole log, then what happens, then `end`."""
    _admit(session, begin)
    over = job.state if job.state not in OPEN else None
    sight = Sight(job.organization_id, frozenset({job.project_id}), job.id, LEVELS[level])
    if over is not None and begin.after is not None and not job_log.read(session, after=begin.after, sight=sight, limit=1):
        # WHATWG HTML 9.2.1: this tells a browser that there is nothing to come back for.
        return Response(status_code=HTTPStatus.NO_CONTENT)
    seat = Seat(begin.secret, sight, frozenset({job.project_id}))
    return EventStream(seat, after=begin.after, from_the_start=True, over=str(over) if over else None)


def of_jobs(
    session: Session, actor: Actor, begin: Place, *, projects: frozenset[Any] | None = None, level: Level | None = None
) -> EventStream:
    """The stream of the jobs in sight, or of some projects: what happens from now on, or from the given place."""
    _admit(session, begin)
    if actor.organization_id is None:
        raise InvalidInput("The platform's own parts have no jobs in sight.", next_step="Use the token of a user.")
    shown = projects if projects is not None else job_log.projects_in_sight(session, actor)
    sight = Sight(actor.organization_id, shown, None, LEVELS[level] if level else None)
    return EventStream(Seat(begin.secret, sight, projects), after=begin.after, from_the_start=False, over=None)


def _admit(session: Session, begin: Place) -> None:
    settings, feed = get_settings(), get_feed()
    if feed.count >= settings.max_streams:
        raise TooManyStreams(settings.max_streams, "")
    if feed.count_of(begin.secret) >= settings.max_streams_of_token:
        raise TooManyStreams(settings.max_streams_of_token, " of your token")
    if begin.after is not None and not job_log.given(session, begin.after):
        raise UnknownEventId(str(begin.after))


@asynccontextmanager
async def ended_by_signals() -> AsyncIterator[None]:
    """Streams end as soon as the server is asked to stop: it waits for open answers, and theirs would never end by themselves."""
    loop, feed = asyncio.get_running_loop(), get_feed()
    before: dict[int, Any] = {}

    def leave(number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop may be closed already
            loop.call_soon_threadsafe(feed.close)
        if callable(before[number]):
            before[number](number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.getsignal(number)
            signal.signal(number, leave)
    try:
        yield
    finally:
        for taken, handler in before.items():
            signal.signal(taken, handler)
