"""The next job for a worker, asked of the database: priority, fair share, age, requirements; and what follows from memory that was not there."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update

from jobs.test_runtime import PAYLOAD, RESULT, kept, this_process
from ringi.db.session import transaction
from ringi.fleet import service as fleet
from ringi.fleet.matching import GIB
from ringi.fleet.models import Worker
from ringi.fleet.schemas import Condition, Device, Wanted, WorkerFacts
from ringi.identity.models import Organization, Project
from ringi.jobs import placement
from ringi.jobs import service as jobs
from ringi.jobs.contracts import JobKind
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.kit.actor import Actor, ActorKind
from ringi_workers import failures, runtime
from support.refusals import refused

__all__ = ["this_process"]


@dataclass(frozen=True)
class House:
    """An organisation with two projects."""

    actor: Actor
    one: UUID
    two: UUID

    def asked(self, project: UUID | None = None, **changes: Any) -> UUID:
        """A queued job."""
        with transaction() as session:
            job = jobs.enqueue(session, self.actor, JobKind.VALIDATE_DATASET, PAYLOAD, subject="行:v1", project_id=project or self.one)
            for name, value in changes.items():
                setattr(job, name, value)
            return job.id

    def needing(self, memory_bytes: int | None = None, **needs: Any) -> UUID:
        """A queued job that needs something."""
        memory = {"memory_bytes": memory_bytes} if memory_bytes else {}
        return self.asked(requirements={"queue": "cpu", **memory, **needs})

    def waits_for(self, job_id: UUID) -> str | None:
        """The words of the job's view."""
        with transaction() as session:
            why = placement.waiting_for(session, [jobs.find(session, self.actor, job_id)]).get(job_id)
        return why.text if why else None


@pytest.fixture
def house() -> House:
    with transaction() as session:
        organization = Organization(name=uuid4().hex)
        session.add(organization)
        session.flush()
        actor = Actor(
            ActorKind.USER,
            uuid4(),
            "hana",
            organization.id,
            organization_permissions=frozenset({"project:read", "worker:manage", "job:prioritize"}),
        )
        projects = [Project(organization_id=organization.id, name=name) for name in ("one", "two")]
        session.add_all(projects)
        session.flush()
        ids = [project.id for project in projects]
    return House(actor, *ids)


def registered(name: str = "cpu1@host", *, memory: int | None = 16 * GIB, claimed: int | None = None, **changes: Any) -> str:
    """A worker whose process is `name/here/1`, the owner of what it takes."""
    plain: dict[str, Any] = {
        "name": name, "owner": f"{name}/here/1", "queues": ["cpu"], "device": Device.CPU, "device_name": "x", "claimed_bytes": claimed,
        "measured_bytes": memory, "engines": ["peft", "transformers"], "versions": {}, "organization": None, "heartbeat_s": 5.0,
    }  # fmt: skip
    with transaction() as session:
        fleet.register(session, WorkerFacts(**(plain | changes)))
    return name


def taken(worker: str = "cpu1@host") -> UUID | None:
    with transaction() as session:
        job = jobs.claim_next(session, worker=worker, owner=f"{worker}/here/1", lease_s=60)
        return job.id if job else None


def job_of(job_id: UUID) -> Job:
    with transaction() as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()


def condition(house: House, name: str = "cpu1@host") -> Condition:
    with transaction() as session:
        return fleet.find(session, house.actor, name).condition


def test_the_oldest_job_is_taken_first_and_each_once(house: House) -> None:
    first, second = house.asked(), house.asked()
    registered()
    assert [taken(), taken(), taken()] == [first, second, None]
    assert job_of(first).lease_owner == "cpu1@host/here/1"


def test_priority_goes_before_age(house: House) -> None:
    old, urgent, patient = house.asked(), house.asked(), house.asked(priority=-5)
    registered()
    with transaction() as session:
        jobs.prioritize(session, house.actor, job_id=urgent, priority=50)
    assert [taken(), taken(), taken()] == [urgent, old, patient]
    with transaction() as session, refused("job_ended", 409):
        session.execute(update(Job).where(Job.id == urgent).values(state=JobState.FAILED, finished_at=func.clock_timestamp()))
        jobs.prioritize(session, house.actor, job_id=urgent, priority=1)


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


