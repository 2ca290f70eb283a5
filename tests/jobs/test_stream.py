"""Server-sent events of a running platform: everything once and in order, across restarts of the API and of the database."""

import signal
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from jobs.conftest import Rig
from jobs.events import Event, events_of, opened
from ringi.embedded import postgres
from ringi.identity.schemas import Role
from ringi.jobs.schemas import JobOut, JobState
from support.refusals import refused
from support.running_platform import PROJECT, start_api
from support.waiting import until

pytestmark = pytest.mark.long

PULSE_S = 1.0


@pytest.fixture(scope="module")
def rig(rig: Rig) -> Iterator[Rig]:
    """The rig of this folder with an API whose pulse is quick."""
    rig.processes.kill("api", signal.SIGTERM)
    start_api(rig.processes, RINGI_STREAM_PULSE_S=str(PULSE_S))
    yield rig
    rig.processes.kill("api", signal.SIGTERM)
    start_api(rig.processes)


def states(events: list[Event]) -> list[str]:
    return [one.data["state"] for one in events if one.kind == "state"]


def say(rig: Rig, job: UUID, *lines: str) -> None:
    """What a worker would write, one commit a line."""
    with rig.superuser() as database:
        for line in lines:
            database.execute(
                "INSERT INTO job_log (job_id, organization_id, project_id, attempt, kind, level, line, message)"
                " SELECT id, organization_id, project_id, 1, 'log', 20, (SELECT count(*) + 1 FROM job_log WHERE job_id = %s), %s FROM jobs WHERE id = %s",
                [job, line, job],
            )


def test_a_jobs_stream_tells_its_whole_story_and_ends(rig: Rig) -> None:
    rig.with_workers(1)
    _, job = rig.asked()
    events = events_of(rig.platform, job)
    assert states(events) == ["queued", "running", "succeeded"]
    assert (events[-1].kind, events[-1].data) == ("end", {"job": str(job), "state": "succeeded"})
    assert [one.data["message"] for one in events if one.kind == "log"] == ["reading", "preparing", "dividing", "sealing"]
    places = [one.id or 0 for one in events[:-1]]
    assert places == sorted(set(places)), "each place once, in order"
    running = next(one for one in events if one.data.get("state") == "running")
    assert running.data["lease_owner"].startswith("worker-")


def test_a_client_that_comes_back_gets_the_rest_and_then_hears_that_there_is_no_more(rig: Rig) -> None:
    rig.with_workers(1)
    _, job = rig.asked()
    whole = events_of(rig.platform, job)
    for cut in range(len(whole) - 2):  # the last two are the end, of state and of stream, at one place
        assert events_of(rig.platform, job, last=whole[cut].id) == whole[cut + 1 :]
    answer = rig.platform.call("contributor", "GET", f"/jobs/{job}/events", headers={"Last-Event-ID": str(whole[-1].id)})
    assert answer.status_code == 204


def test_a_project_is_followed_from_now_on_and_resumed_from_a_place(rig: Rig) -> None:
    rig.with_workers(1)
    _, before = rig.asked()
    rig.platform.succeeded(before)
    with opened(rig.platform, "contributor", f"/projects/{PROJECT}/jobs/events") as stream:
        assert next(stream) == ":", "a pulse: nothing has happened yet"
        _, job = rig.asked()
        seen: list[Event] = []
        while not seen or states(seen)[-1:] != ["succeeded"]:
            one = next(stream)
            if isinstance(one, Event):
                seen.append(one)
    assert {one.data["job"] for one in seen} == {str(job)}
    assert states(seen) == ["queued", "running", "succeeded"]
    assert all(one.kind != "log" for one in seen), "lines come where they are asked for"
    with opened(rig.platform, "contributor", "/jobs/events?level=info", last=seen[0].id) as stream:
        again: list[Event] = []
        while states(again)[-1:] != ["succeeded"]:
            one = next(stream)
            if isinstance(one, Event):
                again.append(one)
    assert states(again) == ["running", "succeeded"]
    assert any(one.kind == "log" for one in again)


def test_nothing_is_lost_and_nothing_comes_twice_when_the_api_is_killed(rig: Rig) -> None:
    rig.without_workers()
    _, job = rig.asked()
    said, last = [f"行{number}" for number in range(30)], None
    heard: list[str] = []
    for start in range(0, 30, 10):
        say(rig, job, *said[start : start + 5])
        with opened(rig.platform, "contributor", f"/jobs/{job}/events", last=last) as stream:
            say(rig, job, *said[start + 5 : start + 10])
            while heard[-1:] != [said[start + 8]]:  # the connection breaks before the last one is read
                one = next(stream)
                if isinstance(one, Event):
                    last = one.id
                    if one.kind == "log":
                        heard.append(one.data["message"])
            rig.processes.kill("api")
            start_api(rig.processes, RINGI_STREAM_PULSE_S=str(PULSE_S))
    assert rig.platform.as_("contributor").jobs.cancel(job).state is JobState.CANCELLED
    rest = events_of(rig.platform, job, last=last)
    heard += [one.data["message"] for one in rest if one.kind == "log"]
    assert heard == said
    assert states(rest) == ["cancelled"]


def test_an_open_stream_outlives_a_restart_of_the_database(rig: Rig) -> None:
    rig.without_workers()
    _, job = rig.asked()
    with opened(rig.platform, "contributor", f"/jobs/{job}/events") as stream:
        say(rig, job, "前")
        while not (isinstance(one := next(stream), Event) and one.kind == "log"):
            pass
        postgres.stop(rig.database.data_dir)
        assert next(stream) == ":", "the stream stays open without its database"
        postgres.start(rig.database.data_dir, durable=False)
        say(rig, job, "後", "最後")
        heard: list[str] = []
        while len(heard) < 2:
            one = next(stream)
            if isinstance(one, Event):
                heard.append(one.data["message"])
    assert heard == ["後", "最後"]


