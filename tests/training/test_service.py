"""Training runs through the API and real workers: one at a time, cancelled, refused with codes, and never half a version."""

from uuid import uuid4

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from ringi.adapters.models import AdapterVersion
from ringi.adapters.schemas import VersionState
from ringi.approvals.service import built_on
from ringi.jobs.contracts.methods import Quantisation
from ringi.jobs.schemas import JobState, Placement
from ringi.training.schemas import RunOut, TrainingPlan
from support.at_once import at_once, codes
from support.refusals import refused
from support.running_platform import PROJECT
from support.story import BASE, PLAN, Ground
from support.waiting import until

# Long enough that it runs until it is cancelled.
ENDLESS = PLAN.model_copy(update={"max_steps": 100_000, "epochs": 1000})


@pytest.fixture
def adapter(ground: Ground) -> str:
    name = f"run-{uuid4().hex[:8]}"
    ground.platform.as_("contributor").adapters.create(PROJECT, name, base=BASE)
    return name


def test_a_second_run_at_once_is_refused_and_a_cancelled_run_leaves_no_version(ground: Ground, adapter: str) -> None:
    contributor = ground.platform.as_("contributor")
    run = contributor.training.start(PROJECT, adapter, dataset="faq:v1", plan=ENDLESS)
    with refused("training_run_in_progress", 409):
        contributor.training.start(PROJECT, adapter, dataset="faq:v1")
    until(lambda: (job := contributor.jobs.get(run.job_id)).progress and job.progress.step, timeout_s=60)
    with refused("forbidden", 403):
        ground.platform.as_("reviewer").jobs.cancel(run.job_id)
    assert contributor.jobs.cancel(run.job_id).cancel_requested
    ended = ground.platform.ended(run.job_id)
    assert (ended.state, ended.attempt) == (JobState.CANCELLED, 1)
    assert list(contributor.adapters.versions(PROJECT, adapter)) == []
    assert contributor.training.get(PROJECT, adapter, run.id).version is None
    after = contributor.training.start(PROJECT, adapter, dataset="faq:v1", plan=PLAN.model_copy(update={"max_steps": 5}))
    ground.platform.ended(after.job_id)


