"""Searches on the running platform: children of one job, losers stopped, a recommendation with its evidence, workers that die, cancel."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from safetensors.torch import load_file, save_file

from ringi.cli.contexts import Profile, save_profile
from ringi.jobs.schemas import OPEN, JobState
from ringi.searches.schemas import RequestSearch, SearchOut, TrialState
from ringi.training.schemas import TrainingPlan
from support.refusals import refused
from support.running_platform import PROJECT, Platform, Processes
from support.shell import Shell
from support.story import BASE, DATASET, Ground, registered_base
from support.tiny_model import make_tiny_base
from support.waiting import until

pytestmark = pytest.mark.long
PLAN = TrainingPlan(max_steps=36, batch_size=4, max_length=96, checkpoint_every=2)
RANKS, RATES = [2, 8], [1e-6, 5e-3, 2e-2]


@pytest.fixture
def adapter(ground: Ground) -> str:
    return new_adapter(ground)


def new_adapter(ground: Ground) -> str:
    name = f"s-{uuid4().hex[:8]}"
    ground.platform.as_("contributor").adapters.create(PROJECT, name, base=BASE)
    return name


def asked(platform: Platform, adapter: str, **body: object) -> SearchOut:
    wanted = {"adapter": adapter, "dataset": DATASET, "ranks": RANKS, "learning_rates": RATES, "plan": PLAN, "first_steps": 6, **body}
    return platform.as_("contributor").searches.request(PROJECT, RequestSearch.model_validate(wanted))


def seen(platform: Platform, job_id: UUID) -> SearchOut:
    return platform.as_("viewer").searches.get(PROJECT, job_id)


def losses(found: SearchOut) -> list[list[tuple[int, float]]]:
    return [[(one.step, one.validation_loss) for one in child.comparisons] for child in found.children]


@pytest.fixture(scope="module")
def searched(ground: Ground) -> SearchOut:
    made = asked(ground.platform, new_adapter(ground))
    ground.platform.succeeded(made.job_id)
    return seen(ground.platform, made.job_id)


def test_every_trial_has_its_losses_losers_are_stopped_and_one_pair_is_recommended_with_its_evidence(
    ground: Ground, searched: SearchOut
) -> None:
    assert (searched.state, searched.steps, searched.compared_after) == (JobState.SUCCEEDED, 36, [12, 36])
    assert [(one.rank, one.learning_rate, one.alpha) for one in searched.children] == [
        (rank, rate, 2.0 * rank) for rank in RANKS for rate in RATES
    ]
    assert searched.trials == {TrialState.FINISHED: 2, TrialState.STOPPED: 4}
    first = {one.id: one.comparisons[0].validation_loss for one in searched.children}
    ended = {one.id for one in searched.children if one.state is TrialState.FINISHED}
    assert ended == set(sorted(first, key=lambda one: first[one])[:2]), "the two best at the first comparison go on"
    for one in searched.children:
        assert [found.step for found in one.comparisons] == ([12, 36] if one.id in ended else [12])
        assert one.stopped_after == (None if one.id in ended else 12)
        times = [(found.seconds, found.label_tokens) for found in one.comparisons]
        assert times == sorted(times)
        assert all(seconds > 0 and tokens > 0 for seconds, tokens in times)
    advice = searched.recommendation
    assert advice is not None
    assert advice.trial_id in ended
    assert advice.validation_loss == next(one for one in searched.children if one.id == advice.trial_id).comparisons[-1].validation_loss
    assert f"{advice.validation_loss:.4f}" in " ".join(advice.reasons)
    assert "4 trials were stopped after 12 steps" in " ".join(advice.reasons)
    # A search seals nothing.
    assert list(ground.platform.as_("viewer").adapters.versions(PROJECT, searched.adapter.partition("/")[2])) == []


def test_what_is_recommended_is_in_the_log_and_can_be_trained_to_the_same_loss(ground: Ground, searched: SearchOut) -> None:
    advice, platform = searched.recommendation, ground.platform
    assert advice is not None
    (entry,) = platform.logged("training.search.complete", trial=str(advice.trial_id))
    assert (entry.details or {})["rank"] == advice.spec.rank
    told = [one for one in platform.as_("contributor").events.all(PROJECT) if one.data.get("job_id") == str(searched.job_id)]
    assert {one.type for one in told} == {"training.search.requested", "training.search.completed"}
    contributor, name = platform.as_("contributor"), searched.adapter.partition("/")[2]
    spec = advice.spec
    plan = PLAN.model_copy(
        update={"rank": spec.rank, "learning_rate": spec.learning_rate, "early_stopping_patience": 1000, "evaluate_every": 12}
    )
    run = contributor.training.start(PROJECT, name, dataset=DATASET, plan=plan)
    platform.succeeded(run.job_id)
    metrics = contributor.training.get(PROJECT, name, run.id).metrics
    assert metrics is not None
    assert metrics.curve[-1].validation_loss == advice.validation_loss


@pytest.fixture
def worker(shared_platform: Processes) -> Iterator[Processes]:
    """The worker of this process's platform, which is there again afterwards."""
    yield shared_platform
    if not shared_platform.gpu_workers:
        shared_platform.start_worker("worker-gpu", "gpu")


