"""A run's life after its start: it rests and goes on, is cancelled with its snapshot, branches, is done again; nothing of it changes the bytes."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, func, text, update
from sqlalchemy.orm import sessionmaker

from ringi.jobs.contracts.methods import Method
from ringi.jobs.contracts.training import BRANCHABLE, LoraSpec
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobOut, JobState, Placement
from ringi.training.schemas import BranchRun, RunOut
from support.refusals import refused
from support.running_platform import JOB_S, PROJECT, Platform
from support.shell import Shell
from support.story import BASE, PLAN, Ground, trained
from support.waiting import until

pytestmark = pytest.mark.long

# Long enough to be met on its way between two heartbeats, short enough to be done twice.
SHORT = PLAN.model_copy(update={"max_steps": 300, "checkpoint_every": 5, "dropout": 0.1})
ENDLESS = SHORT.model_copy(update={"max_steps": 100_000, "epochs": 1000})


@pytest.fixture
def adapter(ground: Ground) -> str:
    name = f"life-{uuid4().hex[:8]}"
    ground.platform.as_("contributor").adapters.create(PROJECT, name, base=BASE)
    return name


def at_step(platform: Platform, run: RunOut, step: int, *, timeout_s: float = 60) -> JobOut:
    """The job once its run has come to a step, or has ended."""

    def look() -> JobOut | None:
        job = platform.as_("contributor").jobs.get(run.job_id)
        return job if job.state is JobState.SUCCEEDED or (job.progress and (job.progress.step or 0) >= step) else None

    found = until(look, timeout_s=timeout_s)
    assert found is not None
    return found


def rested(platform: Platform, job_id: UUID) -> JobOut:
    """The job once it is paused."""
    found = until(lambda: job if (job := platform.as_("contributor").jobs.get(job_id)).state is JobState.PAUSED else None, timeout_s=60)
    assert found is not None
    return found


def test_a_branch_may_change_what_the_contract_says_and_nothing_else() -> None:
    assert set(BranchRun.model_fields) == BRANCHABLE
    assert set(LoraSpec.model_fields) > BRANCHABLE


def test_a_run_that_rests_and_goes_on_seals_the_version_of_one_that_did_not(ground: Ground, adapter: str) -> None:
    platform, training = ground.platform, ground.platform.as_("contributor").training
    undisturbed = trained(platform, adapter, plan=SHORT)
    assert undisturbed.metrics is not None
    run = training.again(PROJECT, adapter, undisturbed.id)
    assert (run.spec, run.dataset, run.base) == (undisturbed.spec, undisturbed.dataset, undisturbed.base)
    assert run.origin is not None
    assert (run.origin.run_id, run.origin.step) == (undisturbed.id, None)
    at_step(platform, run, 1)
    asked = training.pause(PROJECT, adapter, run.id)
    assert asked.pause_requested
    rested(platform, run.job_id)
    resting = training.get(PROJECT, adapter, run.id)
    assert resting.snapshot_step is not None
    assert (resting.state, resting.version) == (JobState.PAUSED, None)
    assert training.pause(PROJECT, adapter, run.id).state is JobState.PAUSED
    # It holds neither its worker nor its adapter: another run has both meanwhile, and the paused one waits for its end.
    other = training.start(PROJECT, adapter, dataset="faq", plan=ENDLESS)
    at_step(platform, other, 1)
    with refused("training_run_in_progress", 409):
        training.go_on(PROJECT, adapter, run.id)
    platform.as_("contributor").jobs.cancel(other.job_id)
    assert platform.ended(other.job_id).state is JobState.CANCELLED
    assert training.go_on(PROJECT, adapter, run.id).state is JobState.QUEUED
    platform.succeeded(run.job_id)
    done = training.get(PROJECT, adapter, run.id)
    assert done.metrics is not None
    # Equal bytes are one version.
    assert done.version == undisturbed.version
    assert (done.metrics.resumed_from_step, done.metrics.curve) == (resting.snapshot_step, undisturbed.metrics.curve)
    assert done.snapshot_step is None
    with refused("job_ended", 409):
        training.pause(PROJECT, adapter, run.id)
    with refused("job_not_paused", 409):
        training.go_on(PROJECT, adapter, run.id)
    with refused("training_no_snapshot", 409):
        training.branch(PROJECT, adapter, run.id, BranchRun())
    assert len(platform.logged("training.run.pause", job=str(run.job_id))) == 2
    assert len(platform.logged("training.run.continue", job=str(run.job_id))) == 1


def test_a_run_whose_worker_is_killed_before_it_could_rest_rests_at_its_last_snapshot(ground: Ground, adapter: str) -> None:
    platform, processes, training = ground.platform, ground.platform.processes, ground.platform.as_("contributor").training
    undisturbed = trained(platform, adapter, plan=SHORT)
    run = training.again(PROJECT, adapter, undisturbed.id)
    until(lambda: training.get(PROJECT, adapter, run.id).snapshot_step, timeout_s=60)
    worker = processes.name_of(platform.as_("contributor").jobs.get(run.job_id).lease_owner or "")
    # Stopped, it cannot hear of the pause.
    processes.send(worker, signal.SIGSTOP)
    training.pause(PROJECT, adapter, run.id)
    processes.kill(worker)
    processes.start_worker(worker, "gpu")
    rested(platform, run.job_id)
    resting = training.get(PROJECT, adapter, run.id)
    assert resting.snapshot_step is not None
    assert resting.snapshot_step % SHORT.checkpoint_every == 0
    training.go_on(PROJECT, adapter, run.id)
    platform.succeeded(run.job_id)
    done = training.get(PROJECT, adapter, run.id)
    assert done.metrics is not None
    assert (done.version, done.metrics.resumed_from_step) == (undisturbed.version, resting.snapshot_step)


def test_a_cancelled_run_keeps_its_snapshot_and_another_branches_off_from_it(ground: Ground, adapter: str) -> None:
    platform, training = ground.platform, ground.platform.as_("contributor").training
    run = training.start(PROJECT, adapter, dataset="faq", plan=ENDLESS)
    until(lambda: training.get(PROJECT, adapter, run.id).snapshot_step, timeout_s=60)
    platform.as_("contributor").jobs.cancel(run.job_id)
    assert platform.ended(run.job_id).state is JobState.CANCELLED
    step = training.get(PROJECT, adapter, run.id).snapshot_step
    assert step is not None
    with refused("training_branch_ends_behind", 400):
        training.branch(PROJECT, adapter, run.id, BranchRun(max_steps=step - 1))
    branched = training.branch(PROJECT, adapter, run.id, BranchRun(learning_rate=0.001, max_steps=step + 3))
    assert branched.origin is not None
    assert (branched.origin.run_id, branched.origin.step) == (run.id, step)
    assert (branched.spec.learning_rate, branched.spec.max_steps, branched.spec.rank) == (0.001, step + 3, SHORT.rank)
    platform.succeeded(branched.job_id)
    done = training.get(PROJECT, adapter, branched.id)
    assert done.metrics is not None
    assert (done.metrics.resumed_from_step, done.metrics.steps) == (step, step + 3)
    assert done.version == f"{PROJECT}/{adapter}:v1"
    assert training.get(PROJECT, adapter, run.id).version is None
    # A month later the snapshot goes.
    owner = create_engine(platform.processes.urls.owner_url)
    with sessionmaker(owner).begin() as session:
        session.execute(text("SET ROLE NONE"))
        month_ago = func.clock_timestamp() - text("interval '31 days'")
        session.execute(update(Job).where(Job.id == run.job_id).values(finished_at=month_ago))
    owner.dispose()
    until(lambda: training.get(PROJECT, adapter, run.id).snapshot_step is None, timeout_s=60)
    with refused("training_no_snapshot", 409):
        training.branch(PROJECT, adapter, run.id, BranchRun())


def test_a_run_that_waits_rests_at_once_and_a_paused_one_can_be_cancelled(ground: Ground, adapter: str) -> None:
    platform, training = ground.platform, ground.platform.as_("contributor").training
    # No worker has so much memory, so it waits.
    run = training.start(PROJECT, adapter, dataset="faq", plan=SHORT, placement=Placement(memory_bytes=2**49))
    assert training.pause(PROJECT, adapter, run.id, if_match=str(run.row_version)).state is JobState.PAUSED
    with refused("precondition_failed", 412):
        training.go_on(PROJECT, adapter, run.id, if_match=str(run.row_version))
    assert training.go_on(PROJECT, adapter, run.id).state is JobState.QUEUED
    assert training.pause(PROJECT, adapter, run.id).state is JobState.PAUSED
    ranks_by_steps = SHORT.model_copy(update={"method": Method.ADALORA})
    other = training.start(PROJECT, adapter, dataset="faq", plan=ranks_by_steps, placement=Placement(memory_bytes=2**49))
    with refused("training_branch_differs", 400):
        training.branch(PROJECT, adapter, other.id, BranchRun(max_steps=12))
    platform.as_("contributor").jobs.cancel(other.job_id)
    assert platform.as_("contributor").jobs.cancel(run.job_id).state is JobState.CANCELLED
    ended = training.get(PROJECT, adapter, run.id)
    assert (ended.state, ended.snapshot_step) == (JobState.CANCELLED, None)


def test_the_life_of_a_run_from_the_command_line(ground: Ground, adapter: str, tmp_path: Path) -> None:
    platform = ground.platform
    shell = Shell(tmp_path, platform.server)
    mine: dict[str, Any] = {"RINGI_SERVER": platform.server, "RINGI_TOKEN": platform.tokens["contributor"]}
    name = f"{PROJECT}/{adapter}"
    # No worker has so much memory: it waits, and rests at once.
    train = ("train", name, "--dataset", "faq", "--max-steps", "5", "--max-length", "64", "--memory-gib", "500000", "--detach")
    run = shell.json(*train, **mine)["id"]
    shown = shell.ok("runs", "pause", name, run, **mine)
    assert "paused" in shown
    assert shell.json("runs", "continue", name, run, "--detach", **mine)["state"] == "queued"
    shell.ok("runs", "pause", name, run, **mine)
    assert "has no snapshot" in shell.refused("runs", "branch", name, run, "--learning-rate", "0.001", code="training_no_snapshot", **mine)
    shell.refused("runs", "curve", name, run, "loss.svg", code="training_no_record", **mine)
    done = trained(platform, adapter, plan=SHORT)
    shell.refused("runs", "curve", name, str(done.id), "nowhere/loss.svg", code="usage", exit_code=2, **mine)
    shell.ok("runs", "curve", name, str(done.id), "loss.svg", **mine)
    assert (tmp_path / "loss.svg").read_text(encoding="utf-8").startswith("<svg ")
    told = shell.ok("runs", "provenance", name, str(done.id), **mine)
    assert done.provenance_digest is not None
    assert done.provenance_digest in told
    assert "not measured" in told
    assert done.provenance_digest in shell.ok("runs", "show", name, str(done.id), **mine)
    again = shell.json("runs", "again", name, str(done.id), **mine)
    assert (again["version"], again["origin"], again["metrics"]["final_loss"]) == (
        done.version, {"run_id": str(done.id), "step": None}, done.metrics.final_loss if done.metrics else None,
    )  # fmt: skip
    # A record of its own, of the same files.
    assert again["provenance_digest"] != done.provenance_digest


@pytest.fixture
def shared_worker(ground: Ground) -> Iterator[Ground]:
    """The platform with one worker, whose runs have two processes."""
    processes = ground.platform.processes
    for name in [name for name in processes.running if name.startswith("worker-gpu")]:
        processes.kill(name)
    own = f"worker-gpu-{uuid4().hex[:6]}"
    processes.start_worker(own, "gpu", RINGI_TRAINING_PROCESSES="2")
    yield ground
    processes.kill(own)
    processes.start_worker("worker-gpu", "gpu")


# The losses of two processes are asked in test_processes.py; here a worker starts them, which loads torch three times.
@pytest.mark.proof
def test_a_worker_shares_a_run_among_processes_that_rest_and_go_on_with_it(shared_worker: Ground, adapter: str) -> None:
    platform = shared_worker.platform
    contributor = platform.as_("contributor")
    run = contributor.training.start(PROJECT, adapter, dataset="faq", plan=SHORT)
    # A worker begins, and then two processes, all of which load torch.
    at_step(platform, run, 1, timeout_s=JOB_S)
    contributor.training.pause(PROJECT, adapter, run.id)
    rested(platform, run.job_id)
    contributor.training.go_on(PROJECT, adapter, run.id)
    platform.succeeded(run.job_id)
    done = contributor.training.get(PROJECT, adapter, run.id)
    assert done.metrics is not None
    assert done.metrics.processes == 2
    assert 0 < done.metrics.resumed_from_step < done.metrics.steps
    assert contributor.training.provenance(PROJECT, adapter, run.id).processes == 2
