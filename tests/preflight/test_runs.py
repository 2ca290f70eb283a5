"""The preflight of a real platform: a dry run starts nothing, a refusal takes no worker, a warning stays with its run."""

import json
from pathlib import Path
from uuid import uuid4

import pytest

from ringi.cli.contexts import Profile, save_profile
from ringi.jobs.contracts.training import Gravity
from ringi.preflight.memory import memory_of
from ringi.preflight.schemas import AskEstimate, Gpu, Precision
from ringi.preflight.shapes import shape_of
from ringi.tags.schemas import Taggable
from ringi.training.schemas import TrainingPlan
from support.refusals import refused
from support.running_platform import PROJECT
from support.shell import Shell
from support.story import BASE, DATASET, PLAN, Ground
from support.tiny_model import tiny_rows

SHORT = PLAN.model_copy(update={"max_steps": 3})
WRONG = PLAN.model_copy(update={"target_modules": ["q_proj", "w_pack"]})


@pytest.fixture
def adapter(ground: Ground) -> str:
    name = f"pre-{uuid4().hex[:8]}"
    ground.platform.as_("contributor").adapters.create(PROJECT, name, base=BASE)
    return name


def codes(ground: Ground, adapter: str, plan: TrainingPlan) -> dict[str, Gravity]:
    found = ground.platform.as_("contributor").training.check(PROJECT, adapter, dataset="faq:v1", plan=plan)
    return {one.code: one.gravity for one in found.findings}


def test_a_dry_run_says_what_a_run_would_need_and_starts_nothing(ground: Ground, adapter: str) -> None:
    contributor = ground.platform.as_("contributor")
    found = contributor.training.check(PROJECT, adapter, dataset="faq:v1", plan=SHORT)
    assert not found.refused
    # The rows of the tests are much alike.
    assert [one.code for one in found.findings] == ["preflight_no_licence", "preflight_near_leakage"]
    assert found.estimate is not None
    facts = contributor.bases.revision(BASE).facts
    assert facts is not None
    assert found.estimate.parameters == facts.parameters
    assert found.estimate.workload.rows == contributor.datasets.version(PROJECT, DATASET).report.train_rows
    assert found.estimate.workload.tokens_per_row is not None
    # The only worker is a CPU, and the base is stored in float32.
    assert (facts.dtypes, found.estimate.workload.precision) == (("F32",), Precision.FP32)
    assert [one.device for one in found.estimate.devices] != []
    assert list(contributor.training.all(PROJECT, adapter)) == []


def test_a_run_that_would_waste_its_worker_is_refused_with_every_finding_and_leaves_nothing(ground: Ground, adapter: str) -> None:
    contributor = ground.platform.as_("contributor")
    before = len(list(contributor.jobs.all()))
    with refused("training_preflight_refused", 409) as refusal:
        contributor.training.start(PROJECT, adapter, dataset="faq:v1", plan=WRONG)
    reasons = {one["code"]: one["gravity"] for one in refusal.details["reasons"]}
    assert reasons == {"preflight_target_unmatched": "refuse", "preflight_no_licence": "warn", "preflight_near_leakage": "warn"}
    assert "w_pack" in refusal.message
    assert "q_proj" in refusal.next_step
    assert list(contributor.training.all(PROJECT, adapter)) == []
    assert len(list(contributor.jobs.all())) == before
    assert codes(ground, adapter, WRONG)["preflight_target_unmatched"] is Gravity.REFUSE


def test_a_warning_stays_with_its_run_and_a_licence_ends_it(ground: Ground, adapter: str) -> None:
    contributor = ground.platform.as_("contributor")
    first = contributor.training.start(PROJECT, adapter, dataset="faq:v1", plan=SHORT.model_copy(update={"max_length": 16}))
    told = {one.code: one.gravity for one in first.preflight}
    assert told == dict.fromkeys(("preflight_no_licence", "preflight_near_leakage", "preflight_rows_truncated"), Gravity.WARN)
    ground.platform.succeeded(first.job_id)
    assert contributor.training.get(PROJECT, adapter, first.id).preflight == first.preflight
    tag = next(one for one in contributor.datasets.all(PROJECT) if one.name == DATASET).id
    contributor.tags.set(Taggable.DATASET, tag, "license", "CC-BY-4.0")
    assert codes(ground, adapter, SHORT) == {"preflight_near_leakage": Gravity.WARN}
    contributor.tags.remove(Taggable.DATASET, tag, "license")


