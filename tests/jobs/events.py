"""A plain reader of server-sent events for tests: it knows the format (WHATWG HTML 9.2.6) and nothing of our client."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

import httpx

from support.running_platform import Platform


class Event(NamedTuple):
    """One event; `data` is its JSON."""

    kind: str
    id: int | None
    data: dict[str, Any]


def parsed(lines: Iterator[str]) -> Iterator[Event | str]:
    """Events, and comments as the text `:`."""
    kind, place, data = "message", None, ""
    for line in lines:
        if line.startswith(":"):
            yield ":"
        elif not line:
            if data:
                yield Event(kind, place, json.loads(data))
            kind, data = "message", ""
        else:
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "id":
                place = int(value)
            elif name == "data":
                data += value


@contextmanager
def opened(platform: Platform, user: str, path: str, *, last: int | None = None, pulse_s: float = 30.0) -> Iterator[Iterator[Event | str]]:
    """The events and comments of a stream; leaving closes it."""
    headers = {"Authorization": f"Bearer {platform.tokens[user]}"} | ({"Last-Event-ID": str(last)} if last is not None else {})
    with httpx.stream("GET", f"{platform.server}/api/v1{path}", headers=headers, timeout=httpx.Timeout(10, read=pulse_s)) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield parsed(answer.iter_lines())


def events_of(platform: Platform, job: UUID | None, *, user: str = "contributor", last: int | None = None) -> list[Event]:
    """Every event of a job's stream, to its end."""
    with opened(platform, user, f"/jobs/{job}/events", last=last) as stream:
        return [one for one in stream if isinstance(one, Event)]
