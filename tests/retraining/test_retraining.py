"""New rows start the retraining of exactly the adapters that depend on them, once, up to a request for approval and no further."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from ringi.adapters.schemas import VersionState
from ringi.approvals.schemas import RequestState
from ringi.cli.contexts import Profile, save_profile
from ringi.datasets.models import DatasetVersion
from ringi.datasets.schemas import DatasetTerms
from ringi.identity.schemas import Role
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.retraining import service
from ringi.retraining.schemas import RetrainingOut, RetrainingState, SetRetrainingPolicy
from ringi.training.schemas import TrainingPlan
from support.refusals import refused
from support.running_platform import PROJECT, Platform, Processes, start_watcher
from support.shell import Shell
from support.story import BASE, DATASET, PLAN, Sources, registered_base, sealed_dataset, trained
from support.tiny_model import make_tiny_rows
from support.waiting import until

pytestmark = pytest.mark.long
FEW = PLAN.model_copy(update={"max_steps": 3})
FULL = {"method": "full", "max_steps": 3, "max_length": 128, "learning_rate": 0.01}
ENDLESS = PLAN.model_copy(update={"max_steps": 100_000, "epochs": 1000})


@pytest.fixture
def watcher(shared_platform: Processes) -> Iterator[Processes]:
    """The platform without its watcher, which is there again afterwards, alone."""
    shared_platform.kill("watcher")
    yield shared_platform
    for name in [one for one in shared_platform.running if one.startswith("watcher")]:
        shared_platform.kill(name)
    start_watcher(shared_platform)


def added(platform: Platform, folder: Path, rows: int) -> int:
    """The number of the next version of the dataset, which has so many rows: those of before and new ones."""
    datasets = platform.as_("contributor").datasets
    platform.succeeded(datasets.add_version(PROJECT, DATASET, make_tiny_rows(folder / f"{rows}.jsonl", rows)).job_id)
    return datasets.version(PROJECT, DATASET).number


def seen(platform: Platform, *conditions: str) -> dict[tuple[str, str], RetrainingOut]:
    """By adapter and dataset version."""
    found = platform.as_("viewer").retraining.all(PROJECT, filter=list(conditions))
    return {(one.adapter.partition("/")[2], one.dataset.partition(":")[2]): one for one in found}


def runs(platform: Platform, adapter: str) -> list[str]:
    """The dataset versions of its runs, oldest first."""
    return [one.dataset.partition(":")[2] for one in platform.as_("viewer").training.all(PROJECT, adapter)][::-1]


def made(platform: Platform, adapter: str, plan: TrainingPlan, dataset: str = DATASET) -> None:
    platform.as_("contributor").adapters.create(PROJECT, adapter, base=BASE)
    trained(platform, adapter, plan=plan, dataset=dataset)


def test_exactly_the_dependents_are_retrained_once_up_to_a_request_for_approval(
    platform: Platform, sources: Sources, watcher: Processes, tmp_path: Path
) -> None:
    registered_base(platform, sources.base)
    sealed_dataset(platform, sources.rows)
    sealed_dataset(platform, make_tiny_rows(tmp_path / "other.jsonl", 60, seed=5), name="other")
    made(platform, "learned", PLAN)
    made(platform, "other", FEW)
    made(platform, "elsewhere", FEW, dataset="other")
    # To compare with: nobody depends on it.
    trained(platform, "elsewhere", plan=TrainingPlan.model_validate(FULL))
    # Trained on the dataset once, and on another since.
    made(platform, "moved", FEW)
    trained(platform, "moved", plan=FEW, dataset="other")
    made(platform, "ended", FEW)
    platform.as_("contributor").adapters.advance(PROJECT, "ended", "v1", to=VersionState.RETIRED, reason="もう使わないため引退させる")
    platform.add_user("policy", Role.POLICY_ADMIN, project=None)

    assert (added(platform, tmp_path, 930), seen(platform)) == (2, {})
    with refused("forbidden", 403):
        platform.as_("contributor").retraining.set_policy(PROJECT, SetRetrainingPolicy(enabled=True))
    policies = platform.as_("policy").retraining
    assert policies.policy(PROJECT).enabled is False
    assert policies.set_policy(PROJECT, SetRetrainingPolicy(enabled=True)).row_version == 1

    # Other terms of the same rows bring nothing to learn.
    source = platform.as_("contributor").upload(sources.rows).digest
    terms = DatasetTerms(licence="CC BY 4.0")
    platform.succeeded(platform.as_("contributor").datasets.seal_source(PROJECT, DATASET, source, terms=terms).job_id)
    assert platform.as_("viewer").datasets.version(PROJECT, DATASET).number == 3
    assert seen(platform) == {}

    training, jobs = platform.as_("contributor").training, platform.as_("contributor").jobs
    busy = {name: training.start(PROJECT, name, dataset=f"{DATASET}:v1", plan=ENDLESS).job_id for name in ("learned", "other")}
    assert (added(platform, tmp_path, 960), added(platform, tmp_path, 990)) == (4, 5)
    wanted = {(adapter, version) for adapter in ("learned", "other") for version in ("v4", "v5")}
    assert seen(platform, "state=waiting").keys() == seen(platform).keys() == wanted
    _planned_once(platform)

    # However many look, each thing is asked for once; an adapter that is busy is waited for, and the others are not.
    for name in ("watcher", "watcher-2", "watcher-3"):
        start_watcher(watcher, name)
    jobs.cancel(busy["learned"])
    until(lambda: seen(platform)["learned", "v5"].state is RetrainingState.TRAINING, timeout_s=60)
    assert {one.state for (name, _), one in seen(platform).items() if name == "other"} == {RetrainingState.WAITING}
    # What has begun goes on to its end, what waits is not begun.
    policies.set_policy(PROJECT, SetRetrainingPolicy(enabled=False))
    jobs.cancel(busy["other"])
    until(lambda: len(seen(platform, "completed_at>2020-01-01")) == len(wanted), timeout_s=240)
    found = seen(platform)
    assert {key: one.state for key, one in found.items()} == {
        ("learned", "v4"): RetrainingState.SUPERSEDED, ("learned", "v5"): RetrainingState.REQUESTED,
        ("other", "v4"): RetrainingState.REFUSED, ("other", "v5"): RetrainingState.REFUSED,
    }  # fmt: skip
    assert {name: runs(platform, name) for name in ("learned", "other", "elsewhere", "moved", "ended")} == {
        "learned": ["v1", "v1", "v5"], "other": ["v1", "v1"], "elsewhere": ["v1", "v1"], "moved": ["v1", "v1"], "ended": ["v1"],
    }  # fmt: skip
    _as_before_and_no_further(platform, found["learned", "v5"])
    assert [one.problem and one.problem.code for (name, _), one in found.items() if name == "other"] == ["retraining_policy_off"] * 2
    _shown(platform, tmp_path)


def _planned_once(platform: Platform) -> None:
    """A seal that is told twice plans nothing twice."""
    engine = create_engine(platform.processes.urls.app_url)
    with Session(engine) as session, session.begin():
        newest = platform.as_("viewer").datasets.version(PROJECT, DATASET).id
        version = session.scalars(select(DatasetVersion).where(DatasetVersion.id == newest)).one()
        job = session.scalars(select(Job).where(Job.project_id == version.project_id).limit(1)).one()
        assert {run.adapter.name for run in service.dependents(session, version)} == {"learned", "other"}
        assert service.plan(session, job, version) == []
    engine.dispose()
    assert len(platform.logged("retraining.plan")) == 4


def _as_before_and_no_further(platform: Platform, one: RetrainingOut) -> None:
    viewer = platform.as_("viewer")
    before, _, run = list(viewer.training.all(PROJECT, "learned"))[::-1]
    assert (run.id, run.spec, run.base, one.trained_before, one.version) == (
        one.run_id, before.spec, before.base, f"{PROJECT}/{DATASET}:v1", f"{PROJECT}/learned:v2",
    )  # fmt: skip
    (evaluation,) = viewer.evaluations.all_of_project(PROJECT, filter=["adapter=learned"])
    assert (evaluation.id, evaluation.state, evaluation.dataset) == (one.evaluation_id, JobState.SUCCEEDED, f"{PROJECT}/{DATASET}:v5")
    (request,) = viewer.approvals.all(PROJECT)
    # Whoever added the rows has asked, and so cannot vote; nobody else has done anything.
    assert (request.id, request.state, request.requester) == (one.request_id, RequestState.IN_REVIEW, "contributor")
    assert request.note == f"Retrained by policy on {PROJECT}/{DATASET}:v5."
    assert one.on_behalf_of == platform.as_("contributor").identity.whoami().id
    assert platform.logged("approval.grant") == platform.logged("release.publish") == []
    (entry,) = platform.logged("retraining.end", request=str(one.request_id))
    assert (entry.actor_type, entry.actor, (entry.details or {})["state"]) == ("system", "retraining", "requested")


def _shown(platform: Platform, home: Path) -> None:
    for name in ("viewer", "policy"):
        save_profile(home / "config.json", name, Profile(server=platform.server, token=platform.tokens[name]), replace=False)
    shell = Shell(home, platform.server)
    listed = shell.ok("retraining", "list", PROJECT, "--profile", "viewer", COLUMNS="300")
    assert "retraining_policy_off" in listed
    assert "superseded" in listed
    assert shell.json("retraining", "policy", PROJECT, "--on", "--profile", "policy")["enabled"] is True
    assert shell.json("retraining", "policy", PROJECT, "--profile", "viewer") == {
        "enabled": True, "environment": "production", "project": PROJECT, "row_version": 3,
    }  # fmt: skip
    platform.as_("deployer").releases.create_channel(PROJECT, "live", environment="production")
    misspelt = shell.run("retraining", "policy", PROJECT, "--environment", "prodution", "--profile", "policy")
    assert (misspelt.returncode, "they serve production" in misspelt.stderr) == (0, True), misspelt.stderr