def test_a_batch_beyond_the_rows_and_rows_beyond_the_context_are_told(ground: Ground, adapter: str) -> None:
    found = codes(ground, adapter, SHORT.model_copy(update={"batch_size": 4096, "max_length": 1024}))
    assert found["preflight_batch_exceeds_rows"] is Gravity.WARN
    assert found["preflight_context_exceeded"] is Gravity.WARN


def test_a_registered_base_is_forecast_like_its_config(ground: Ground) -> None:
    ask = AskEstimate(rank=4, target_modules=["q_proj"], gpu=[Gpu.A100], dataset=f"{PROJECT}/{DATASET}:v1", label_tokens_per_row=2)
    found = ground.platform.as_("contributor").bases.estimate(BASE, "r1", ask=ask)
    shape = shape_of(json.loads((ground.base / "config.json").read_text()))
    assert found.memory == memory_of(shape, ask.workload, device=Gpu.A100)
    assert found.parameters == shape.parameters
    assert found.workload.label_tokens_per_row == 2
    (one,) = found.devices
    assert one.duration is not None
    assert one.cost is not None
    assert one.cost.example


def test_what_is_not_in_sight_has_no_forecast(ground: Ground) -> None:
    bases = ground.platform.as_("contributor").bases
    for dataset in ("elsewhere/faq", f"{PROJECT}/nothing", f"{PROJECT}/{DATASET}:v99"):
        with refused("not_found", 404):
            bases.estimate(BASE, ask=AskEstimate(dataset=dataset))
    with refused("not_found", 404):
        bases.estimate(BASE, "r99", ask=AskEstimate())


@pytest.mark.parametrize("named", [("--rank", "4"), ("--target-module", "q_proj")])
@pytest.mark.parametrize("registered", [False, True])
def test_a_rank_beside_full_fine_tuning_is_refused_and_not_passed_over(
    ground: Ground, tmp_path: Path, named: tuple[str, str], registered: bool
) -> None:
    shell = Shell(tmp_path, ground.platform.server)
    save_profile(
        tmp_path / "config.json", "contributor", Profile(server=ground.platform.server, token=ground.platform.tokens["contributor"]), replace=False
    )  # fmt: skip
    asked = ("estimate", BASE if registered else str(ground.base), "--method", "full", "--profile", "contributor")
    assert shell.json(*asked)["workload"]["method"] == "full"
    field = {"--rank": "rank", "--target-module": "target_modules"}[named[0]]
    said = shell.refused(*asked, *named, code="bad_value", exit_code=2)
    assert f"Full fine-tuning trains every weight and has no {field}." in said
    assert shell.json(*asked[:2], *named, "--profile", "contributor")["workload"]["method"] == "lora"


def test_the_commands_show_it_and_a_refused_dry_run_ends_with_one(ground: Ground, adapter: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path, ground.platform.server)
    profile = Profile(server=ground.platform.server, token=ground.platform.tokens["contributor"])
    save_profile(tmp_path / "config.json", "contributor", profile, replace=False)
    shown = shell.ok("estimate", str(ground.base), "--rows", "1000", "--tokens-per-row", "20", "--gpu", "a100-80gb")
    assert "peak" in shown
    assert "EXAMPLE PRICE" in shown
    assert shell.json("estimate", BASE, "--profile", "contributor", "--dataset", f"{PROJECT}/{DATASET}")["workload"]["rows"] > 100
    train = ("train", f"{PROJECT}/{adapter}", "--dataset", DATASET, "--profile", "contributor", "--check")
    assert "preflight_no_licence" in shell.ok(*train)
    rows = tmp_path / "質問.jsonl"
    rows.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in tiny_rows(60)), encoding="utf-8")
    shell.ok("datasets", "create", f"{PROJECT}/licensed-{adapter}", "--profile", "contributor")
    shell.ok("datasets", "add", f"{PROJECT}/licensed-{adapter}", str(rows), "--licence", "CC BY 4.0", "--profile", "contributor")
    told = shell.ok("train", f"{PROJECT}/{adapter}", "--dataset", f"licensed-{adapter}", "--profile", "contributor", "--check")
    assert "preflight_no_licence" not in told, "what was sealed with the rows counts"
    done = shell.run(*train, "--target-module", "w_pack", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["refused"]
