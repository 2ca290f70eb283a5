import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ringi.adapters.config_gate import check_config
from ringi.jobs.contracts.training import Schedule
from ringi.kit.digests import canonical_json, sha256_file
from ringi_workers.failures import WorkPaused
from ringi_workers.training.checkpoint import CheckpointForeign
from ringi_workers.training.export import WEIGHTS_FILE
from ringi_workers.training.refusals import TrainingCancelled, TrainingDiverged
from ringi_workers.training.targets import UnknownTargetModules
from support.recipes import COMMIT, SPEC, Follower, mean_nll, run
from support.tiny_model import make_tiny_base, make_tiny_rows

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 160)


def test_training_lowers_the_loss_on_rows_it_has_not_seen(base: Path, rows: Path, tmp_path: Path) -> None:
    sink = Follower()
    trained = run(base, rows, tmp_path / "out", sink=sink)
    unseen = make_tiny_rows(tmp_path / "unseen.jsonl", 30, seed=99)
    before, after = mean_nll(base, unseen, None), mean_nll(base, unseen, trained.directory)
    assert after < before - 1.0
    metrics = trained.metrics
    assert metrics.first_loss is not None
    assert metrics.first_loss == pytest.approx(before, rel=0.1)
    assert metrics.final_loss is not None
    assert metrics.final_loss < metrics.first_loss
    assert (metrics.steps, metrics.rows, metrics.skipped_rows, metrics.resumed_from_step) == (40, 160, 0, 0)
    last = [progress for progress in sink.reports if progress.phase == "training"][-1]
    assert (last.step, last.total, last.eta_s) == (40, 40, 0.0)
    assert last.tokens_per_s is not None


def test_the_loss_of_a_step_is_the_mean_over_its_label_tokens(base: Path, tmp_path: Path) -> None:
    few = make_tiny_rows(tmp_path / "few.jsonl", 6)
    spec = SPEC.model_copy(update={"dropout": 0.0, "max_steps": 1})
    sink = Follower()
    run(base, few, tmp_path / "out", spec=spec, sink=sink)
    # A fresh adapter changes nothing (B is zero), so the first loss is the bare base's.
    assert sink.figures[1]["loss"] == pytest.approx(mean_nll(base, few, None), rel=1e-5)


def test_a_run_resumed_from_a_checkpoint_ends_with_the_same_weights(base: Path, rows: Path, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"max_steps": 32})
    whole = run(base, rows, tmp_path / "whole", spec=spec)
    folder = tmp_path / "checkpoints"
    with pytest.raises(TrainingCancelled):
        run(base, rows, tmp_path / "cut", spec=spec, sink=Follower(stop_at=27), folder=folder)
    torch.rand(100)  # another process would have another random state
    again = Follower()
    resumed = run(base, rows, tmp_path / "resumed", spec=spec, sink=again, folder=folder)
    assert resumed.metrics.resumed_from_step == 24
    assert min(again.figures) == 25
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert sha256_file(resumed.directory / file) == sha256_file(whole.directory / file)
    # peft writes a set's order, which another process has otherwise; in two processes it is asked by `make proof`.
    config = (whole.directory / "adapter_config.json").read_bytes()
    modules = json.loads(config)["target_modules"]
    assert (len(modules) > 1, modules, config) == (True, sorted(modules), canonical_json(json.loads(config)))
    for field in ("first_loss", "final_loss", "label_tokens"):
        assert getattr(resumed.metrics, field) == getattr(whole.metrics, field)


def test_a_checkpoint_of_another_run_is_refused(base: Path, rows: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    short = SPEC.model_copy(update={"max_steps": 8})
    run(base, rows, tmp_path / "one", spec=short, folder=folder)
    with pytest.raises(CheckpointForeign):
        run(base, rows, tmp_path / "two", spec=short.model_copy(update={"seed": 8}), folder=folder)


def test_a_run_that_rests_after_any_step_goes_on_as_if_it_had_not(base: Path, rows: Path, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"max_steps": 14})
    sink = Follower()
    undisturbed = run(base, rows, tmp_path / "whole", spec=spec, sink=sink)
    folder, seen = tmp_path / "checkpoints", dict[int, tuple[float, float | None]]()
    for rest in (2, 3, 9):
        follower = Follower(pause_at=rest)
        with pytest.raises(WorkPaused, match=f"after step {rest}"):
            run(base, rows, tmp_path / "cut", spec=spec, sink=follower, folder=folder)
        # Nothing is done twice.
        assert not seen.keys() & follower.losses().keys()
        seen |= follower.losses()
        torch.rand(100)
    last = Follower()
    rested = run(base, rows, tmp_path / "rested", spec=spec, sink=last, folder=folder)
    assert seen | last.losses() == sink.losses()
    assert sha256_file(rested.directory / WEIGHTS_FILE) == sha256_file(undisturbed.directory / WEIGHTS_FILE)


