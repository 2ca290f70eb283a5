"""`Idempotency-Key`: the same key gives the same answer and one execution, for its caller, for a day."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.orm import Session

from ringi.cli.client import RingiClient
from ringi.identity.schemas import Role
from ringi.web import idempotency
from support.at_once import every, in_background
from support.running_platform import PROJECT, SETUP_KEY, Platform
from support.waiting import until

DATASETS = f"/projects/{PROJECT}/datasets"


def key() -> str:
    return str(uuid4())


def post(platform: Platform, user: str, path: str, body: Any, with_key: str) -> httpx.Response:
    return platform.call(user, "POST", path, json=body, headers={"Idempotency-Key": with_key})


@contextmanager
def superuser(platform: Platform) -> Iterator[psycopg.Connection]:
    """What only tests may do: look into the table, hold locks, set its clock back."""
    url = make_url(platform.processes.urls.superuser_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        yield connection


def made(platform: Platform, action: str = "dataset.create") -> int:
    return len(platform.logged(action))


def test_the_same_key_gives_the_same_answer_and_makes_one_thing(platform: Platform) -> None:
    mine, body = key(), {"name": "faq", "description": "よくある質問"}
    first, again = (post(platform, "contributor", DATASETS, body, mine) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert (first.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")
    assert first.headers["X-Request-Id"] != again.headers["X-Request-Id"]
    assert made(platform) == 1


def test_quotes_around_a_key_do_not_make_it_another_one(platform: Platform) -> None:
    mine, body = key(), {"name": "faq"}
    post(platform, "contributor", DATASETS, body, mine)
    assert post(platform, "contributor", DATASETS, body, f'"{mine}"').headers["Idempotent-Replayed"] == "true"


def test_without_a_key_a_repeated_request_is_a_second_request(platform: Platform) -> None:
    answers = [platform.call("contributor", "POST", DATASETS, json={"name": "faq"}) for _ in range(2)]
    assert [one.status_code for one in answers] == [201, 409]


def test_a_key_used_for_another_request_is_refused_and_nothing_is_done(platform: Platform) -> None:
    mine = key()
    assert post(platform, "contributor", DATASETS, {"name": "one"}, mine).status_code == 201
    others = [
        post(platform, "contributor", DATASETS, {"name": "two"}, mine),
        post(platform, "contributor", f"{DATASETS}?x=1", {"name": "one"}, mine),
        post(platform, "contributor", f"{DATASETS}/one/versions", {"source": "sha256:" + "0" * 64}, mine),
    ]
    assert [(one.status_code, one.json()["code"]) for one in others] == [(422, "idempotency_key_reused")] * 3
    assert [one.name for one in platform.as_("contributor").datasets.all(PROJECT)] == ["one"]


def test_a_key_belongs_to_its_caller(platform: Platform) -> None:
    platform.add_user("second")
    platform.as_("admin").identity.grant_role("second", role=Role.CONTRIBUTOR, project=PROJECT)
    mine = key()
    assert post(platform, "contributor", DATASETS, {"name": "hers"}, mine).status_code == 201
    his = post(platform, "second", DATASETS, {"name": "his"}, mine)
    assert (his.status_code, his.json()["name"]) == (201, "his")


def test_another_token_of_the_same_caller_gets_the_same_answer(platform: Platform) -> None:
    mine, body = key(), {"name": "faq"}
    first = post(platform, "contributor", DATASETS, body, mine)
    platform.tokens["contributor"] = platform.as_("admin").identity.issue_token("contributor").token
    again = post(platform, "contributor", DATASETS, body, mine)
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")


def test_a_request_in_flight_keeps_its_twin_out_and_then_answers_for_both(platform: Platform) -> None:
    mine, body = key(), {"name": "slow"}
    with superuser(platform) as database:
        database.execute("LOCK TABLE datasets IN SHARE MODE")
        with in_background(lambda: post(platform, "contributor", DATASETS, body, mine)) as first:
            until(lambda: waiting(database, "datasets") == 1)
            twin = post(platform, "contributor", DATASETS, body, mine)
            assert (twin.status_code, twin.json()["code"], twin.headers["Retry-After"]) == (409, "idempotency_key_in_flight", "1")
            database.rollback()
            answer = first.result(timeout=60)
    assert answer.status_code == 201
    assert post(platform, "contributor", DATASETS, body, mine).content == answer.content
    assert made(platform) == 1


def waiting(database: psycopg.Connection, table: str) -> int:
    """How many sessions wait for a lock on the table."""
    row = database.execute("SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted", [table]).fetchone()
    return int(row[0]) if row else 0


def test_of_many_clients_with_one_key_at_once_one_executes(platform: Platform) -> None:
    mine, body = key(), {"name": "rush"}
    answers = every(12, lambda: post(platform, "contributor", DATASETS, body, mine))
    assert {one.status_code for one in answers} <= {201, 409}
    assert {one.json()["code"] for one in answers if one.status_code == 409} <= {"idempotency_key_in_flight"}
    bodies = {one.content for one in answers if one.status_code == 201}
    assert len(bodies) == 1
    assert post(platform, "contributor", DATASETS, body, mine).content == bodies.pop()
    assert made(platform) == 1


def test_a_refusal_by_the_domain_is_the_answer_to_its_key(platform: Platform) -> None:
    adapters, body, mine = f"/projects/{PROJECT}/adapters", {"name": "bot", "base": "tiny"}, key()
    first = post(platform, "contributor", adapters, body, mine)
    assert (first.status_code, first.json()["code"]) == (404, "not_found")
    platform.as_("admin").bases.create("tiny")
    again = post(platform, "contributor", adapters, body, mine)
    assert (again.status_code, again.content, again.headers["Idempotent-Replayed"]) == (404, first.content, "true")
    assert again.headers["content-type"] == "application/problem+json"
    assert post(platform, "contributor", adapters, body, key()).status_code == 201


def test_a_request_that_was_not_executed_leaves_its_key_free(platform: Platform) -> None:
    mine, body = key(), {"name": "late"}
    assert post(platform, "contributor", DATASETS, {"nonsense": 1}, mine).json()["code"] == "malformed_request"
    assert platform.call(None, "POST", DATASETS, json=body, headers={"Idempotency-Key": mine}).status_code == 401
    assert post(platform, "viewer", DATASETS, body, mine).status_code == 403
    admin = platform.as_("admin").identity
    granted = admin.grant_role("viewer", Role.CONTRIBUTOR, project=PROJECT)
    assert post(platform, "viewer", DATASETS, body, mine).status_code == 201
    admin.revoke_role(granted.id)
    # The answer is kept, but not for someone who may no longer ask.
    assert post(platform, "viewer", DATASETS, body, mine).status_code == 403
    assert post(platform, "contributor", DATASETS, {"name": "early"}, mine).status_code == 201


@pytest.mark.parametrize("bad", ["", "a b", "x" * 256, "鍵".encode().decode("latin-1")])
def test_what_cannot_be_a_key_is_refused(platform: Platform, bad: str) -> None:
    answer = platform.call("contributor", "POST", DATASETS, json={"name": "x"}, headers={"Idempotency-Key": bad.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")
    assert made(platform) == 0


def test_a_secret_is_repeated_to_its_token_alone_and_lies_nowhere_in_the_database(platform: Platform) -> None:
    mine, body = key(), {"name": "deploy"}
    first = post(platform, "admin", "/users/deployer/tokens", body, mine)
    secret = first.json()["token"]
    again = post(platform, "admin", "/users/deployer/tokens", body, mine)
    assert (again.status_code, again.json()["token"], again.headers["Idempotent-Replayed"]) == (201, secret, "true")
    with superuser(platform) as database:
        rows = database.execute("SELECT sealed, body FROM idempotency_keys WHERE key = %s", [mine]).fetchall()
    ((sealed, kept),) = rows
    assert sealed
    assert secret.encode() not in kept
    assert b"deploy" not in kept
    platform.tokens["admin"] = platform.as_("admin").identity.issue_token("admin").token
    other = post(platform, "admin", "/users/deployer/tokens", body, mine)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_other_token")
    assert len([one for one in platform.as_("admin").identity.tokens() if one.name == "deploy"]) == 1


def test_an_organisation_is_created_once_for_a_key_of_the_setup_key(platform: Platform) -> None:
    body, mine = {"name": f"org-{uuid4().hex[:8]}", "admin": "root"}, key()
    headers = {"Authorization": f"Bearer {SETUP_KEY}", "Idempotency-Key": mine}
    first, again = (httpx.post(f"{platform.server}/api/v1/organizations", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    with RingiClient(platform.server, again.json()["token"]["token"]) as client:
        assert client.identity.whoami().name == "root"


def test_a_key_ends_after_a_day_of_the_databases_clock(platform: Platform) -> None:
    mine, body = key(), {"name": "faq"}
    assert post(platform, "contributor", DATASETS, body, mine).status_code == 201
    with superuser(platform) as database:
        age = "UPDATE idempotency_keys SET created_at = clock_timestamp() - interval '%s' WHERE key = %%s"
        database.execute(age % "23 hours 59 minutes", [mine])
        database.commit()
        assert post(platform, "contributor", DATASETS, body, mine).headers["Idempotent-Replayed"] == "true"
        database.execute(age % "24 hours 1 second", [mine])
        database.commit()
    # Not yet purged, or purged a moment ago: a new request either way.
    new = post(platform, "contributor", DATASETS, {"name": "other"}, mine)
    assert (new.status_code, new.headers.get("Idempotent-Replayed")) == (201, None)
    assert post(platform, "contributor", DATASETS, {"name": "other"}, mine).content == new.content


def test_housekeeping_removes_what_is_older_than_a_day_and_nothing_else(platform: Platform) -> None:
    old, young = key(), key()
    for mine in (old, young):
        post(platform, "contributor", DATASETS, {"name": f"d{mine[:8]}"}, mine)
    with superuser(platform) as database:
        database.execute("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours' WHERE key = %s", [old])
        database.commit()
    engine = create_engine(platform.processes.urls.app_url)
    with Session(engine) as session:
        idempotency.purge(session)
        session.commit()
    engine.dispose()
    with superuser(platform) as database:
        left = database.execute("SELECT key FROM idempotency_keys WHERE key IN (%s, %s)", [old, young]).fetchall()
    assert left == [(young,)]


def test_the_relay_purges_by_itself(platform: Platform) -> None:
    mine = key()
    post(platform, "contributor", DATASETS, {"name": "faq"}, mine)
    with superuser(platform) as database:
        database.execute("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours' WHERE key = %s", [mine])
        database.commit()
        count = "SELECT count(*) FROM idempotency_keys WHERE key = %s"
        until(lambda: database.execute(count, [mine]).fetchone() == (0,))


def test_an_upload_takes_a_key_and_is_the_same_upload_by_its_bytes(platform: Platform) -> None:
    content, mine = "内容".encode() * 1000, key()
    headers = {"Idempotency-Key": mine}
    answers = [platform.call("contributor", "POST", "/uploads", content=content, headers=headers) for _ in range(2)]
    assert [one.status_code for one in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert made(platform, "upload.store") == 1


def test_ending_something_takes_a_key_too(platform: Platform) -> None:
    admin = platform.as_("admin").identity
    token = admin.issue_token("viewer").details
    mine = {"Idempotency-Key": key()}
    first, again = (platform.call("admin", "DELETE", f"/tokens/{token.id}", headers=mine) for _ in range(2))
    assert (first.status_code, again.status_code, again.content) == (200, 200, first.content)
    assert platform.call("admin", "DELETE", f"/tokens/{token.id}", headers={"Idempotency-Key": key()}).json()["code"] == "token_revoked"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/uploads"), ("POST", "/uploads/sessions/0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e/finish")]
)
def test_what_is_no_key_is_refused_also_where_none_is_needed(platform: Platform, method: str, path: str) -> None:
    answer = platform.call("contributor", method, path, content=b"bytes", headers={"Idempotency-Key": "x" * 256})
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")


@pytest.mark.parametrize("size", [False, "12", 1.5])
def test_a_number_of_a_body_is_a_number(platform: Platform, size: object) -> None:
    answer = platform.call("contributor", "POST", "/uploads/sessions", json={"digest": "sha256:" + "0" * 64, "size": size})
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")
