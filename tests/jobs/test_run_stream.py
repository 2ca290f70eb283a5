"""Streams of the session's platform: a run's is the one of its job, and a process serves no more of them than it may."""

from pathlib import Path

import httpx

from jobs.events import Event, events_of, opened
from support.own_api import small_api
from support.running_platform import PROJECT, Processes
from support.story import ADAPTER, Ground
from support.waiting import until


def test_the_stream_of_a_run_tells_the_same_as_the_stream_of_its_job(ground: Ground) -> None:
    platform = ground.platform
    run = list(platform.as_("viewer").training.all(PROJECT, ADAPTER))[-1]
    path = f"/projects/{PROJECT}/adapters/{{}}/runs/{run.id}/events"
    with opened(platform, "viewer", path.format(ADAPTER)) as stream:
        told = [one for one in stream if isinstance(one, Event)]
    assert told == events_of(platform, run.job_id, user="viewer")
    assert [one.data["state"] for one in told if one.kind == "state"] == ["queued", "running", "succeeded"]
    assert {"progress", "log"} < {one.kind for one in told}
    with opened(platform, "viewer", path.format(ADAPTER), last=told[1].id) as stream:
        assert [one for one in stream if isinstance(one, Event)] == told[2:]
    elsewhere = platform.call("viewer", "GET", path.format("another"))
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (404, "not_found")


def test_a_process_that_serves_as_many_streams_as_it_may_refuses_one_more_and_answers_everybody_else(
    shared_platform: Processes, tmp_path: Path
) -> None:
    with small_api(shared_platform, tmp_path / "api", RINGI_MAX_STREAMS="1") as platform:
        with opened(platform, "viewer", "/jobs/events") as stream:
            assert next(stream) == ":"
            refused = platform.call("reviewer", "GET", "/jobs/events")
            assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
            assert platform.call("reviewer", "GET", "/jobs").status_code == 200

        def admitted() -> bool:
            mine = {"Authorization": f"Bearer {platform.tokens['reviewer']}"}
            with httpx.stream("GET", f"{platform.server}/api/v1/jobs/events", headers=mine, timeout=30) as answer:
                return answer.status_code == 200

        until(admitted)
