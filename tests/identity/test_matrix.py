"""Every route against every kind of caller, over HTTP: the table is written by hand (matrix/table.py), and the platform must be as it says.

`make test` draws some callers for each row, the same ones every time; `make proof` asks for every cell.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from identity.matrix.asks import ROWS, Row
from identity.matrix.table import CALLERS
from identity.matrix.world import World, world
from ringi.api.app import create_app
from support.running_platform import Processes

CALLERS_OF_A_ROW = 5
_CELLS = {401: "1", 403: "3", 404: "4"}
rows = pytest.mark.parametrize("row", ROWS, ids=str)


class Answer(NamedTuple):
    """What a caller got."""

    status: int
    body: str

    @property
    def cell(self) -> str:
        """As the table writes it; an error of the server is no cell."""
        return _CELLS.get(self.status, "+" if self.status < 500 else "5")


@dataclass(frozen=True)
class Gate:
    """One connection that every caller uses in turn: what the server keeps of the one before must not reach the next."""

    connection: HTTPConnection
    world: World

    def ask(self, row: Row, caller: str) -> Answer:
        """Send the row's request as a caller."""
        ask, secret = row.ask, self.world.secrets[caller]
        headers = dict(ask.headers) | ({"Authorization": f"Bearer {secret}"} if secret else {})
        body = None if ask.json is None else json.dumps(ask.json).encode()
        if body is not None:
            headers["Content-Type"] = "application/json"
        if ask.form is not None:
            body, headers["Content-Type"] = ask.form, "application/x-www-form-urlencoded"
        self.connection.request(row.method, self.world.path(row, caller), body=body, headers=headers)
        answer = self.connection.getresponse()
        if answer.getheader("Content-Type", "").startswith("text/event-stream"):
            # It has no end: whoever is let in has seen enough.
            self.connection.close()
            return Answer(answer.status, "")
        return Answer(answer.status, answer.read().decode("utf-8", "replace"))


@pytest.fixture(scope="module")
def gate(shared_platform: Processes) -> Iterator[Gate]:
    engine = create_engine(shared_platform.urls.app_url)
    made = world(sessionmaker(engine, expire_on_commit=False), shared_platform.server)
    engine.dispose()
    connection = HTTPConnection(urlsplit(shared_platform.server).netloc, timeout=60)
    yield Gate(connection, made)
    connection.close()


def unexpected(gate: Gate, row: Row, callers: list[str]) -> list[str]:
    """The cells of these callers that are not as the table says, or that tell of what they refuse."""
    found = []
    for caller in callers:
        answer, path = gate.ask(row, caller), gate.world.path(row, caller)
        if answer.cell != row.cells[caller]:
            found.append(f"{caller}: {row.cells[caller]} expected, {answer.status} came: {answer.body[:300]}")
        told = {one for one in gate.world.ids() if one in answer.body and one not in path}
        if answer.cell in {"1", "3", "4"} and told:
            found.append(f"{caller}: {answer.status} tells the ids {sorted(told)}")
    return found


def test_the_table_has_a_row_for_every_route_and_a_route_for_every_row() -> None:
    contexts = list(iter_route_contexts(create_app().routes))
    routes = {f"{method} {context.path}" for context in contexts for method in context.methods or {"GET"}}
    assert {row.route for row in ROWS} == routes
    assert len({row.name for row in ROWS}) == len(ROWS)


@rows
def test_a_route_lets_in_whom_the_table_lets_in(gate: Gate, row: Row) -> None:
    callers = random.Random(row.name).sample(CALLERS, CALLERS_OF_A_ROW)
    # At least one who passes, where anybody does: otherwise a route that refuses everybody would look well.
    passing = [caller for caller in CALLERS if row.cells[caller] == "+"]
    if passing and not set(passing) & set(callers):
        callers.append(random.Random(row.name).choice(passing))
    assert unexpected(gate, row, callers) == []


@pytest.mark.proof
@rows
def test_every_cell_of_the_table(gate: Gate, row: Row) -> None:
    assert unexpected(gate, row, list(CALLERS)) == []
