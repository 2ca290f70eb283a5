"""What a job survives: the broker down or wiped, the database restarted, workers killed and paused, messages delivered many times."""

import shutil
import signal
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import httpx
import pytest
from celery import Celery

from jobs.conftest import Rig
from ringi.embedded import postgres, valkey
from ringi.jobs.schemas import JobState
from support.refusals import refused
from support.running_platform import PROJECT
from support.waiting import until

pytestmark = pytest.mark.long


def test_requests_succeed_while_the_broker_is_down_and_jobs_run_when_it_is_back(rig: Rig) -> None:
    rig.with_workers(1)
    valkey.stop(rig.valkey_folder)
    try:
        name, job = rig.asked()
        assert rig.job(job).state is JobState.QUEUED
        assert httpx.get(f"{rig.processes.server}/readyz").status_code == 200

        def tried() -> bool:
            with rig.superuser() as database:
                row = database.execute("SELECT last_error FROM outbox WHERE key = %s AND sent_at IS NULL", [str(job)]).fetchone()
            return row is not None and row[0] is not None

        until(tried)
    finally:
        valkey.start(rig.valkey_folder)
    rig.platform.succeeded(job)
    assert rig.versions(name) == [1]


def test_a_broker_that_forgot_everything_loses_no_job(rig: Rig) -> None:
    rig.without_workers()
    name, job = rig.asked()
    with rig.broker() as broker:
        until(lambda: broker.llen("cpu") == 1)
        broker.flushall()
        rig.with_workers(1)
    done = rig.platform.succeeded(job)
    assert (done.attempt, rig.versions(name)) == (1, [1])


def test_a_message_delivered_six_times_to_two_workers_runs_the_job_once(rig: Rig) -> None:
    rig.without_workers()
    name, job = rig.asked(rig.many_rows)
    with rig.broker() as broker, Celery(broker=rig.processes.broker_url) as sender:
        until(lambda: broker.llen("cpu") == 1)
        for _ in range(5):
            sender.send_task("ringi.run_job", args=[str(job)], queue="cpu")
        workers = rig.with_workers(2)
        done = rig.platform.succeeded(job)
        until(lambda: broker.llen("cpu") == 0)
    # All six where a worker looked by itself before its first message came.
    until(lambda: sum(rig.processes.log_of(worker).count(f"job {job}: nothing to claim") for worker in workers) >= 5)
    assert (done.attempt, rig.versions(name), rig.seals(job)) == (1, [1], 1)


def test_a_worker_killed_in_the_middle_is_replaced_and_one_version_appears(rig: Rig) -> None:
    rig.with_workers(2)
    name, job = rig.asked(rig.many_rows)
    rig.processes.kill(rig.running(job))
    done = rig.platform.succeeded(job)
    assert (done.attempt, rig.versions(name), rig.seals(job)) == (2, [1], 1)


def test_a_worker_that_wakes_after_its_lease_ran_out_is_refused(rig: Rig) -> None:
    rig.with_workers(2)
    name, job = rig.asked(rig.many_rows)
    sleeper = rig.running(job)
    rig.processes.send(sleeper, signal.SIGSTOP)
    try:
        done = rig.platform.succeeded(job)
    finally:
        rig.processes.send(sleeper, signal.SIGCONT)
    assert done.attempt == 2
    until(lambda: f"The lease on job {job} is lost" in rig.processes.log_of(sleeper), timeout_s=60)
    after = rig.job(job)
    assert (after.state, after.attempt, rig.versions(name), rig.seals(job)) == (JobState.SUCCEEDED, 2, [1], 1)


def test_the_database_restarts_in_the_middle_and_the_job_still_succeeds(rig: Rig) -> None:
    rig.with_workers(1)
    name, job = rig.asked(rig.many_rows)
    rig.running(job)
    postgres.stop(rig.database.data_dir)
    answer = rig.platform.call("contributor", "GET", "/whoami")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert httpx.get(f"{rig.processes.server}/readyz").status_code == 503
    postgres.start(rig.database.data_dir, durable=False)
    rig.platform.succeeded(job)
    assert (rig.versions(name), rig.seals(job)) == ([1], 1)


@pytest.fixture
def broken_work_folder(rig: Rig) -> Path:
    """The place where workers make their folders is a file: every attempt fails, as on a full or wrongly mounted disk."""
    rig.without_workers()
    work = rig.processes.data / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.write_text("")
    return work


class Failed(NamedTuple):
    """An attempt that failed, as the database tells it: why, the pause that was set, and the time to the next attempt."""

    code: str
    pause_s: float
    until_next_s: float


