"""One attempt in this process: however the work or its domain ends, the job ends with a reason. And what the outbox does with its rows."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from ringi.db.session import get_engine, get_sessionmaker, transaction
from ringi.events import outbox
from ringi.events.models import OutboxMessage
from ringi.events.schemas import Topic
from ringi.identity.models import Organization
from ringi.jobs import service as jobs
from ringi.jobs.contracts import JobKind, Progress, SplitSpec, ValidateDatasetPayload
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.kit.actor import Actor, ActorKind
from ringi.settings import get_settings
from ringi.storage.blobs import get_store
from ringi_workers import runtime
from ringi_workers.following import JobSink
from ringi_workers.workspace import Workspace
from support.postgres import DatabaseUrls
from support.waiting import until

PAYLOAD = ValidateDatasetPayload(
    dataset_id=UUID(int=1), version_name="rows:v1", source=f"sha256:{'0' * 64}", split=SplitSpec(validation_fraction=0.1, seed=1)
)
# Any contract will do as a result: the domain of these tests keeps nothing of it.
RESULT = PAYLOAD


@pytest.fixture(autouse=True)
def this_process(database: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is a worker of a platform of its own."""
    caches = (get_settings, get_engine, get_sessionmaker, get_store)
    for name, value in {"DATABASE_URL": database.app_url, "DATA_DIR": str(tmp_path), "HEARTBEAT_S": "0.2"}.items():
        monkeypatch.setenv(f"RINGI_{name}", value)
    for cached in caches:
        cached.cache_clear()
    yield
    get_engine().dispose()
    for cached in caches:
        cached.cache_clear()


def asked(**changes: Any) -> UUID:
    """A queued job of a new organisation."""
    with transaction() as session:
        organization = Organization(name=uuid4().hex)
        session.add(organization)
        session.flush()
        actor = Actor(ActorKind.USER, uuid4(), "hana", organization.id)
        job = jobs.enqueue(session, actor, JobKind.VALIDATE_DATASET, PAYLOAD, subject="rows:v1", project_id=None)
        for name, value in changes.items():
            setattr(job, name, value)
        return job.id


def seen(job_id: UUID) -> Job:
    with transaction() as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()


def error_of(job_id: UUID) -> dict[str, Any]:
    error = seen(job_id).error
    assert error is not None
    return error


def kept(_session: Session, _job: Job, _result: Any) -> None:
    """A domain that is content."""


def worked(_payload: Any, _workspace: Workspace, _sink: JobSink) -> Any:
    return RESULT


def broken(_session: Session, _job: Job, _result: Any = None) -> None:
    raise KeyError("a defect of the domain")


@pytest.mark.parametrize(("attempt", "state"), [(0, JobState.QUEUED), (4, JobState.FAILED)])
def test_a_domain_that_fails_unforeseen_ends_the_attempt(attempt: int, state: JobState) -> None:
    runtime.job(JobKind.VALIDATE_DATASET, finish=broken, failed=broken)(worked)
    job_id = asked(attempt=attempt)
    runtime.run(job_id)
    assert (seen(job_id).state, seen(job_id).attempt, seen(job_id).result) == (state, attempt + 1, None)
    assert error_of(job_id)["code"] == "job_work_failed"
    assert "a defect of the domain" in error_of(job_id)["message"]


def test_a_payload_that_this_worker_cannot_read_ends_the_attempt() -> None:
    runtime.job(JobKind.VALIDATE_DATASET, finish=kept)(worked)
    job_id = asked(payload={"schema_version": 2})
    runtime.run(job_id)
    assert (seen(job_id).state, error_of(job_id)["code"]) == (JobState.QUEUED, "job_work_failed")


def test_a_cancelled_job_ends_at_its_next_phase() -> None:
    phases = []

    def long_work(_payload: Any, _workspace: Workspace, sink: JobSink) -> Any:
        sink.report(Progress(phase="fetching"))
        phases.append("fetching")
        with transaction() as session:
            session.execute(update(Job).where(Job.id == sink.job.id).values(cancel_requested_at=func.clock_timestamp()))
        until(sink.should_stop)
        sink.report(Progress(phase="hashing"))
        phases.append("hashing")
        return RESULT

    runtime.job(JobKind.VALIDATE_DATASET, finish=kept)(long_work)
    job_id = asked()
    runtime.run(job_id)
    assert (seen(job_id).state, phases) == (JobState.CANCELLED, ["fetching"])


def test_work_that_hangs_past_its_time_limit_fails_and_is_not_tried_again() -> None:
    runtime.job(JobKind.VALIDATE_DATASET, finish=kept)(worked)
    job_id = asked()
    with transaction() as session:
        claimed = jobs.claim(session, job_id, owner=runtime.lease_owner(), lease_s=60)
    assert claimed is not None
    with runtime.Lease(claimed, time_limit_s=0):
        # The work of this test does nothing but wait, and asks nobody whether it should stop.
        until(lambda: seen(job_id).state != JobState.RUNNING)
    assert (seen(job_id).state, error_of(job_id)["code"]) == (JobState.FAILED, "job_time_limit")


def test_a_worker_that_lost_its_database_for_a_while_still_reports() -> None:
    lost = iter([True, False])

    def finish(session: Session, _job: Job, _result: Any) -> None:
        if next(lost):
            session.connection().exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    runtime.job(JobKind.VALIDATE_DATASET, finish=finish)(worked)
    job_id = asked()
    runtime.run(job_id)
    assert (seen(job_id).state, seen(job_id).attempt) == (JobState.SUCCEEDED, 1)


def put(count: int) -> None:
    with transaction() as session:
        for number in range(count):
            outbox.put(session, Topic.JOB_READY, key=str(number), payload={"queue": "cpu"})


def delivered(send: Callable[[OutboxMessage], None]) -> int:
    with transaction() as session:
        return outbox.deliver_due(session, send)


def test_a_broker_that_is_away_is_tried_once_a_batch() -> None:
    tried = []

    def send(message: OutboxMessage) -> None:
        tried.append(message.key)
        if len(tried) > 1:
            raise ConnectionError("away")

    put(4)
    assert delivered(send) == 1
    assert tried == ["0", "1"]
    with transaction() as session:
        rows = session.scalars(select(OutboxMessage).order_by(OutboxMessage.id)).all()
    assert [(row.attempts, row.sent_at is not None, row.last_error) for row in rows] == [
        (1, True, None), (1, False, "ConnectionError: away"), (0, False, None), (0, False, None),
    ]  # fmt: skip


def test_only_messages_that_went_out_long_ago_are_removed() -> None:
    put(3)
    with transaction() as session:
        long_ago = func.clock_timestamp() - timedelta(hours=25)
        session.execute(update(OutboxMessage).values(created_at=long_ago, not_before=long_ago))
        session.execute(update(OutboxMessage).where(OutboxMessage.key == "0").values(sent_at=long_ago))
        session.execute(update(OutboxMessage).where(OutboxMessage.key == "1").values(sent_at=func.clock_timestamp()))
    with transaction() as session:
        assert outbox.purge(session, sent_before=timedelta(days=1)) == 1
    with transaction() as session:
        assert set(session.scalars(select(OutboxMessage.key))) == {"1", "2"}
