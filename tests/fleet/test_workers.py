"""Worker processes as a fleet: they register and beat, take the right job, wait in words, drain and end, and a lie about memory does not help."""

import signal
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from jobs.conftest import Rig, rig
from ringi.fleet.schemas import Condition, Device, WorkerOut
from ringi.jobs.contracts import Queue
from ringi.jobs.schemas import JobState
from support.refusals import refused
from support.running_platform import PROJECT
from support.waiting import until

pytestmark = pytest.mark.long

__all__ = ["rig"]
REASON = "ドライバーの更新のため"


@pytest.fixture(autouse=True)
def alone(rig: Rig) -> None:
    """No worker at the beginning of a test, and none that was left over."""
    rig.without_workers()
    with rig.superuser() as database:
        database.execute("DELETE FROM workers")


def named(rig: Rig, process: str) -> WorkerOut | None:
    """The worker that a process registered as."""
    return next((one for one in rig.platform.as_("viewer").workers.all() if one.name.startswith(f"{process}@")), None)


def started(rig: Rig, **environment: str) -> tuple[str, WorkerOut]:
    """A worker process of the cpu queue, and what it registered."""
    process = f"worker-{uuid4().hex[:6]}"
    rig.processes.start_worker(process, "cpu", **environment)
    found = until(lambda: named(rig, process), timeout_s=60)
    assert found is not None
    return process, found


def waits_for(rig: Rig, job: UUID) -> str | None:
    why = rig.job(job).waiting_for
    return why.text if why else None


def test_a_worker_registers_what_it_has_and_is_lost_when_it_falls_silent(rig: Rig) -> None:
    process, worker = started(rig)
    assert (worker.condition, worker.queues, worker.device, worker.shared) == (Condition.ACTIVE, ["cpu"], Device.CPU, True)
    assert worker.memory_bytes == worker.measured_bytes
    assert (worker.memory_bytes or 0) > 2**28
    assert {"python", "torch", "peft"} <= set(worker.versions)
    assert "transformers" in worker.engines
    rig.processes.send(process, signal.SIGSTOP)
    until(lambda: (found := named(rig, process)) is not None and found.condition is Condition.LOST, timeout_s=20)
    rig.processes.send(process, signal.SIGCONT)
    until(lambda: (found := named(rig, process)) is not None and found.condition is Condition.ACTIVE, timeout_s=20)
    rig.processes.kill(process, signal.SIGTERM)
    gone = named(rig, process)
    assert gone is not None
    assert gone.condition is Condition.STOPPED


def test_a_job_without_a_worker_says_what_it_waits_for(rig: Rig) -> None:
    _, job = rig.asked()
    assert waits_for(rig, job) == "no active cpu worker"
    process, worker = started(rig)
    rig.platform.succeeded(job)
    rig.platform.as_("admin").workers.cordon(worker.name, reason=REASON)
    _, second = rig.asked()
    assert waits_for(rig, second) == "no active cpu worker (1 cordoned)"
    rig.processes.kill(process)


def test_cordon_drain_and_uncordon_by_hand_are_audited(rig: Rig) -> None:
    process, worker = started(rig)
    admin = rig.platform.as_("admin").workers
    with refused("forbidden", 403):
        rig.platform.as_("contributor").workers.cordon(worker.name, reason=REASON)
    assert admin.cordon(worker.name, reason=REASON).condition is Condition.CORDONED
    name, job = rig.asked()
    assert admin.uncordon(worker.name, reason=REASON).condition is Condition.ACTIVE
    # No message comes for it any more: the worker looks by itself.
    rig.platform.succeeded(job)
    assert rig.versions(name) == [1]
    name, job = rig.asked(rig.many_rows)
    rig.running(job)
    assert admin.drain(worker.name, reason=REASON).condition is Condition.DRAINING
    _, waiting = rig.asked()
    ended = rig.processes.running.pop(process)
    assert ended.wait(timeout=60) == 0
    assert rig.job(job).state is JobState.SUCCEEDED, "it finished what it had"
    assert rig.job(waiting).state is JobState.QUEUED, "it took nothing more"
    actions = [one.action for one in rig.platform.as_("auditor").audit.events() if one.object_type == "worker"]
    assert actions[:3] == ["worker.drain", "worker.uncordon", "worker.cordon"]
    rig.processes.start_worker(process, "cpu")
    until(lambda: (found := named(rig, process)) is not None and found.condition is Condition.CORDONED, timeout_s=60)
    assert rig.job(waiting).state is JobState.QUEUED, "a worker that was drained comes back cordoned"


def test_a_claim_of_memory_that_is_not_there_does_not_count(rig: Rig) -> None:
    _, worker = started(rig, RINGI_WORKER_MEMORY_BYTES=str(2**50))
    assert worker.claimed_bytes == 2**50
    assert worker.memory_bytes == worker.measured_bytes
    _, job = rig.asked()
    rig.platform.succeeded(job)
    rig.platform.as_("admin").workers.cordon(worker.name, reason=REASON)
    _, heavy = rig.asked()
    with rig.superuser() as database:
        needs = '{"queue": "cpu", "memory_bytes": 549755813888000}'
        database.execute("UPDATE jobs SET requirements = %s WHERE id = %s", [needs, heavy])
    rig.platform.as_("admin").workers.uncordon(worker.name, reason=REASON)
    _, light = rig.asked()
    rig.platform.succeeded(light)
    assert rig.job(heavy).state is JobState.QUEUED
    assert (waits_for(rig, heavy) or "").startswith("needs 512000.0 GiB, the largest active worker has ")
    rig.platform.as_("contributor").jobs.cancel(heavy)


def test_a_higher_priority_goes_first_and_is_not_for_everyone(rig: Rig) -> None:
    jobs = [rig.asked()[1] for _ in range(3)]
    with refused("forbidden", 403):
        rig.platform.as_("contributor").jobs.prioritize(jobs[2], 10)
    assert rig.platform.as_("admin").jobs.prioritize(jobs[2], 10).priority == 10
    started(rig)
    done = [rig.platform.succeeded(job) for job in jobs]
    order = sorted(done, key=lambda job: str(job.started_at))
    assert [job.id for job in order] == [jobs[2], jobs[0], jobs[1]]
    assert len(rig.platform.logged("job.prioritize")) == 1


def test_the_demand_of_a_queue_rises_and_falls(rig: Rig) -> None:
    admin, before = rig.platform.as_("admin").workers, rig.platform.as_("admin").workers.demand(Queue.CPU)
    _, job = rig.asked()
    risen = admin.demand(Queue.CPU)
    assert (risen.wanted, risen.active_workers) == (before.wanted + 1, 0)
    started(rig)
    rig.platform.succeeded(job)
    until(lambda: admin.demand(Queue.CPU).wanted <= before.wanted)
    with refused("forbidden", 403):
        rig.platform.as_("contributor").workers.demand(Queue.CPU)


def test_a_worker_of_an_organisation_that_does_not_exist_does_not_start(rig: Rig, tmp_path: Path) -> None:
    process = rig.processes.start_worker("worker-lost", "cpu", RINGI_WORKER_ORGANIZATION="nobody")
    assert process.wait(timeout=60) != 0
    rig.processes.running.pop("worker-lost")
    assert "There is no organisation 'nobody' here." in rig.processes.log_of("worker-lost")
    assert rig.platform.call("viewer", "GET", "/workers/worker-lost@x").json()["code"] == "not_found"
    assert rig.platform.call("viewer", "GET", f"/projects/{PROJECT}").status_code == 200