def test_a_cordoned_worker_takes_nothing_until_it_is_given_back(house: House) -> None:
    job = house.asked()
    registered()
    for wanted, expected in ((Wanted.CORDONED, None), (Wanted.DRAINING, None), (Wanted.ACTIVE, job)):
        with transaction() as session:
            fleet.want(session, house.actor, name="cpu1@host", wanted=wanted, reason="保守作業のために止めます")
        assert taken() == expected


def test_a_cordon_stays_over_a_restart_and_a_drain_becomes_one(house: House) -> None:
    for wanted in (Wanted.CORDONED, Wanted.DRAINING):
        registered()
        with transaction() as session:
            fleet.want(session, house.actor, name="cpu1@host", wanted=wanted, reason="保守作業のために止めます")
        registered(owner="cpu1@host/here/2")
        assert condition(house) is Condition.CORDONED


def test_of_two_processes_with_one_name_the_later_works(house: House) -> None:
    house.asked()
    registered()
    registered(owner="cpu1@host/here/2")
    assert taken() is None, "the first process lost its name"
    with transaction() as session, refused("worker_name_taken", 409):
        fleet.beat(session, "cpu1@host", owner="cpu1@host/here/1", job_id=None)


def test_a_silent_worker_is_lost_by_the_clock_of_the_database(house: House) -> None:
    job = house.asked()
    registered()
    assert condition(house) is Condition.ACTIVE
    assert house.waits_for(job) is None
    with transaction() as session:
        session.execute(update(Worker).values(heartbeat_at=func.clock_timestamp() - timedelta(seconds=16)))
    assert condition(house) is Condition.LOST
    assert house.waits_for(job) == "no active cpu worker (1 lost)"
    with transaction() as session:
        assert fleet.beat(session, "cpu1@host", owner="cpu1@host/here/1", job_id=None) is Wanted.ACTIVE
    assert condition(house) is Condition.ACTIVE
    with transaction() as session:
        fleet.stop(session, "cpu1@host", owner="cpu1@host/here/1")
    assert condition(house) is Condition.STOPPED


def test_of_a_claim_and_a_measurement_the_smaller_counts(house: House) -> None:
    registered(memory=8 * GIB, claimed=1024 * GIB)
    job = house.needing(24 * GIB)
    assert taken() is None
    assert house.waits_for(job) == "needs 24.0 GiB, the largest active worker has 8.0"
    registered("modest@host", memory=64 * GIB, claimed=16 * GIB)
    assert taken("modest@host") is None
    registered("honest@host", memory=32 * GIB)
    assert taken("honest@host") == job


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


def test_the_demand_counts_what_a_worker_like_that_could_do(house: House) -> None:
    registered()
    house.asked()
    house.needing(24 * GIB)
    house.needing(device="cuda")
    house.asked(not_before=func.clock_timestamp() + timedelta(hours=1))
    assert taken() is not None
    with transaction() as session:
        everything = placement.demand(session, queue="cpu")
        small = placement.demand(session, queue="cpu", device=Device.CPU, memory_bytes=8 * GIB)
        other = placement.demand(session, queue="gpu")
    assert (everything.wanted, everything.ready, everything.queued, everything.running, everything.active_workers) == (3, 2, 3, 1, 1)
    assert (small.wanted, small.ready, small.running) == (1, 0, 1)
    assert (other.wanted, other.active_workers, other.needs) == (0, 0, [])
    assert everything.oldest_queued_s > 0


def test_old_workers_are_forgotten(house: House) -> None:
    registered("old@host")
    with transaction() as session:
        session.execute(update(Worker).values(heartbeat_at=func.clock_timestamp() - timedelta(days=8)))
    registered()
    with transaction() as session:
        assert fleet.purge(session, silent_for=timedelta(days=7)) == 1
        assert [one.worker.name for one in fleet.seen(session, house.actor)] == ["cpu1@host"]


def test_a_shared_worker_is_stopped_by_no_tenant_of_several(house: House) -> None:
    registered()
    with transaction() as session:
        session.add(Organization(name=uuid4().hex))
    with transaction() as session, refused("worker_shared", 403):
        fleet.want(session, house.actor, name="cpu1@host", wanted=Wanted.CORDONED, reason="保守作業のために止めます")


def test_one_attempt_in_this_process_still_runs_a_given_job(house: House) -> None:
    runtime.job(JobKind.VALIDATE_DATASET, finish=kept)(lambda _payload, _workspace, _sink: RESULT)
    job = house.asked()
    runtime.run(job)
    assert job_of(job).state == JobState.SUCCEEDED
