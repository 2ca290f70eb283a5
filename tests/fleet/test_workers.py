"""Worker processes as a fleet: they register and beat, take the right job, wait in words, drain and end, and a lie about memory does not help."""

import signal
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from ringi.fleet.schemas import Condition, Device, WorkerOut
from ringi.jobs.contracts.kinds import Queue
from ringi.jobs.schemas import JobState
from support.refusals import refused
from support.running_platform import PROJECT
from support.waiting import until
from support.workbench import Workbench

pytestmark = pytest.mark.long

REASON = "ドライバーの更新のため"


def named(bench: Workbench, process: str) -> WorkerOut | None:
    """The worker that a process registered as."""
    return next((one for one in bench.platform.as_("viewer").workers.all() if one.name.startswith(f"{process}@")), None)


def started(bench: Workbench, **environment: str) -> tuple[str, WorkerOut]:
    """A worker process of the cpu queue, and what it registered."""
    process = f"worker-{uuid4().hex[:6]}"
    bench.processes.start_worker(process, "cpu", **environment)
    found = until(lambda: named(bench, process), timeout_s=60)
    assert found is not None
    return process, found


def without_workers(bench: Workbench) -> None:
    bench.without_workers()
    with bench.superuser() as database:
        database.execute("DELETE FROM workers")


@pytest.fixture
def nobody(bench: Workbench) -> None:
    """No worker at the beginning of the test, and none that was left over."""
    without_workers(bench)


@pytest.fixture
def at_work(bench: Workbench) -> tuple[str, WorkerOut]:
    """One active worker and no other; where a test has left one that claims nothing, it goes on."""
    for process in bench.workers():
        found = named(bench, process)
        if found is not None and found.condition is Condition.ACTIVE and found.claimed_bytes is None:
            return process, found
    without_workers(bench)
    return started(bench)


def cordon(bench: Workbench, worker: WorkerOut) -> None:
    assert bench.platform.as_("admin").workers.cordon(worker.name, reason=REASON).condition is Condition.CORDONED


def uncordon(bench: Workbench, worker: WorkerOut) -> None:
    assert bench.platform.as_("admin").workers.uncordon(worker.name, reason=REASON).condition is Condition.ACTIVE


def waits_for(bench: Workbench, job: UUID) -> str | None:
    why = bench.job(job).waiting_for
    return why.text if why else None


def test_a_worker_registers_what_it_has_and_is_lost_when_it_falls_silent(bench: Workbench, nobody: None) -> None:
    process, worker = started(bench)
    assert (worker.condition, worker.queues, worker.device, worker.shared) == (Condition.ACTIVE, ["cpu"], Device.CPU, True)
    assert worker.memory_bytes == worker.measured_bytes
    assert (worker.memory_bytes or 0) > 2**28
    assert {"python", "torch", "peft"} <= set(worker.versions)
    assert "transformers" in worker.engines
    bench.processes.send(process, signal.SIGSTOP)
    until(lambda: (found := named(bench, process)) is not None and found.condition is Condition.LOST, timeout_s=20)
    bench.processes.send(process, signal.SIGCONT)
    until(lambda: (found := named(bench, process)) is not None and found.condition is Condition.ACTIVE, timeout_s=20)
    bench.processes.kill(process, signal.SIGTERM)
    gone = named(bench, process)
    assert gone is not None
    assert gone.condition is Condition.STOPPED


def test_a_job_without_a_worker_says_what_it_waits_for(bench: Workbench, nobody: None) -> None:
    _, job = bench.asked()
    assert waits_for(bench, job) == "no active cpu worker"
    _, worker = started(bench)
    bench.platform.succeeded(job)
    cordon(bench, worker)
    _, second = bench.asked()
    assert waits_for(bench, second) == "no active cpu worker (1 cordoned)"
    uncordon(bench, worker)
    bench.platform.succeeded(second)


def test_a_higher_priority_goes_first_and_is_not_for_everyone(bench: Workbench, at_work: tuple[str, WorkerOut]) -> None:
    _, worker = at_work
    cordon(bench, worker)
    jobs = [bench.asked()[1] for _ in range(3)]
    with refused("forbidden", 403):
        bench.platform.as_("contributor").jobs.prioritize(jobs[2], 10)
    seen = bench.job(jobs[2])
    assert bench.platform.as_("admin").jobs.prioritize(jobs[2], 10, if_match=str(seen.row_version)).priority == 10
    with refused("precondition_failed", 412):
        bench.platform.as_("admin").jobs.prioritize(jobs[2], 20, if_match=str(seen.row_version))
    uncordon(bench, worker)
    done = [bench.platform.succeeded(job) for job in jobs]
    order = sorted(done, key=lambda job: str(job.started_at))
    assert [job.id for job in order] == [jobs[2], jobs[0], jobs[1]]
    assert len(bench.platform.logged("job.prioritize")) == 1


