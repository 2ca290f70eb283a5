"""How a worker stands, by itself and as people want it, and how much work waits for one like it."""

from datetime import timedelta
from uuid import uuid4

from sqlalchemy import func, update

from fleet.house import House, house, registered, taken
from ringi.db.session import transaction
from ringi.fleet import service as fleet
from ringi.fleet.matching import GIB
from ringi.fleet.models import Worker
from ringi.fleet.schemas import Condition, Device, Wanted
from ringi.identity.models import Organization
from ringi.jobs import placement
from ringi.web.preconditions import Match
from support.refusals import refused
from support.this_worker import this_process

__all__ = ["house", "this_process"]


def condition(house: House, name: str = "cpu1@host") -> Condition:
    with transaction() as session:
        return fleet.find(session, house.actor, name).condition


def test_a_cordoned_worker_takes_nothing_until_it_is_given_back(house: House) -> None:
    job = house.asked()
    registered()
    for wanted, expected in ((Wanted.CORDONED, None), (Wanted.DRAINING, None), (Wanted.ACTIVE, job)):
        with transaction() as session:
            fleet.want(session, house.actor, name="cpu1@host", wanted=wanted, reason="保守作業のために止めます", match=Match(None))
        assert taken() == expected


def test_a_cordon_stays_over_a_restart_and_a_drain_becomes_one(house: House) -> None:
    for wanted in (Wanted.CORDONED, Wanted.DRAINING):
        registered()
        with transaction() as session:
            fleet.want(session, house.actor, name="cpu1@host", wanted=wanted, reason="保守作業のために止めます", match=Match(None))
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
        fleet.want(session, house.actor, name="cpu1@host", wanted=Wanted.CORDONED, reason="保守作業のために止めます", match=Match(None))