def test_the_server_ends_its_streams_when_it_is_asked_to_stop(rig: Rig) -> None:
    rig.without_workers()
    _, job = rig.asked()
    with opened(rig.platform, "contributor", f"/jobs/{job}/events") as stream:
        next(stream)
        process = rig.processes.running["api"]
        rig.processes.send("api", signal.SIGTERM)
        rest = list(stream)
        assert process.wait(timeout=10) in {0, -signal.SIGTERM}
    assert all(one == ":" for one in rest)
    start_api(rig.processes, RINGI_STREAM_PULSE_S=str(PULSE_S))


def test_a_revoked_token_ends_its_stream_and_no_other(rig: Rig) -> None:
    rig.without_workers()
    _, job = rig.asked()
    rig.platform.add_user(f"guest-{uuid4().hex[:6]}", Role.VIEWER)
    guest = list(rig.platform.tokens)[-1]
    with opened(rig.platform, guest, f"/jobs/{job}/events") as theirs, opened(rig.platform, "viewer", f"/jobs/{job}/events") as others:
        next(theirs)
        next(others)
        identity = rig.platform.as_(guest).identity
        (own,) = [one for one in identity.tokens() if one.revoked_at is None]
        identity.revoke_token(own.id)
        told = [one for one in theirs if isinstance(one, Event)]
        assert (told[-1].kind, told[-1].data["code"], told[-1].data["status"]) == ("refused", "unauthenticated", 401)
        assert told[-1].id == told[-2].id if len(told) > 1 else True
        say(rig, job, "続き")
        while not (isinstance(one := next(others), Event) and one.kind == "log"):
            pass


def test_a_lost_role_ends_the_stream_of_the_project(rig: Rig) -> None:
    rig.platform.add_user(f"leaver-{uuid4().hex[:6]}", Role.VIEWER)
    leaver = list(rig.platform.tokens)[-1]
    admin = rig.platform.as_("admin").identity
    with opened(rig.platform, leaver, f"/projects/{PROJECT}/jobs/events") as stream:
        (held,) = [one for one in admin.memberships() if one.user == leaver]
        admin.revoke_role(held.id)
        told = [one for one in stream if isinstance(one, Event)]
    assert told[-1].kind == "refused"
    assert told[-1].data["status"] in {403, 404}


def test_without_a_right_the_answer_is_an_ordinary_problem(rig: Rig) -> None:
    _, job = rig.asked()
    path = f"/jobs/{job}/events"
    assert rig.platform.call(None, "GET", path).json()["code"] == "unauthenticated"
    assert rig.platform.call("contributor", "GET", f"/jobs/{uuid4()}/events").json()["code"] == "not_found"
    assert rig.platform.call("contributor", "GET", "/projects/elsewhere/jobs/events").status_code == 404
    for wrong in ("-1", "abc", "1" * 30, str(2**60)):
        answer = rig.platform.call("contributor", "GET", path, headers={"Last-Event-ID": wrong})
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_event_id"), wrong
    assert rig.platform.call("contributor", "GET", f"{path}?level=loud").json()["code"] == "malformed_request"


def test_lines_are_paged_filtered_and_stable(rig: Rig) -> None:
    rig.without_workers()
    _, job = rig.asked()
    said = [f"行{number}" for number in range(7)]
    say(rig, job, *said)
    call = rig.platform.call
    first = call("viewer", "GET", f"/jobs/{job}/logs?limit=3").json()
    second = call("viewer", "GET", f"/jobs/{job}/logs?limit=3&cursor={first['next_cursor']}").json()
    third = call("viewer", "GET", f"/jobs/{job}/logs?limit=3&cursor={second['next_cursor']}").json()
    assert [one["message"] for page in (first, second, third) for one in page["items"]] == said
    assert third["next_cursor"] is None
    assert call("viewer", "GET", f"/jobs/{job}/logs?level=warning").json()["items"] == []
    assert call("viewer", "GET", f"/jobs/{job}/logs?attempt=2").json()["items"] == []
    behind = call("viewer", "GET", f"/jobs/{job}/logs?after={second['items'][-1]['id']}").json()
    assert [one["message"] for one in behind["items"]] == said[6:]
    _, other = rig.asked()
    wrong = call("viewer", "GET", f"/jobs/{other}/logs?cursor={first['next_cursor']}")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_cursor")


def test_the_clients_wait_and_lines_use_the_same_log(rig: Rig) -> None:
    rig.with_workers(1)
    _, job = rig.asked()
    client = rig.platform.as_("contributor")
    looks: list[JobOut] = []
    done = client.wait(job, looks.append, timeout_s=60)
    assert done.state is JobState.SUCCEEDED
    assert looks[-1].state is JobState.SUCCEEDED
    assert [line.message for line in client.jobs.lines(job)] == ["reading", "preparing", "dividing", "sealing"]
    with refused("not_found", 404):
        list(client.jobs.lines(uuid4()))


def test_streams_hold_one_connection_of_the_database(rig: Rig) -> None:
    rig.without_workers()
    _, job = rig.asked()

    def connections() -> int:
        with rig.superuser() as database:
            row = database.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'api-feed'").fetchone()
        assert row is not None
        return int(row[0])

    until(lambda: connections() == 0)
    with opened(rig.platform, "viewer", f"/jobs/{job}/events") as one, opened(rig.platform, "viewer", "/jobs/events") as two:
        next(one)
        next(two)
        assert connections() == 1
    until(lambda: connections() == 0)