def test_of_four_runs_started_at_the_same_moment_one_starts(ground: Ground, adapter: str) -> None:
    platform = ground.platform
    results = at_once(platform, *[("contributor", lambda c: c.training.start(PROJECT, adapter, dataset="faq:v1", plan=ENDLESS))] * 4)
    (run,) = list(platform.as_("contributor").training.all(PROJECT, adapter))
    platform.as_("contributor").jobs.cancel(run.job_id)
    assert codes(results) == ["done", *["training_run_in_progress"] * 3]
    assert platform.ended(run.job_id).state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"dataset": "faq:v9"}, 404, "not_found"),
        ({"dataset": "nothing"}, 404, "not_found"),
        ({"dataset": "../faq"}, 422, "malformed_request"),
        ({"dataset": "faq", "base_revision": "r9"}, 404, "not_found"),
        ({"dataset": "faq", "base_revision": "main"}, 404, "not_found"),
        ({"dataset": "faq", "plan": {"rank": 0}}, 422, "malformed_request"),
        ({"dataset": "faq", "plan": {"learning_rate": "NaN"}}, 422, "malformed_request"),
        ({"dataset": "faq", "plan": {"target_modules": ["q_proj; import os"]}}, 422, "malformed_request"),
        ({"dataset": "faq", "plan": {"lora_rank": 8}}, 422, "malformed_request"),
        ({"dataset": "faq", "plan": {"method": "ia3", "init": "pissa"}}, 422, "malformed_request"),
        ({"dataset": "faq", "start_from": "v9"}, 404, "not_found"),
        ({"dataset": "faq", "stacked": True}, 422, "malformed_request"),
    ],
)
def test_a_run_that_cannot_start_starts_nothing(ground: Ground, adapter: str, body: dict[str, object], status: int, code: str) -> None:
    answer = ground.platform.call("contributor", "POST", f"/projects/{PROJECT}/adapters/{adapter}/runs", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert list(ground.platform.as_("contributor").training.all(PROJECT, adapter)) == []


def test_a_run_without_learning_seals_nothing(ground: Ground, adapter: str) -> None:
    """A rate so small that B stays zero to the last bit: the effect proof refuses what training brought."""
    contributor = ground.platform.as_("contributor")
    run = contributor.training.start(
        PROJECT, adapter, dataset="faq", plan=TrainingPlan(rank=1, max_steps=1, learning_rate=1e-30, max_length=64)
    )
    ended = ground.platform.ended(run.job_id)
    assert ended.error is not None
    assert (ended.state, ended.error.code) == (JobState.FAILED, "adapter_refused")
    assert [reason["code"] for reason in ended.error.details["reasons"]] == ["adapter_no_effect"]
    assert list(contributor.adapters.versions(PROJECT, adapter)) == []
    (event,) = ground.platform.logged("training.run.fail", job=str(run.job_id))
    assert (event.details or {})["code"] == "adapter_refused"


def test_a_run_begins_from_a_version_in_its_form_or_is_stacked_on_it(ground: Ground, adapter: str) -> None:
    """Three versions: of another method, of the same weights learnt on, and, of a plain LoRA, the sum with a new one."""
    contributor, short = ground.platform.as_("contributor"), {"max_steps": 4, "max_length": 64, "learning_rate": 0.02}

    def trained(plan: TrainingPlan, *, start_from: str | None = None, stacked: bool = False) -> RunOut:
        run = contributor.training.start(PROJECT, adapter, dataset="faq", plan=plan, start_from=start_from, stacked=stacked)
        assert ground.platform.ended(run.job_id).state is JobState.SUCCEEDED
        return contributor.training.get(PROJECT, adapter, run.id)

    first = trained(TrainingPlan.model_validate(short | {"init": "pissa", "rank": 2}))
    again = trained(TrainingPlan.model_validate(short), start_from="v1")
    assert (again.started_from, again.stacked) == (first.version, False)
    # PiSSA of rank 2 is sealed as a LoRA of rank 4, and that is what goes on.
    assert (again.spec.method, again.spec.init, again.spec.rank, again.spec.alpha) == ("lora", "zero", 4, 4.0)
    stacked = trained(TrainingPlan.model_validate(short | {"rank": 3, "target_modules": ["q_proj"]}), start_from="v2", stacked=True)
    assert (stacked.started_from, stacked.stacked) == (again.version, True)
    facts = contributor.adapters.version(PROJECT, adapter, "v3").facts
    ranks = {tensor.name.split(".")[-3]: tensor.shape[0] for tensor in facts.tensors if ".lora_A." in tensor.name}
    assert ranks["q_proj"] == 7
    assert ranks["v_proj"] == 4
    vectors = trained(TrainingPlan.model_validate(short | {"method": "ia3"}))
    sealed = contributor.adapters.version(PROJECT, adapter, "v4")
    assert (sealed.facts.peft_type, sealed.facts.rank) == ("IA3", None)
    assert contributor.adapters.manifest(PROJECT, adapter, "v4").manifest["format"] == "peft-ia3/1"
    with refused("training_warm_start_not_stackable", 400):
        contributor.training.start(PROJECT, adapter, dataset="faq", start_from=str(vectors.version).partition(":")[2], stacked=True)
    with refused("training_warm_start_differs", 400):
        contributor.training.start(PROJECT, adapter, dataset="faq", plan=TrainingPlan(rank=32), start_from="v1")
    # What is named counts, also where it is what a plan without it would have.
    for named in ({"method": "lora"}, {"target_modules": ["down_proj"]}):
        with refused("training_warm_start_differs", 400):
            contributor.training.start(PROJECT, adapter, dataset="faq", plan=TrainingPlan.model_validate(named), start_from="v4")
    with refused("training_warm_start_clashes", 400):
        contributor.training.start(PROJECT, adapter, dataset="faq", plan=TrainingPlan(quantisation=Quantisation.NF4), start_from="v4")
    # Who may vote on the sum depends on who made what is inside.
    engine = create_engine(ground.platform.processes.urls.owner_url)
    with Session(engine) as session:
        query = select(AdapterVersion).where(AdapterVersion.id == contributor.adapters.version(PROJECT, adapter, "v3").id)
        assert {one.number for one in built_on(session, session.scalars(query).one())} == {1, 2, 3}
    engine.dispose()
    # What was revoked meanwhile is not built on.
    waits = contributor.training.start(PROJECT, adapter, dataset="faq", start_from="v1", placement=Placement(memory_bytes=2**49))
    contributor.training.pause(PROJECT, adapter, waits.id)
    commander = ground.platform.as_("incident_commander").adapters
    commander.advance(PROJECT, adapter, "v1", to=VersionState.REVOKED, reason="個人情報を覚えていたため取り消す")
    with refused("training_warm_start_revoked", 409):
        contributor.training.go_on(PROJECT, adapter, waits.id)
    contributor.jobs.cancel(waits.job_id)
    # Factors that go on have the rate of factors, though the plan names no method.
    ground.platform.ended(waits.job_id)
    later = contributor.training.start(PROJECT, adapter, dataset="faq", start_from="v4", placement=Placement(memory_bytes=2**49))
    assert (later.spec.method, later.spec.learning_rate) == ("ia3", 3e-3)
    contributor.jobs.cancel(later.job_id)
