"""What a job's attempts write, in this process as a worker: kept once, in order, bounded, by level and attempt, and cleared away."""

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text, update

from ringi.db.session import get_sessionmaker, transaction
from ringi.identity.models import Organization
from ringi.jobs import log as job_log
from ringi.jobs import service as jobs
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.models import Job, JobLogEntry
from ringi.jobs.schemas import EntryKind, JobState, Level
from ringi.kit.actor import Actor, ActorKind
from ringi.kit.errors import RingiError
from ringi_workers import joblog, runtime
from ringi_workers.following import JobSink
from ringi_workers.workspace import Workspace
from support.this_worker import RESULT, asked, kept, seen, this_process
from support.waiting import until

__all__ = ["this_process"]
talk = logging.getLogger("ringi.test")


@pytest.fixture(autouse=True)
def talkative() -> Iterator[None]:
    """As a worker's command line sets it."""
    talk.parent.setLevel(logging.DEBUG)  # type: ignore[union-attr]  # every logger but the root has one
    yield
    talk.parent.setLevel(logging.NOTSET)  # type: ignore[union-attr]


def worked(say: Callable[[JobSink], None], **changes: Any) -> UUID:
    """A job whose work is `say`, after one attempt."""

    def work(_payload: Any, _workspace: Workspace, sink: JobSink) -> Any:
        say(sink)
        return RESULT

    runtime.job(JobKind.VALIDATE_DATASET, finish=kept)(work)
    job_id = asked(**changes)
    runtime.run(job_id)
    return job_id


def entries(job_id: UUID) -> list[JobLogEntry]:
    with transaction() as session:
        return list(session.scalars(select(JobLogEntry).where(JobLogEntry.job_id == job_id).order_by(JobLogEntry.position)))


def lines(job_id: UUID, level: Level = Level.DEBUG, **only: Any) -> list[str]:
    with transaction() as session:
        job = session.scalars(select(Job).where(Job.id == job_id)).one()
        reader = Actor(ActorKind.USER, uuid4(), "hana", job.organization_id)
        return [row.message or "" for row in session.scalars(job_log.lines_of(reader, job, level=level, **only))]


def test_what_the_work_says_stands_between_its_start_and_its_end() -> None:
    def say(sink: JobSink) -> None:
        sink.report(Progress(phase="読み込み"))
        talk.warning("%d行を飛ばしました", 3)
        talk.debug("details")
        logging.getLogger("celery.worker").warning("talk of the process")

    job_id = worked(say)
    told = [(one.kind, one.message or (one.data or {})["state"]) for one in entries(job_id) if one.kind != EntryKind.PROGRESS]
    assert told[:2] == [(EntryKind.STATE, "queued"), (EntryKind.STATE, "running")]
    assert told[-1] == (EntryKind.STATE, "succeeded")
    assert [message for kind, message in told if kind == EntryKind.LOG] == ["読み込み", "3行を飛ばしました", "details"]
    assert lines(job_id, Level.INFO) == ["読み込み", "3行を飛ばしました"]
    assert lines(job_id, Level.ERROR) == []


def test_every_attempt_is_told_apart_and_the_failure_is_in_the_log() -> None:
    def say(sink: JobSink) -> None:
        talk.info("attempt %d", sink.job.attempt)
        raise KeyError("欠陥")

    job_id = worked(say)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=func.clock_timestamp()))
    runtime.run(job_id)
    assert seen(job_id).state == JobState.QUEUED
    assert lines(job_id, Level.INFO, attempt=1)[0] == "attempt 1"
    assert lines(job_id, Level.INFO, attempt=2)[0] == "attempt 2"
    (failure,) = lines(job_id, Level.ERROR, attempt=2)
    assert "Traceback" in failure
    assert "KeyError: '欠陥'" in failure


class DeviceGone(RingiError):
    """What an attempt may end with, to be tried again."""

    code, status, retryable = "device_gone", 500, True


def test_why_an_attempt_has_to_be_made_again_is_in_the_log_though_the_next_one_succeeds() -> None:
    def say(sink: JobSink) -> None:
        if sink.job.attempt == 1:
            raise DeviceGone("装置が応答しません", next_step="It is tried again.")

    job_id = worked(say)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=func.clock_timestamp()))
    runtime.run(job_id)
    assert seen(job_id).state == JobState.SUCCEEDED
    assert lines(job_id, Level.WARNING) == ["attempt 1 ended with: 装置が応答しません [device_gone]"]


def test_places_are_those_of_the_commits_and_not_of_the_writing() -> None:
    first, second = asked(), asked()
    with get_sessionmaker()() as slow, get_sessionmaker()() as quick:
        for session, job_id in ((slow, first), (quick, second)):
            session.execute(update(Job).where(Job.id == job_id).values(cancel_requested_at=func.clock_timestamp()))
        quick.commit()
        with transaction() as session:
            seen_so_far = job_log.newest(session)
        slow.commit()
    assert entries(second)[-1].position == seen_so_far
    assert (entries(first)[-1].position or 0) > seen_so_far
    assert entries(first)[-1].id < entries(second)[-1].id


