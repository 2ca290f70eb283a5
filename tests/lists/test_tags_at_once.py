"""The last place for a tag is given out once, and a line that breaks is no failure of the server."""

import json
import socket
from functools import partial
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from ringi.cli.client import RingiClient
from ringi.tags.schemas import MAX_TAGS, Taggable, TagOut
from support.at_once import at_once, codes
from support.running_platform import PROJECT, Platform
from support.waiting import until

ROOM, CALLERS = 3, 10


def _tag(client: RingiClient, *, project: UUID, number: int) -> TagOut:
    return client.tags.set(Taggable.PROJECT, project, f"key-{number}", "値")


def test_of_many_who_add_at_once_so_many_find_room_as_there_is(platform: Platform) -> None:
    admin = platform.as_("admin")
    project = admin.identity.project(PROJECT).id
    taken = MAX_TAGS - ROOM
    for number in range(taken):
        _tag(admin, project=project, number=number)
    results = at_once(platform, *[("admin", partial(_tag, project=project, number=taken + more)) for more in range(CALLERS)])
    assert codes(results) == ["done"] * ROOM + ["too_many_tags"] * (CALLERS - ROOM)
    assert len(admin.tags.of(Taggable.PROJECT, project).tags) == MAX_TAGS


@pytest.mark.parametrize("path", [f"/projects/{PROJECT}/datasets", "/uploads"])
def test_a_request_whose_line_breaks_is_no_failure_of_the_server(platform: Platform, path: str) -> None:
    address, request_id = urlsplit(platform.server), str(uuid4())
    head = (
        f"POST /api/v1{path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {platform.tokens['contributor']}\r\n"
        f"X-Request-Id: {request_id}\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n"
    )
    with socket.create_connection((str(address.hostname), address.port or 80)) as line:
        line.sendall(head.encode() + b'{"name": "cut')

    def told() -> list[dict[str, str]]:
        lines = platform.processes.log_of("api").splitlines()
        about = [json.loads(one) for one in lines if one.startswith("{") and request_id in one]
        return about if any(one["logger"] == "ringi.requests" for one in about) else []

    about = until(told)
    assert [one["level"] for one in about] == ["info"] * len(about)
    assert {one["status"] for one in about if one["logger"] == "ringi.requests"} <= {"400", "gone"}
