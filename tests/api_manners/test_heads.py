"""What could be read in two ways, or would be left unread, is refused: parameters, headers, encodings, a slash too many."""

import gzip
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.running_platform import Platform, Processes, new_organization

API = "/api/v1"


@pytest.fixture(scope="module")
def platform(shared_platform: Processes) -> Iterator[Platform]:
    """One organisation for all of these tests: its administrator asks, and hardly anything is written."""
    with new_organization(shared_platform) as made:
        yield made


def ask(
    platform: Platform, method: str, path: str, *headers: tuple[str, str], body: bytes = b"", user: str = "admin"
) -> tuple[int, Any, Any]:
    """Status, headers and JSON of one request whose headers go out as they are given, repeated ones too."""
    address = urlsplit(platform.server)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=30)
    try:
        connection.putrequest(method, f"{API}{path}")
        named = {name.lower() for name, _ in headers}
        given = [("Authorization", f"Bearer {platform.tokens[user]}"), ("Content-Type", "application/json")]
        given = [(name, value) for name, value in given if name.lower() not in named]
        for name, value in [*given, *headers, ("Content-Length", str(len(body)))]:
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, answer.headers, json.loads(text) if text else None
    finally:
        connection.close()


@pytest.mark.parametrize(
    "path", ["/workers?limt=5", "/roles?limit=5", "/event-types?filter=x", "/projects/support?state=sealed", "/storage/usage?x"]
)
def test_a_parameter_that_a_route_does_not_have_is_refused(platform: Platform, path: str) -> None:
    status, _, problem = ask(platform, "GET", path)
    assert (status, problem["code"]) == (422, "unknown_parameter")


def test_a_parameter_on_a_write_is_refused_before_anything_is_written(platform: Platform) -> None:
    body = json.dumps({"name": "dry-run"}).encode()
    status, _, problem = ask(platform, "POST", "/projects?dry_run=true", body=body)
    assert (status, problem["code"], problem["details"]["parameters"]) == (422, "unknown_parameter", [])
    assert ask(platform, "GET", "/projects/dry-run")[0] == 404


def test_a_token_among_the_parameters_is_refused_for_what_it_is(platform: Platform) -> None:
    status, _, problem = ask(platform, "GET", f"/roles?access_token={platform.tokens['admin']}")
    assert (status, problem["code"]) == (400, "token_in_url")


@pytest.mark.parametrize(
    "repeated",
    [
        ("Idempotency-Key", "first", "second"),
        ("Authorization", "Bearer one", "Bearer two"),
        ("Content-Type", "application/json", "text/plain"),
    ],
)
def test_of_two_values_none_is_believed(platform: Platform, repeated: tuple[str, str, str]) -> None:
    name, first, second = repeated
    status, _, problem = ask(platform, "POST", "/projects", (name, first), (name, second), body=b'{"name": "twice"}')
    assert (status, problem["code"], problem["details"]["header"]) == (400, "repeated_header", name.lower())
    assert ask(platform, "GET", "/projects/twice")[0] == 404


def test_a_compressed_body_is_refused_and_a_plain_one_called_identity_is_taken(platform: Platform) -> None:
    packed = gzip.compress(b'{"name": "packed"}')
    status, headers, problem = ask(platform, "POST", "/projects", ("Content-Encoding", "gzip"), body=packed)
    assert (status, problem["code"], headers["Accept-Encoding"]) == (415, "unsupported_content_encoding", "identity")
    assert ask(platform, "POST", "/projects", ("Content-Encoding", "identity"), body=b'{"name": "plain"}')[0] == 201


def test_a_slash_too_many_leads_nowhere(platform: Platform) -> None:
    status, headers, problem = ask(platform, "GET", "/projects/", ("Host", "elsewhere.example"))
    assert (status, problem["code"], headers["Location"]) == (404, "no_such_route", None)