def test_commits_at_once_show_a_reader_no_place_below_one_that_it_has_seen() -> None:
    mine, read, stop = [asked() for _ in range(4)], [], threading.Event()

    def write(job_id: UUID) -> None:
        for step in range(25):
            with transaction() as session:
                session.execute(update(Job).where(Job.id == job_id).values(attempt=step + 1))

    def look() -> None:
        after = 0
        while True:
            over = stop.is_set()
            with transaction() as session:
                for entry in job_log.read(session, after=after, sight=None, limit=50):
                    after = entry.position or 0
                    read.append((entry.job_id, entry.attempt))
            if over:
                return

    # thread: writers and a reader of their own connections, at the same time.
    writers, reader = [threading.Thread(target=write, args=[one]) for one in mine], threading.Thread(target=look)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    for job_id in mine:
        assert [attempt for job, attempt in read if job == job_id] == [0, *range(1, 26)]


def test_lines_that_arrived_before_the_connection_broke_are_not_there_twice() -> None:
    job_id = asked()
    with transaction() as session:
        claimed = jobs.claim(session, job_id, owner="me", lease_s=60)
    assert claimed is not None
    for _ in range(2):
        with transaction() as session:
            job_log.write(session, claimed, [job_log.Line(1, 20, "once", 0.0), job_log.Line(2, 20, "only", 0.0)])
    assert lines(job_id) == ["once", "only"]


def test_a_worker_that_lost_its_lease_writes_nothing_more() -> None:
    def say(sink: JobSink) -> None:
        with transaction() as session:
            session.execute(update(Job).where(Job.id == sink.job.id).values(lease_owner="another"))
        talk.info("from beyond")

    job_id = worked(say)
    assert "from beyond" not in lines(job_id)
    assert seen(job_id).state == JobState.RUNNING


def test_the_clock_of_the_worker_does_not_date_its_lines() -> None:
    job_id = asked()
    with transaction() as session:
        claimed = jobs.claim(session, job_id, owner="me", lease_s=60)
        assert claimed is not None
        job_log.write(session, claimed, [job_log.Line(1, 20, "a minute ago", 60.0)])
        (age_s,) = session.execute(text("SELECT extract(epoch FROM clock_timestamp() - at) FROM job_log WHERE kind = 'log'")).one()
    assert 60 <= age_s < 90


def test_of_progress_the_newest_stays() -> None:
    job_id = asked()
    for step in range(3):
        with transaction() as session:
            session.execute(update(Job).where(Job.id == job_id).values(progress={"phase": "training", "step": step}))
    found = [one.data for one in entries(job_id) if one.kind == EntryKind.PROGRESS]
    assert found == [{"phase": "training", "step": 2}]


def test_a_flood_is_bounded_in_memory_and_says_what_it_lost() -> None:
    log = joblog.JobLog()
    with log:
        for number in range(joblog.HELD_LINES + 10):
            talk.info("line %d", number)
        told: list[str] = []
        while True:
            with log.handing_over() as handed:
                told += [line.message for line in handed]
            if not handed:
                break
    assert told[0] == "line 10"
    assert told[-1].startswith("10 lines were left out")
    assert len(told) == joblog.HELD_LINES + 1


def test_lines_that_could_not_be_stored_are_handed_over_again() -> None:
    log = joblog.JobLog()
    with log:
        talk.info("kept")
    with pytest.raises(OSError, match="away"), log.handing_over():
        raise OSError("away")
    with log.handing_over() as handed:
        assert [line.message for line in handed] == ["kept"]
    with log.handing_over() as handed:
        assert handed == []


def test_of_very_many_lines_the_newest_stay() -> None:
    job_id = asked()
    with transaction() as session:
        claimed = jobs.claim(session, job_id, owner="me", lease_s=60)
    assert claimed is not None
    with transaction() as session:
        session.execute(
            text(
                "INSERT INTO job_log (job_id, organization_id, attempt, kind, level, line, message)"
                " SELECT :job, :organization, 1, 'log', 20, n, 'line ' || n FROM generate_series(1, :count) n"
            ),
            {"job": job_id, "organization": claimed.organization_id, "count": job_log.KEPT_LINES + 7},
        )
    with transaction() as session:
        job_log.trim(session, job_id)
    left = lines(job_id)
    assert (len(left), left[0]) == (job_log.KEPT_LINES, "line 8")


def test_the_log_of_a_job_goes_some_time_after_its_end() -> None:
    old, new, running = worked(lambda _sink: talk.info("x")), worked(lambda _sink: talk.info("x")), asked()
    with transaction() as session:
        session.execute(update(Job).where(Job.id == old).values(finished_at=func.clock_timestamp() - timedelta(days=31)))
        assert job_log.purge(session, ended_before=timedelta(days=30)).removed > 0
    assert (entries(old), bool(entries(new)), bool(entries(running))) == ([], True, True)


def test_another_organisation_reads_no_line() -> None:
    job_id = worked(lambda _sink: talk.info("ours"))
    with transaction() as session:
        other = Organization(name=uuid4().hex)
        session.add(other)
        session.flush()
        stranger = Actor(ActorKind.USER, uuid4(), "eve", other.id)
        assert session.scalars(job_log.lines_of(stranger, seen(job_id), level=Level.DEBUG)).all() == []


def test_own_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ringi.settings import get_settings

    monkeypatch.setenv("RINGI_SETUP_KEY", "the-key-of-this-house")
    get_settings.cache_clear()
    joblog.own_secrets.cache_clear()
    job_id = worked(lambda _sink: talk.info("started with the-key-of-this-house in %s", tmp_path))
    joblog.own_secrets.cache_clear()
    assert "the-key-of-this-house" not in lines(job_id)[0]
    until(lambda: "[hidden]" in lines(job_id)[0])
