"""Every route that changes something leaves an event when it succeeds, and every denial leaves one (governance G-B7)."""

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from audit.changes import BROWSERS, HUB_CHANGES_NOTHING, NO_STEP, make_every_change
from identity.matrix.asks import ROWS, Row
from identity.matrix.world import World, world
from ringi.api.app import API_PREFIX, create_app
from ringi.identity.denials import PER_MINUTE
from support.running_platform import Processes
from support.story import Ground

WRITES = {"POST", "PUT", "PATCH", "DELETE"}
# A secret that was never one of the platform's, or none at all, leaves nothing: anybody can send those without end.
KNOWN_SECRETS = ("expired", "revoked", "disabled")
# Nothing is there for anybody: no denial of a right.
NO_ROUTE = "/hf/{channel}/{anything:path}"


def events_of(processes: Processes) -> dict[str, list[dict[str, Any]]]:
    """Every entry that a request wrote, by the request's id."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with psycopg.connect(processes.urls.superuser_url.replace("+psycopg", "")) as connection:
        for (body,) in connection.execute("SELECT body FROM audit_event"):
            event = json.loads(body)
            request = event["request_id"] or (event["details"] or {}).get("request")
            if request:
                found[request].append(event)
    return found


def test_every_route_that_changes_something_leaves_an_event(ground: Ground) -> None:
    contexts = iter_route_contexts(create_app().routes)
    routes = {f"{method} {context.path}" for context in contexts for method in context.methods or () if method in WRITES}
    ours = {route.replace(API_PREFIX, "", 1) for route in routes if API_PREFIX in route}
    assert routes - {route.replace(" ", f" {API_PREFIX}", 1) for route in ours} == set(HUB_CHANGES_NOTHING) | set(BROWSERS)
    steps = make_every_change(ground)
    assert ours == {step.route for step in steps.done} | set(NO_STEP)
    assert not {step.route for step in steps.done} & set(NO_STEP)
    events = events_of(ground.platform.processes)
    told = {step.request_id: {(event["action"], event["outcome"]) for event in events[step.request_id]} for step in steps.done}
    assert [(step.route, told[step.request_id]) for step in steps.done if (step.action, "ok") not in told[step.request_id]] == []


@pytest.fixture(scope="module")
def gate(shared_platform: Processes) -> Iterator[tuple[Processes, World, HTTPConnection]]:
    engine = create_engine(shared_platform.urls.app_url)
    made = world(sessionmaker(engine, expire_on_commit=False), shared_platform.server)
    engine.dispose()
    connection = HTTPConnection(urlsplit(shared_platform.server).netloc, timeout=60)
    yield shared_platform, made, connection
    connection.close()


def asked(connection: HTTPConnection, made: World, row: Row, caller: str, *, address: str) -> tuple[int, str]:
    """Status and request id of a row's request. Each row comes from an address of its own: refused credentials are counted by address."""
    ask, secret = row.ask, made.secrets[caller]
    headers = dict(ask.headers) | ({"Authorization": f"Bearer {secret}"} if secret else {}) | {"X-Forwarded-For": address}
    body = None if ask.json is None else json.dumps(ask.json).encode()
    if body is not None:
        headers["Content-Type"] = "application/json"
    if ask.form is not None:
        body, headers["Content-Type"] = ask.form, "application/x-www-form-urlencoded"
    connection.request(row.method, made.path(row, caller), body=body, headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("X-Request-Id", "")


def test_every_denial_leaves_an_event(gate: tuple[Processes, World, HTTPConnection]) -> None:
    """One caller for every kind of refusal that a row of the matrix has."""
    processes, made, connection = gate
    sent = []
    for number, row in enumerate(ROWS):
        if NO_ROUTE in row.path:
            continue
        draw = random.Random(row.name)
        wanted = [[caller for caller in KNOWN_SECRETS if row.cells[caller] == "1"]]
        wanted += [[caller for caller, cell in row.cells.items() if cell == kind] for kind in "34"]
        for callers in filter(None, wanted):
            caller = draw.choice(callers)
            status, request = asked(connection, made, row, caller, address=f"10.7.{number // 250}.{number % 250 + 1}")
            assert str(status)[-1] == row.cells[caller], (row.name, caller, status)
            sent.append((row.name, caller, status, request))
    assert {status for _, _, status, _ in sent} == {401, 403, 404}
    events = events_of(processes)
    silent = [one for one in sent if "denied" not in {event["outcome"] for event in events[one[-1]]}]
    assert silent == []


def test_a_thing_that_is_not_there_in_a_project_that_one_sees_is_no_denial(gate: tuple[Processes, World, HTTPConnection]) -> None:
    processes, made, connection = gate
    token = made.secrets["viewer"]
    for path, denied in (("/projects/risk/adapters/無い", False), ("/projects/secret/adapters/bot", True), ("/projects/no-such", True)):
        connection.request("GET", f"/api/v1{path.replace('無い', 'none')}", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 404
        found = events_of(processes)[answer.getheader("X-Request-Id", "")]
        assert [event["outcome"] for event in found] == (["denied"] if denied else []), path
        # What was asked for by name stays out of the log: a name may be a person's.
        assert all(set(event["details"]) == {"code", "kind", "route"} for event in found)


def test_nobody_fills_the_log_with_denials(gate: tuple[Processes, World, HTTPConnection]) -> None:
    processes, made, connection = gate
    headers = {"Authorization": f"Bearer {made.secrets['ended']}"}
    requests = []
    for _ in range(PER_MINUTE + 40):
        connection.request("POST", "/api/v1/projects", body=b"{}", headers=headers | {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 403
        requests.append(answer.getheader("X-Request-Id", ""))
    events = events_of(processes)
    written = [event for request in requests for event in events[request]]
    # A minute's worth, and what the time of asking earned back; other tests may have used some of it.
    assert 10 <= len(written) <= PER_MINUTE + 20
    assert any(event["details"].get("last_of_minute") for event in written)