def failed_attempts(rig: Rig, job: UUID) -> list[Failed]:
    with rig.superuser() as database, database.transaction():
        # One snapshot for both questions: an attempt may fail between them.
        database.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        states = database.execute(
            "SELECT data ->> 'state', data -> 'error' ->> 'code', extract(epoch FROM lead(at) OVER (ORDER BY id) - at)::float"
            " FROM job_log WHERE job_id = %s AND kind = 'state' ORDER BY id",
            [job],
        ).fetchall()
        # A nudge is put with the pause; the first one had none.
        nudges = database.execute(
            "SELECT extract(epoch FROM not_before - created_at)::float FROM outbox"
            " WHERE topic = 'job.ready' AND key = %s AND not_before > created_at + interval '0.5 s' ORDER BY id",
            [str(job)],
        ).fetchall()
    again = [(code, until_next_s) for state, code, until_next_s in states if state == "queued" and code]
    return [Failed(code, pause_s, until_next_s or 0.0) for (code, until_next_s), (pause_s,) in zip(again, nudges, strict=True)]


def test_an_error_that_may_pass_is_tried_again_with_growing_pauses(rig: Rig, broken_work_folder: Path) -> None:
    rig.with_workers(1)
    name, job = rig.asked()
    until(lambda: len(failed_attempts(rig, job)) >= 2, timeout_s=60)
    broken_work_folder.unlink()
    done = rig.platform.succeeded(job)
    failed = failed_attempts(rig, job)
    assert (done.attempt, done.error, rig.versions(name)) == (len(failed) + 1, None, [1])
    assert {one.code for one in failed} == {"job_work_failed"}
    # 2 s and 4 s, each times 0.5 to 1.
    assert 1 <= failed[0].pause_s <= 2
    assert 2 <= failed[1].pause_s <= 4
    assert all(one.until_next_s >= one.pause_s - 0.1 for one in failed), "the next attempt waited for it"


def test_the_last_attempt_ends_the_job_with_its_error(rig: Rig, broken_work_folder: Path) -> None:
    rig.without_workers()
    name, job = rig.asked()
    with rig.superuser() as database:
        database.execute("UPDATE jobs SET attempt = max_attempts - 1 WHERE id = %s", [job])
    rig.with_workers(1)
    done = rig.platform.ended(job)
    broken_work_folder.unlink()
    assert done.error is not None
    assert (done.state, done.attempt, done.error.code) == (JobState.FAILED, done.max_attempts, "job_work_failed")
    assert rig.versions(name) == []
    again = rig.platform.as_("contributor").datasets.add_version(PROJECT, name, rig.few_rows)
    rig.platform.succeeded(again.job_id)


def test_a_job_that_kills_every_worker_is_given_up(rig: Rig) -> None:
    rig.without_workers()
    name, job = rig.asked(rig.many_rows)
    with rig.superuser() as database:
        database.execute("UPDATE jobs SET attempt = max_attempts - 1 WHERE id = %s", [job])
    rig.with_workers(1)
    rig.processes.kill(rig.running(job))
    done = rig.platform.ended(job)
    assert done.error is not None
    assert (done.state, done.error.code) == (JobState.FAILED, "worker_lost")
    assert rig.versions(name) == []


def test_a_queued_job_is_cancelled_at_once_and_never_runs(rig: Rig) -> None:
    rig.without_workers()
    name, job = rig.asked()
    contributor = rig.platform.as_("contributor")
    with refused("already_running", 409):
        contributor.datasets.add_version(PROJECT, name, rig.few_rows)
    with refused("forbidden", 403):
        rig.platform.as_("viewer").jobs.cancel(job)
    assert contributor.jobs.cancel(job).state is JobState.CANCELLED
    with refused("job_ended", 409):
        contributor.jobs.cancel(job)
    after = contributor.datasets.add_version(PROJECT, name, rig.few_rows)
    rig.with_workers(1)
    rig.platform.succeeded(after.job_id)
    assert (rig.job(job).state, rig.job(job).attempt, rig.seals(job), rig.versions(name)) == (JobState.CANCELLED, 0, 0, [1])


def test_a_running_job_of_a_silent_worker_is_cancelled_by_the_reaper(rig: Rig) -> None:
    rig.with_workers(1)
    name, job = rig.asked(rig.many_rows)
    rig.processes.kill(rig.running(job))
    asked = rig.platform.as_("contributor").jobs.cancel(job)
    assert asked.cancel_requested
    assert rig.platform.ended(job).state is JobState.CANCELLED
    assert rig.versions(name) == []