def test_a_search_whose_worker_is_killed_goes_on_where_it_was_and_comes_to_the_same_end(
    ground: Ground, adapter: str, worker: Processes, searched: SearchOut
) -> None:
    platform = ground.platform
    job_id = asked(platform, adapter).job_id

    def begun() -> SearchOut | None:
        found = seen(platform, job_id)
        assert found.state in OPEN, "it ended before it was killed"
        return found if sum(map(len, losses(found))) >= 2 else None

    until(begun, timeout_s=120)
    for name in worker.gpu_workers:
        worker.kill(name)
    before = seen(platform, job_id)
    assert before.recommendation is None
    worker.start_worker("worker-gpu", "gpu")
    assert platform.succeeded(job_id).attempt >= 2
    found = seen(platform, job_id)
    # What was kept is kept, with its seconds; what came after is what an undisturbed search has, to the last bit.
    for earlier, later in zip(before.children, found.children, strict=True):
        assert later.comparisons[: len(earlier.comparisons)] == earlier.comparisons
    assert losses(found) == losses(searched)
    assert [one.state for one in found.children] == [one.state for one in searched.children]
    assert found.recommendation is not None
    assert searched.recommendation is not None
    assert found.recommendation.reasons == searched.recommendation.reasons


def test_a_cancelled_search_keeps_what_was_compared_and_frees_its_adapter(ground: Ground, adapter: str) -> None:
    platform = ground.platform
    # Long enough that it runs until it is cancelled.
    endless = PLAN.model_copy(update={"max_steps": 100_000, "epochs": 1000, "checkpoint_every": 10})
    job_id = asked(platform, adapter, plan=endless, reduction=8, first_steps=20, ranks=[2, 3, 4, 5], learning_rates=[1e-3, 1e-2]).job_id
    with refused("search_in_progress", 409):
        asked(platform, adapter)

    def begun() -> str | None:
        progress = platform.as_("contributor").jobs.get(job_id).progress
        return progress.phase if progress and progress.step else None

    phase = until(begun, timeout_s=60)
    assert phase == "trial 1 of 8: rank 2, learning rate 0.001"
    platform.as_("contributor").jobs.cancel(job_id)
    assert platform.ended(job_id).state is JobState.CANCELLED
    found = seen(platform, job_id)
    assert found.trials == {TrialState.CANCELLED: 8}
    assert (found.recommendation, found.compared_after) == (None, [12500, 100_000])
    again = asked(platform, adapter, placement={"memory_bytes": 2**50})
    platform.as_("contributor").jobs.cancel(again.job_id)


def test_trials_that_diverge_fail_with_their_reason_and_where_all_do_nothing_is_recommended(ground: Ground, tmp_path: Path) -> None:
    platform, name = ground.platform, f"wild-{uuid4().hex[:8]}"
    folder = make_tiny_base(tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    # A logit beyond float32 for one token in every row: no rate can train this.
    weights["lm_head.weight"][0] = 3e38
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    registered_base(platform, folder, name=name)
    platform.as_("contributor").adapters.create(PROJECT, name, base=name)
    made = asked(platform, name, ranks=[1, 2], learning_rates=[1e-3])
    platform.succeeded(made.job_id)
    found = seen(platform, made.job_id)
    ended = [(one.state, one.problem.code if one.problem else None, one.comparisons) for one in found.children]
    assert ended == [(TrialState.FAILED, "training_diverged", [])] * 2
    assert found.recommendation is None
    (entry,) = [one for one in platform.logged("training.search.complete") if one.object_id == str(made.job_id)]
    assert (entry.details or {})["rank"] is None


def test_a_search_that_would_waste_its_worker_is_not_started(ground: Ground, adapter: str) -> None:
    platform = ground.platform
    with refused("training_preflight_refused", 409):
        asked(platform, adapter, plan=PLAN.model_copy(update={"target_modules": ["query_key_value"]}))
    with refused("not_found", 404):
        asked(platform, "nobody")
    assert list(platform.as_("viewer").searches.all(PROJECT, filter=[f"adapter={PROJECT}/{adapter}"])) == []


def test_the_command_shows_every_trial_and_the_command_that_trains_the_winner(ground: Ground, searched: SearchOut, tmp_path: Path) -> None:
    platform = ground.platform
    save_profile(tmp_path / "config.json", "mine", Profile(server=platform.server, token=platform.tokens["contributor"]), replace=False)
    shell, mine = Shell(tmp_path, platform.server), ("--profile", "mine")
    shown = shell.ok("searches", "show", PROJECT, str(searched.job_id), *mine, COLUMNS="300")
    advice = searched.recommendation
    assert advice is not None
    assert shown.count("stopped after 12 steps") >= 4
    wanted = f"ringi train {searched.adapter} --dataset {DATASET}:v1 --base-revision r1 --rank {advice.spec.rank}"
    assert wanted in shown
    assert "--max-steps 36 --batch-size 4" in shown
    assert str(searched.job_id) in shell.ok("searches", "list", PROJECT, *mine, COLUMNS="300")
    name = new_adapter(ground)
    options = ("--rank", "2", "--rank", "4", "--learning-rate", "0.01", "--max-steps", "4", "--batch-size", "4", "--max-length", "96")
    found = SearchOut.model_validate(shell.json("search-rank", f"{PROJECT}/{name}", "--dataset", DATASET, *options, *mine))
    assert (found.state, [one.state for one in found.children]) == (JobState.SUCCEEDED, [TrialState.FINISHED] * 2)
    assert found.recommendation is not None
    unsaid = shell.json("search-rank", f"{PROJECT}/{name}", "--dataset", DATASET, "--rank", "2", "--detach", *mine)
    # Around the rate that `ringi train` takes for this base (tests/training/test_rates.py).
    assert [one["learning_rate"] for one in unsaid["children"]] == [0.00047, 0.0014, 0.0042]
    shell.ok("jobs", "cancel", unsaid["job_id"], *mine)
    assert platform.ended(UUID(unsaid["job_id"])).state is JobState.CANCELLED
