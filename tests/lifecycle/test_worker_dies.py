"""kill -9 of the training worker at a drawn moment: another worker goes on from the last checkpoint, and exactly one version appears."""

import os
import random
from uuid import UUID, uuid4

import psycopg
import pytest

from ringi.jobs.schemas import OPEN, JobOut
from support.running_platform import PROJECT, Processes
from support.seeds import drawn_seed, kept_seed
from support.story import BASE, PLAN, Ground
from support.waiting import until

pytestmark = pytest.mark.long

SEED = "RINGI_KILL_SEED"
# About ten seconds of training on one core, with a checkpoint every twentieth.
STEPS = 400
PLAN_OF_TEN_SECONDS = PLAN.model_copy(update={"max_steps": STEPS, "epochs": 10, "checkpoint_every": 20})


def trainers(processes: Processes) -> list[str]:
    return [name for name in processes.running if name.startswith("worker-gpu")]


def checkpoint_of(processes: Processes, job: UUID) -> int:
    """The step of the job's newest checkpoint; 0 where there is none."""
    with psycopg.connect(processes.urls.superuser_url.replace("postgresql+psycopg", "postgresql")) as database:
        row = database.execute("SELECT checkpoint->>'step' FROM jobs WHERE id = %s", [job]).fetchone()
    assert row is not None
    return int(row[0] or 0)


def kill_while_training(ground: Ground, seed: int) -> None:
    draw = random.Random(seed)
    platform, processes = ground.platform, ground.platform.processes
    while len(trainers(processes)) < 2:
        processes.start_worker(f"worker-gpu-{uuid4().hex[:6]}", "gpu")
    contributor, adapter = platform.as_("contributor"), f"killed-{uuid4().hex[:8]}"
    contributor.adapters.create(PROJECT, adapter, base=BASE)
    run = contributor.training.start(
        PROJECT, adapter, dataset="faq", plan=PLAN_OF_TEN_SECONDS.model_copy(update={"seed": draw.randrange(2**31)})
    )
    # Past the last step the moment is in the measuring of the effect.
    moment = draw.randrange(int(1.1 * STEPS))

    def reached() -> JobOut | None:
        job = contributor.jobs.get(run.job_id)
        progress = job.progress
        trained = progress is not None and ((progress.step or 0) >= moment or progress.phase == "measuring the effect")
        return job if trained or job.state not in OPEN else None

    found = until(reached, timeout_s=120)
    assert found is not None
    print(f"seed {seed}: killed once step {moment} was seen, at {found.progress}, {found.state}")
    killed = found.state in OPEN
    if killed:
        processes.kill(processes.name_of(found.lease_owner or ""))
    checkpoint = checkpoint_of(processes, run.job_id)
    done = platform.succeeded(run.job_id)
    metrics = contributor.training.get(PROJECT, adapter, run.id).metrics
    assert metrics is not None
    assert metrics.steps == STEPS
    if done.attempt == 2:
        assert metrics.resumed_from_step == checkpoint
    else:
        # It was done, and had said so, before the signal came.
        assert done.attempt == 1
    assert [version.number for version in contributor.adapters.versions(PROJECT, adapter)] == [1]
    assert len(platform.logged("adapter.version.seal", job=str(run.job_id))) == 1


@pytest.mark.parametrize("kill", [1, pytest.param(2, marks=pytest.mark.proof)])
def test_a_killed_run_is_finished_by_another_worker_from_its_last_checkpoint(ground: Ground, kill: int) -> None:
    kill_while_training(ground, kept_seed(SEED) + kill)


@pytest.mark.proof
@pytest.mark.timeout(0)
def test_many_kills_never_lose_or_double_a_version(ground: Ground) -> None:
    count, seed = int(os.environ.get("RINGI_PROOF_KILLS", "50")), drawn_seed(SEED)
    for kill in range(count):
        kill_while_training(ground, seed + kill)
    print(f"{count} kills, seed {seed}: {count} versions")
