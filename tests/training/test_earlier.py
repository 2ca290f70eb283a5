"""Runs that begin from an earlier version: on the same weights, or frozen under a new LoRA."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ringi.adapters.admission import refusals
from ringi.jobs.contracts.methods import Method
from ringi.jobs.contracts.training import LoraSpec
from ringi.kit.digests import sha256_file
from ringi_workers.adapters.attach import attach, load_base
from ringi_workers.adapters.inspect import measure
from ringi_workers.training.checkpoint import CheckpointForeign
from ringi_workers.training.earlier import Earlier, EarlierDoesNotFit, begun
from ringi_workers.training.export import export_adapter
from ringi_workers.training.refusals import TrainingCancelled
from support.recipes import COMMIT, SPEC, Follower, mean_nll, run
from support.tiny_model import make_tiny_base, make_tiny_rows

WEIGHTS = "adapter_model.safetensors"
CPU = torch.device("cpu")
VECTORS = {"learning_rate": 0.1, "dropout": 0.0, "target_modules": ("all-linear",), "rank": 16}


def spec_of(**changes: object) -> LoraSpec:
    return LoraSpec.model_validate(SPEC.model_dump() | {"max_steps": 12} | changes)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 100)


@pytest.fixture(scope="module")
def earlier(base: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(base, rows, tmp_path_factory.mktemp("earlier"), spec=spec_of()).directory


def logits(model: object) -> torch.Tensor:
    ids = torch.arange(3, 63).reshape(4, 15)
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits  # type: ignore[operator]
    return found


@pytest.mark.parametrize("stacked", [False, True], ids=["goes on", "stacked"])
def test_a_run_begins_with_what_the_version_says_and_ends_better(
    base: Path, rows: Path, earlier: Path, tmp_path: Path, *, stacked: bool
) -> None:
    spec = spec_of(
        dropout=0.0, rank=2 if stacked else SPEC.rank, target_modules=("q_proj", "gate_proj") if stacked else SPEC.target_modules
    )
    bare = load_base(base, dtype=torch.float32, device=CPU)
    model = begun(spec, bare, Earlier(earlier, stacked), base=base)
    there = logits(attach(load_base(base, dtype=torch.float32, device=CPU), earlier))
    torch.testing.assert_close(logits(model.eval()), there, rtol=1e-5, atol=1e-5)
    trained = run(base, rows, tmp_path / "out", spec=spec, earlier=Earlier(earlier, stacked))
    assert mean_nll(base, rows, trained.directory) < mean_nll(base, rows, earlier) - 0.1
    measured = measure(trained.directory, base=base)
    assert refusals(measured.facts, measured.effect) == []


def test_what_is_stacked_on_a_version_is_sealed_as_the_sum_of_both(base: Path, earlier: Path, tmp_path: Path) -> None:
    spec = spec_of(rank=2, dropout=0.3, target_modules=("q_proj", "gate_proj"))
    model = begun(spec, load_base(base, dtype=torch.float32, device=CPU), Earlier(earlier, stacked=True), base=base)
    frozen = {name: tensor.clone() for name, tensor in model.state_dict().items() if ".origin." in name}
    assert frozen
    assert not any(parameter.requires_grad for name, parameter in model.named_parameters() if ".origin." in name)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    sealed = export_adapter(model, tmp_path / "sum", base_name="bases/tiny", base_commit=COMMIT)
    here = logits(model.eval())
    torch.testing.assert_close(logits(attach(load_base(base, dtype=torch.float32, device=CPU), sealed)), here, rtol=1e-4, atol=1e-4)
    ranks = {name.split(".")[-3]: len(tensor) for name, tensor in load_file(sealed / WEIGHTS).items() if ".lora_A." in name}
    assert ranks == {"q_proj": 6, "gate_proj": 2, "v_proj": 4, "o_proj": 4, "up_proj": 4, "down_proj": 4}


@pytest.mark.parametrize(
    ("method", "changes"), [(Method.DORA, {}), (Method.IA3, VECTORS), (Method.VERA, VECTORS)], ids=["dora", "ia3", "vera"]
)
def test_every_sealed_method_goes_on(base: Path, rows: Path, tmp_path: Path, method: Method, changes: dict[str, object]) -> None:
    spec = spec_of(**{"method": method, "max_steps": 4, **changes})
    first = run(base, rows, tmp_path / "first", spec=spec)
    sink = Follower()
    again = run(
        base,
        rows,
        tmp_path / "again",
        spec=spec.model_copy(update={"dropout": 0.0}),
        sink=sink,
        earlier=Earlier(first.directory, stacked=False),
    )
    few = sink.figures[1]["loss"]
    assert few == pytest.approx(mean_nll(base, rows, first.directory), rel=0.15)
    assert sha256_file(again.directory / WEIGHTS) != sha256_file(first.directory / WEIGHTS)
    form = [json.loads((folder.directory / "adapter_config.json").read_bytes()) for folder in (first, again)]
    assert {**form[0], "lora_dropout": 0.0} == {**form[1], "lora_dropout": 0.0}


@pytest.mark.parametrize("stacked", [False, True], ids=["goes on", "stacked"])
def test_a_cut_run_goes_on_to_the_same_bytes_and_never_from_another_version(
    base: Path, rows: Path, earlier: Path, tmp_path: Path, *, stacked: bool
) -> None:
    spec, folder = spec_of(checkpoint_every=4), tmp_path / "checkpoints"
    begin = Earlier(earlier, stacked)
    whole = run(base, rows, tmp_path / "whole", spec=spec, earlier=begin)
    with pytest.raises(TrainingCancelled):
        run(base, rows, tmp_path / "cut", spec=spec, sink=Follower(stop_at=6), folder=folder, earlier=begin)
    with pytest.raises(CheckpointForeign):
        run(base, rows, tmp_path / "other", spec=spec, folder=folder)
    resumed = run(base, rows, tmp_path / "resumed", spec=spec, folder=folder, earlier=begin)
    assert resumed.metrics.resumed_from_step == 4
    assert sha256_file(resumed.directory / WEIGHTS) == sha256_file(whole.directory / WEIGHTS)


def test_a_version_whose_tensors_do_not_meet_the_base_is_refused(base: Path, rows: Path, earlier: Path, tmp_path: Path) -> None:
    folder = tmp_path / "spoilt"
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes((earlier / "adapter_config.json").read_bytes())
    tensors = load_file(earlier / WEIGHTS)
    save_file({name.replace("layers.1", "layers.9"): tensor for name, tensor in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(EarlierDoesNotFit) as refusal:
        run(base, rows, tmp_path / "out", earlier=Earlier(folder, stacked=False))
    assert refusal.value.details == {"strange": 10, "missing": 10}
