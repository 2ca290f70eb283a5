"""The next job for a worker, asked of the database: priority, fair share, age, and what a job needs of its worker."""

from datetime import timedelta
from uuid import uuid4

from sqlalchemy import func, select, update

from fleet.house import House, house, job_of, registered, taken
from ringi.db.session import transaction
from ringi.fleet import service as fleet
from ringi.fleet.matching import GIB
from ringi.fleet.schemas import Device
from ringi.identity.models import Organization
from ringi.jobs import priority
from ringi.jobs import service as jobs
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.kit.actor import Actor, ActorKind
from ringi_workers import runtime
from support.refusals import refused
from support.this_worker import PAYLOAD, RESULT, kept, this_process

__all__ = ["house", "this_process"]


def test_the_oldest_job_is_taken_first_and_each_once(house: House) -> None:
    first, second = house.asked(), house.asked()
    registered()
    assert [taken(), taken(), taken()] == [first, second, None]
    assert job_of(first).lease_owner == "cpu1@host/here/1"


def test_priority_goes_before_age(house: House) -> None:
    old, urgent, patient = house.asked(), house.asked(), house.asked(priority=-5)
    registered()
    with transaction() as session:
        priority.prioritize(session, house.actor, job_id=urgent, priority=50)
    assert [taken(), taken(), taken()] == [urgent, old, patient]
    with transaction() as session, refused("job_ended", 409):
        session.execute(update(Job).where(Job.id == urgent).values(state=JobState.FAILED, finished_at=func.clock_timestamp()))
        priority.prioritize(session, house.actor, job_id=urgent, priority=1)


def test_a_project_with_many_jobs_does_not_make_another_wait(house: House) -> None:
    many = [house.asked(house.one) for _ in range(4)]
    one = house.asked(house.two)
    registered()
    assert [taken(), taken(), taken()] == [many[0], one, many[1]]


def test_who_had_less_of_the_last_hour_comes_first(house: House) -> None:
    registered()
    for project, minutes in ((house.one, 30), (house.two, 5)):
        done = house.asked(project)
        with transaction() as session:
            now = func.clock_timestamp()
            over = update(Job).where(Job.id == done)
            session.execute(over.values(state=JobState.SUCCEEDED, started_at=now - timedelta(minutes=minutes), finished_at=now))
    had_much, had_little = house.asked(house.one), house.asked(house.two)
    assert [taken(), taken()] == [had_little, had_much]


def test_a_job_goes_only_to_a_worker_that_has_what_it_needs(house: House) -> None:
    small, large = registered("small@host", memory=8 * GIB), registered("large@host", memory=32 * GIB, device=Device.CUDA, engines=["vllm"])
    heavy = house.needing(24 * GIB)
    on_cuda = house.needing(device="cuda")
    with_engine = house.needing(engines=["vllm"])
    light = house.needing()
    assert [taken(small), taken(small)] == [light, None]
    assert [taken(large), taken(large), taken(large)] == [heavy, on_cuda, with_engine]


def test_a_job_of_before_there_were_requirements_is_taken(house: House) -> None:
    old = house.asked(requirements={})
    registered()
    assert taken() == old


def test_a_worker_of_one_organisation_takes_no_other_job(house: House) -> None:
    with transaction() as session:
        name = session.scalars(select(Organization.name).where(Organization.id == house.actor.organization_id)).one()
        stranger = Organization(name=uuid4().hex)
        session.add(stranger)
        session.flush()
        other = Actor(ActorKind.USER, uuid4(), "eve", stranger.id)
        jobs.enqueue(session, other, JobKind.VALIDATE_DATASET, PAYLOAD, subject="x", project_id=None)
    own = house.asked()
    registered(organization=name)
    assert [taken(), taken()] == [own, None]
    with transaction() as session, refused("not_found", 404):
        fleet.find(session, other, "cpu1@host")
    with refused("not_found", 404):
        registered("b@host", organization="nobody")


def test_of_a_claim_and_a_measurement_the_smaller_counts(house: House) -> None:
    registered(memory=8 * GIB, claimed=1024 * GIB)
    job = house.needing(24 * GIB)
    assert taken() is None
    assert house.waits_for(job) == "needs 24.0 GiB, the largest active worker has 8.0"
    registered("modest@host", memory=64 * GIB, claimed=16 * GIB)
    assert taken("modest@host") is None
    registered("honest@host", memory=32 * GIB)
    assert taken("honest@host") == job


def test_one_attempt_in_this_process_still_runs_a_given_job(house: House) -> None:
    runtime.job(JobKind.VALIDATE_DATASET, finish=kept)(lambda _payload, _workspace, _sink: RESULT)
    job = house.asked()
    runtime.run(job)
    assert job_of(job).state == JobState.SUCCEEDED