def test_the_demand_of_a_queue_rises_and_falls(bench: Workbench, at_work: tuple[str, WorkerOut]) -> None:
    _, worker = at_work
    cordon(bench, worker)
    admin, before = bench.platform.as_("admin").workers, bench.platform.as_("admin").workers.demand(Queue.CPU)
    _, job = bench.asked()
    risen = admin.demand(Queue.CPU)
    assert (risen.wanted, risen.active_workers) == (before.wanted + 1, 0)
    uncordon(bench, worker)
    bench.platform.succeeded(job)
    assert admin.demand(Queue.CPU).active_workers == 1
    until(lambda: admin.demand(Queue.CPU).wanted <= before.wanted)
    with refused("forbidden", 403):
        bench.platform.as_("contributor").workers.demand(Queue.CPU)


def test_cordon_drain_and_uncordon_by_hand_are_audited(bench: Workbench, at_work: tuple[str, WorkerOut]) -> None:
    process, worker = at_work
    admin = bench.platform.as_("admin").workers
    with refused("forbidden", 403):
        bench.platform.as_("contributor").workers.cordon(worker.name, reason=REASON)
    cordoned = admin.cordon(worker.name, reason=REASON, if_match=str(worker.row_version))
    assert (cordoned.condition, cordoned.row_version) == (Condition.CORDONED, worker.row_version + 1), "heartbeats are no change"
    with refused("precondition_failed", 412):
        admin.uncordon(worker.name, reason=REASON, if_match=str(worker.row_version))
    name, job = bench.asked()
    assert admin.uncordon(worker.name, reason=REASON).condition is Condition.ACTIVE
    # No message comes for it any more: the worker looks by itself.
    bench.platform.succeeded(job)
    assert bench.versions(name) == [1]
    name, job = bench.asked(bench.many_rows)
    bench.running(job)
    assert admin.drain(worker.name, reason=REASON).condition is Condition.DRAINING
    _, waiting = bench.asked()
    ended = bench.processes.running.pop(process)
    assert ended.wait(timeout=60) == 0
    assert bench.job(job).state is JobState.SUCCEEDED, "it finished what it had"
    assert bench.job(waiting).state is JobState.QUEUED, "it took nothing more"
    actions = [one.action for one in bench.platform.as_("auditor").audit.events() if one.object_type == "worker"]
    assert actions[:3] == ["worker.drain", "worker.uncordon", "worker.cordon"]
    bench.processes.start_worker(process, "cpu")
    until(lambda: (found := named(bench, process)) is not None and found.condition is Condition.CORDONED, timeout_s=60)
    assert bench.job(waiting).state is JobState.QUEUED, "a worker that was drained comes back cordoned"


def test_a_claim_of_memory_that_is_not_there_does_not_count(bench: Workbench, nobody: None) -> None:
    _, worker = started(bench, RINGI_WORKER_MEMORY_BYTES=str(2**50))
    assert worker.claimed_bytes == 2**50
    assert worker.memory_bytes == worker.measured_bytes
    _, job = bench.asked()
    bench.platform.succeeded(job)
    cordon(bench, worker)
    _, heavy = bench.asked()
    with bench.superuser() as database:
        needs = '{"queue": "cpu", "memory_bytes": 549755813888000}'
        database.execute("UPDATE jobs SET requirements = %s WHERE id = %s", [needs, heavy])
    uncordon(bench, worker)
    _, light = bench.asked()
    bench.platform.succeeded(light)
    assert bench.job(heavy).state is JobState.QUEUED
    assert (waits_for(bench, heavy) or "").startswith("needs 512000.0 GiB, the largest active worker has ")
    bench.platform.as_("contributor").jobs.cancel(heavy)


def test_a_worker_of_an_organisation_that_does_not_exist_does_not_start(bench: Workbench, tmp_path: Path) -> None:
    process = bench.processes.start_worker("worker-lost", "cpu", RINGI_WORKER_ORGANIZATION="nobody")
    assert process.wait(timeout=60) != 0
    bench.processes.running.pop("worker-lost")
    assert "There is no organisation 'nobody' here." in bench.processes.log_of("worker-lost")
    assert bench.platform.call("viewer", "GET", "/workers/worker-lost@x").json()["code"] == "not_found"
    assert bench.platform.call("viewer", "GET", f"/projects/{PROJECT}").status_code == 200
