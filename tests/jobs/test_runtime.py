"""One attempt in this process: however the work or its domain ends, the job ends with a reason. And what the outbox does with its rows."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
import torch
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.generations import AuditOriginDiffers
from ringi.audit.models import AuditStop
from ringi.audit.schemas import AuditAction
from ringi.db.session import transaction
from ringi.events import outbox
from ringi.events.models import OutboxMessage
from ringi.events.schemas import Topic
from ringi.jobs import service as jobs
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.kit.actor import system_actor
from ringi.settings import get_settings
from ringi_workers import runtime
from ringi_workers.following import JobSink
from ringi_workers.workspace import Workspace
from support.postgres import DatabaseUrls
from support.this_worker import RESULT, asked, kept, seen, this_process
from support.waiting import until

__all__ = ["this_process"]


def error_of(job_id: UUID) -> dict[str, Any]:
    error = seen(job_id).error
    assert error is not None
    return error


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


def note_a_seal(session: Session, found: Job, _result: Any) -> None:
    audit.record(session, system_actor("worker"), AuditAction.DATASET_VERSION_SEAL, object_type="dataset_version", object_id=found.id)


def test_a_last_attempt_whose_result_is_refused_because_the_platform_is_read_only_waits_until_the_mode_ends(database: DatabaseUrls) -> None:
    def stopped_meanwhile(*_: Any) -> Any:
        with transaction() as session:
            session.execute(insert(AuditStop).values(origin="o", code="log_shortened", message="項目が欠けている"))
        return RESULT

    runtime.job(JobKind.VALIDATE_DATASET, finish=note_a_seal)(stopped_meanwhile)
    job_id = asked(attempt=4)
    runtime.run(job_id)
    assert (seen(job_id).state, seen(job_id).attempt, error_of(job_id)["code"]) == (JobState.QUEUED, 5, "audit_read_only")
    runtime.job(JobKind.VALIDATE_DATASET, finish=note_a_seal)(worked)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=func.clock_timestamp()))
    runtime.run(job_id)
    assert (seen(job_id).state, seen(job_id).attempt) == (JobState.QUEUED, 5)
    with psycopg.connect(database.owner_url.replace("+psycopg", "")) as owner:
        owner.execute("UPDATE audit_stop SET ended_at = now()")
    runtime.run(job_id)
    assert (seen(job_id).state, seen(job_id).attempt) == (JobState.SUCCEEDED, 6)


def test_a_worker_that_has_the_name_of_a_log_that_has_ended_loses_no_job_and_takes_none(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "ringi.example/監査/2"

    def succeeded_meanwhile(*_: Any) -> Any:
        with psycopg.connect(database.owner_url.replace("+psycopg", "")) as owner:
            owner.execute("INSERT INTO audit_origin (generation, origin, vkey) VALUES (1, %s, 'v')", (other,))
        return RESULT

    runtime.job(JobKind.VALIDATE_DATASET, finish=note_a_seal)(succeeded_meanwhile)
    job_id = asked(attempt=4)
    runtime.run(job_id)
    assert (seen(job_id).state, error_of(job_id)["code"]) == (JobState.QUEUED, "audit_origin_differs")
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=func.clock_timestamp()))
    with pytest.raises(AuditOriginDiffers):
        runtime.run(job_id)
    assert (seen(job_id).state, seen(job_id).attempt) == (JobState.QUEUED, 5)
    monkeypatch.setenv("RINGI_AUDIT_ORIGIN", other)
    get_settings.cache_clear()
    runtime.job(JobKind.VALIDATE_DATASET, finish=note_a_seal)(worked)
    runtime.run(job_id)
    assert (seen(job_id).state, seen(job_id).attempt) == (JobState.SUCCEEDED, 6)


def test_a_payload_that_this_worker_cannot_read_ends_the_attempt() -> None:
    runtime.job(JobKind.VALIDATE_DATASET, finish=kept)(worked)
    job_id = asked(payload={"schema_version": 2})
    runtime.run(job_id)
    assert (seen(job_id).state, error_of(job_id)["code"]) == (JobState.QUEUED, "job_work_failed")


def more_than_any_machine_has() -> Any:
    return np.empty(2**50, dtype=np.uint8)


def more_than_torch_finds_on_the_cpu() -> Any:
    return torch.empty(2**50, dtype=torch.uint8)


def more_than_the_device_has() -> Any:
    # As a CUDA device says it; without one, nothing else makes torch raise this.
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.mark.parametrize(
    ("allocate", "words"),
    [
        (more_than_any_machine_has, "Unable to allocate 1.00 PiB"),
        (more_than_torch_finds_on_the_cpu, "can't allocate memory"),
        (more_than_the_device_has, "CUDA out of memory."),
    ],
)
def test_work_that_finds_too_little_memory_says_so_and_is_not_tried_again_in_the_same_place(
    allocate: Callable[[], Any], words: str
) -> None:
    runtime.job(JobKind.VALIDATE_DATASET, finish=kept)(lambda _payload, _workspace, _sink: allocate())
    job_id = asked()
    runtime.run(job_id)
    assert (seen(job_id).state, error_of(job_id)["code"]) == (JobState.FAILED, "job_out_of_memory")
    assert words in error_of(job_id)["message"]
    assert error_of(job_id)["next_step"] == "Use a smaller batch or a larger device."


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