def test_a_branch_has_the_losses_before_it_and_others_behind_it_and_only_where_the_snapshot_means_the_same(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    spec = SPEC.model_copy(update={"max_steps": 12})
    run(base, rows, tmp_path / "whole", spec=spec, sink=(whole := Follower()))
    folder = tmp_path / "checkpoints"
    with pytest.raises(WorkPaused):
        run(base, rows, tmp_path / "cut", spec=spec, sink=Follower(pause_at=6), folder=folder)
    for fixed in ({"batch_size": 4}, {"rank": 2, "alpha": 4.0}, {"seed": 8}):
        with pytest.raises(CheckpointForeign):
            run(base, rows, tmp_path / "other", spec=spec.model_copy(update=fixed), folder=folder, branched_at=6)
    follower = Follower()
    changed = spec.model_copy(update={"learning_rate": 1e-3, "max_steps": 10, "schedule": Schedule.CONSTANT, "warmup_fraction": 0.0})
    branched = run(base, rows, tmp_path / "branch", spec=changed, sink=follower, folder=folder, branched_at=6)
    assert (branched.metrics.steps, branched.metrics.resumed_from_step, min(follower.figures)) == (10, 6, 7)
    # The seventh step's loss is of weights that the change has not touched yet.
    assert follower.losses()[7] == whole.losses()[7]
    assert follower.losses()[8] != whole.losses()[8]
    assert {figures["learning_rate"] for figures in follower.figures.values()} == {1e-3}


def test_a_cancelled_run_exports_nothing(base: Path, rows: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingCancelled, match="after step 3"):
        run(base, rows, tmp_path / "out", sink=Follower(stop_at=3))
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_unknown_target_modules_are_named_beside_those_the_base_has(base: Path, rows: Path, tmp_path: Path) -> None:
    sink = Follower()
    with pytest.raises(UnknownTargetModules, match="'query_key_value'") as refusal:
        run(base, rows, tmp_path / "out", spec=SPEC.model_copy(update={"target_modules": ("q_proj", "query_key_value")}), sink=sink)
    assert refusal.value.details["missing"] == ["query_key_value"]
    assert refusal.value.details["available"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert not sink.figures


def test_a_diverging_run_is_refused_instead_of_exported(base: Path, rows: Path, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"learning_rate": 1.0, "alpha": 1e30, "warmup_fraction": 0.0})
    with pytest.raises(TrainingDiverged) as refusal:
        run(base, rows, tmp_path / "out", spec=spec)
    assert refusal.value.code == "training_diverged"
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_the_exported_config_is_sorted_names_the_base_revision_and_passes_the_gate(base: Path, rows: Path, tmp_path: Path) -> None:
    trained = run(base, rows, tmp_path / "out", spec=SPEC.model_copy(update={"max_steps": 2}))
    raw = (trained.directory / "adapter_config.json").read_bytes()
    facts = check_config(raw, expected_base="bases/tiny", expected_commit=COMMIT)
    assert (facts.rank, facts.alpha, facts.target_modules) == (4, 8.0, tuple(sorted(SPEC.target_modules)))
    document = json.loads(raw)
    assert list(document) == sorted(document)
    assert document["target_modules"] == sorted(SPEC.target_modules)
    assert {file.name for file in trained.directory.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert {tensor.dtype for tensor in load_file(trained.directory / "adapter_model.safetensors").values()} == {torch.float32}


_EXPORT = """
import sys
from pathlib import Path
import torch
from peft import LoraConfig, get_peft_model
from ringi.kit.digests import sha256_file
from ringi_workers.adapters.attach import load_base
from ringi_workers.training.export import export_adapter
torch.manual_seed(0)
model = load_base(Path(sys.argv[1]), dtype=torch.float32, device=torch.device("cpu"))
names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=names))
out = export_adapter(model, Path(sys.argv[2]), base_name="bases/tiny", base_commit="0" * 40)
print(list(model.peft_config["default"].target_modules))
print(sorted((file.name, sha256_file(file)) for file in out.iterdir()))
"""


@pytest.mark.proof
def test_two_processes_with_other_hash_seeds_export_equal_bytes(base: Path, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _EXPORT, str(base), str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    (order_1, files_1), (order_2, files_2) = ((process.communicate()[0]).strip().splitlines()[-2:] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert order_1 != order_2, "these hash seeds no longer give peft two orders; choose others"
    assert files_1 == files_2
