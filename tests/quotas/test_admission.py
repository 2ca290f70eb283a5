"""What a project uses is counted from its jobs and seals, by the database's clock, and the limits are asked in their order."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session

from ringi.identity.models import Organization, Project
from ringi.jobs import admission, pausing
from ringi.jobs.contracts.kinds import JobKind, Queue
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.quotas import service as quotas
from ringi.quotas.models import ProjectQuota
from support.postgres import DatabaseUrls
from support.refusals import refused


@pytest.fixture
def session(database: DatabaseUrls) -> Iterator[Session]:
    engine = create_engine(database.app_url, connect_args={"options": "-c timezone=Asia/Tokyo"})
    with Session(engine) as session:
        yield session
        session.rollback()
    engine.dispose()


@pytest.fixture
def project(session: Session) -> UUID:
    organization = Organization(name="acme")
    session.add(organization)
    session.flush()
    found = Project(organization_id=organization.id, name="support", display_name="サポート")
    session.add(found)
    session.flush()
    return found.id


def now_of(session: Session) -> datetime:
    now: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now.astimezone(UTC)


def job(session: Session, project_id: UUID, **values: Any) -> None:
    organization_id = session.scalars(text("SELECT organization_id FROM projects")).one()
    defaults: dict[str, Any] = {
        "kind": JobKind.TRAIN, "queue": Queue.GPU, "subject": "訓練", "state": JobState.QUEUED, "payload": {}, "created_by": uuid4(),
        "organization_id": organization_id,
    }  # fmt: skip
    session.add(Job(project_id=project_id, **(defaults | values)))
    session.flush()


def limit(session: Session, project_id: UUID, **limits: float) -> None:
    session.add(ProjectQuota(project_id=project_id, **limits))
    session.flush()


def ask(session: Session, project_id: UUID, *, queue: Queue = Queue.GPU, adds_bytes: int = 0) -> None:
    admission.admit(session, project_id, queue=queue, adds_bytes=adds_bytes)


def test_a_project_without_limits_may_do_everything(session: Session, project: UUID) -> None:
    for _ in range(3):
        job(session, project)
    ask(session, project, adds_bytes=2**50)


def test_open_jobs_are_those_that_are_queued_or_running(session: Session, project: UUID) -> None:
    limit(session, project, open_jobs=2)
    job(session, project, state=JobState.RUNNING)
    job(session, project, state=JobState.SUCCEEDED)
    job(session, project, state=JobState.FAILED)
    ask(session, project)
    job(session, project)
    with refused("quota_open_jobs", 429) as why:
        ask(session, project)
    assert why.details == {"quota": "open_jobs", "used": 2, "limit": 2}


def test_a_day_is_a_day_of_utc_whatever_the_session_says(session: Session, project: UUID) -> None:
    limit(session, project, jobs_per_day=1)
    midnight = now_of(session).replace(hour=0, minute=0, second=0, microsecond=0)
    job(session, project, state=JobState.SUCCEEDED, created_at=midnight - timedelta(seconds=1))
    ask(session, project)
    job(session, project, state=JobState.CANCELLED, created_at=midnight)
    with refused("quota_jobs_per_day", 429):
        ask(session, project)
    left = (midnight + timedelta(days=1) - now_of(session)).total_seconds()
    assert abs(admission.usage_of(session, project).day_ends_s - left) < 5


def test_a_paused_job_is_not_open_and_its_rest_takes_no_gpu_hours(session: Session, project: UUID) -> None:
    now = now_of(session)
    begun = now - min(now - now.replace(day=1, hour=0, minute=0, second=0, microsecond=0), timedelta(hours=4))
    rested = (now - begun) / 2
    limit(session, project, open_jobs=1)
    job(session, project, state=JobState.PAUSED, started_at=begun, paused_at=begun + rested)
    ask(session, project)
    assert admission.usage_of(session, project).gpu_hours == pytest.approx(rested.total_seconds() / 3600)
    # It went on later and ended now: what it rested is still no use of a GPU.
    job(session, project, state=JobState.SUCCEEDED, started_at=begun, paused_s=rested.total_seconds(), finished_at=now)
    assert admission.usage_of(session, project).gpu_hours == pytest.approx(2 * rested.total_seconds() / 3600)


def test_a_rest_before_the_first_start_is_no_use_to_give_back_and_going_on_is_no_new_job(session: Session, project: UUID) -> None:
    limit(session, project, jobs_per_day=1)
    job(session, project, state=JobState.PAUSED, paused_at=now_of(session) - timedelta(days=10), pause_requested_at=now_of(session))
    with refused("quota_jobs_per_day", 429):
        ask(session, project)
    resting = session.scalars(select(Job)).one()
    pausing.go_on(session, resting)
    assert (resting.state, resting.paused_s) == (JobState.QUEUED, 0)


def test_a_job_that_is_cancelled_while_it_pauses_is_cancelled(session: Session, project: UUID) -> None:
    now = now_of(session)
    held = {"state": JobState.RUNNING, "lease_owner": "w", "lease_until": now + timedelta(hours=1), "attempt": 1, "started_at": now}
    job(session, project, **held, pause_requested_at=now, cancel_requested_at=now)
    ended = pausing.paused(session, session.scalars(select(Job.id)).one(), owner="w", attempt=1)
    assert ended.state == JobState.CANCELLED


def test_gpu_hours_are_those_of_this_month_and_of_running_jobs_too(session: Session, project: UUID) -> None:
    now = now_of(session)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    before, after = {"started_at": month - timedelta(hours=5)}, min(now - month, timedelta(hours=1))
    job(session, project, state=JobState.SUCCEEDED, finished_at=month - timedelta(hours=1), **before)
    assert admission.usage_of(session, project).gpu_hours == 0
    job(session, project, state=JobState.SUCCEEDED, finished_at=month + after, **before)
    job(session, project, queue=Queue.CPU, state=JobState.SUCCEEDED, finished_at=now, **before)
    assert admission.usage_of(session, project).gpu_hours == pytest.approx(after.total_seconds() / 3600)
    job(session, project, state=JobState.RUNNING, started_at=now - timedelta(minutes=1))
    used = admission.usage_of(session, project).gpu_hours
    assert used >= after.total_seconds() / 3600 + min(60, (now - month).total_seconds()) / 3600 - 1e-9
    limit(session, project, gpu_hours_per_month=used / 2)
    ask(session, project, queue=Queue.CPU)
    with refused("quota_gpu_hours_per_month", 429):
        ask(session, project)


def test_a_clock_that_jumped_back_makes_no_negative_hours(session: Session, project: UUID) -> None:
    now = now_of(session)
    job(session, project, state=JobState.SUCCEEDED, started_at=now + timedelta(hours=2), finished_at=now)
    job(session, project, state=JobState.RUNNING, started_at=now + timedelta(hours=2))
    assert admission.usage_of(session, project).gpu_hours == 0


def test_bytes_are_counted_once_and_those_of_open_jobs_are_reserved(session: Session, project: UUID) -> None:
    one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    quotas.note_bytes(session, project, [(one, 100), (two, 50)])
    quotas.note_bytes(session, project, [(two, 50), (one, 100)])
    job(session, project, reserved_bytes=30)
    job(session, project, reserved_bytes=1000, state=JobState.FAILED)
    used = admission.usage_of(session, project)
    assert (used.stored_bytes, used.reserved_bytes) == (150, 30)
    limit(session, project, stored_bytes=200)
    ask(session, project, adds_bytes=20)
    with refused("quota_stored_bytes", 429) as why:
        ask(session, project, adds_bytes=21)
    assert why.details == {"quota": "stored_bytes", "used": 180, "limit": 200}


def test_a_full_project_starts_nothing_whose_size_nobody_knows_yet(session: Session, project: UUID) -> None:
    limit(session, project, stored_bytes=10)
    quotas.note_bytes(session, project, [("sha256:" + "1" * 64, 10)])
    with refused("quota_stored_bytes", 429):
        ask(session, project)
