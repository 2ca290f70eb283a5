"""What an application answers when the database is away, and when nobody foresaw what happened."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import create_engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ringi.web import errors


def answers_to(error: Exception) -> TestClient:
    """A client of an application whose one route raises `error`."""
    app = FastAPI()
    errors.install(app)

    @app.get("/")
    def fail() -> None:
        raise error

    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    "error",
    [OperationalError("SELECT 1", {}, OSError("gone")), InterfaceError("SELECT 1", {}, OSError("closed")), PoolTimeout("none is free")],
)
def test_a_database_that_does_not_answer_is_unavailable_and_nothing_is_promised(error: Exception) -> None:
    answer = answers_to(error).get("/")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert "read the state first" in answer.json()["next_step"]
    assert answer.headers["Retry-After"] == "1"
    assert "SELECT" not in answer.text


def test_an_exhausted_pool_raises_what_is_answered_so() -> None:
    engine = create_engine("sqlite:///file::memory:?uri=true", pool_size=1, max_overflow=0, pool_timeout=0.01)
    with engine.connect(), pytest.raises(errors.DATABASE_AWAY):
        engine.connect()
    engine.dispose()


def test_an_unforeseen_error_is_answered_with_its_request_id() -> None:
    answer = answers_to(RuntimeError("unforeseen")).get("/")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["X-Request-Id"] == answer.json()["request_id"]
