"""What follows for a job, and for a worker, from memory that was not there and from a worker that died."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, update

from fleet.house import House, house, job_of, registered, taken
from ringi.db.session import transaction
from ringi.fleet.matching import GIB
from ringi.jobs import service as jobs
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.kit.actor import Actor, ActorKind
from ringi_workers import failures
from support.this_worker import this_process

__all__ = ["house", "this_process"]


def out_of_memory(job_id: UUID, worker: str) -> Job:
    """The worker's attempt ends as the runtime ends it."""
    error = failures.OutOfMemory("The device ran out of memory.", next_step="Use a larger device.")
    with transaction() as session:
        attempt = jobs.find(session, Actor(ActorKind.SYSTEM, UUID(int=0), "test"), job_id).attempt
        jobs.fail(session, job_id, owner=f"{worker}/here/1", attempt=attempt, error=error)
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=func.clock_timestamp()))
    return job_of(job_id)


def test_a_job_that_found_too_little_memory_goes_to_a_larger_worker_and_never_back(house: House) -> None:
    liar, large = registered("liar@host", memory=16 * GIB), registered("large@host", memory=32 * GIB)
    job = house.asked()
    assert taken(liar) == job
    after = out_of_memory(job, liar)
    assert (after.state, after.requirements["memory_bytes"]) == (JobState.QUEUED, 16 * GIB + 1)
    assert taken(liar) is None
    assert taken(large) == job


def test_without_a_larger_worker_it_fails_at_once_and_says_so(house: House) -> None:
    registered("liar@host", memory=16 * GIB)
    registered("equal@host", memory=16 * GIB)
    job = house.asked()
    assert taken("liar@host") == job
    after = out_of_memory(job, "liar@host")
    assert (after.state, (after.error or {})["code"]) == (JobState.FAILED, "job_out_of_memory")


def lost(job_id: UUID) -> None:
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=func.clock_timestamp() - timedelta(seconds=1)))
    with transaction() as session:
        assert jobs.reap(session) == 1
    with transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=func.clock_timestamp()))


def test_a_worker_that_dies_twice_of_a_job_is_spared_where_another_fits(house: House) -> None:
    registered()
    job = house.asked()
    assert taken() == job
    lost(job)
    registered("other@host")
    assert taken() == job, "once may be chance"
    lost(job)
    assert taken() is None
    assert taken("other@host") == job


def test_the_only_worker_gets_the_job_again_as_often_as_it_has_attempts(house: House) -> None:
    registered()
    job = house.asked()
    for _ in range(4):
        assert taken() == job
        lost(job)
    assert taken() == job
    assert job_of(job).attempt == 5
