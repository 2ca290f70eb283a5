"""Full fine-tuning by one call of the recipe: every weight learns, and what is sealed is a model that stands alone and is taken for nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ringi.adapters.admission import refusals
from ringi.adapters.files import UploadFileNotAllowed, check_paths
from ringi.jobs.contracts.methods import Method
from ringi.jobs.contracts.training import LoraSpec
from ringi.kit.digests import sha256_file
from ringi_workers.adapters.attach import base_dtype, load_base, load_tokenizer
from ringi_workers.adapters.full_weights import FullWeightsUnreadable, is_full_weights, load_full_weights
from ringi_workers.adapters.inspect import measure
from ringi_workers.evaluation.arms import ArmFolders, load_arms
from ringi_workers.evaluation.swapping import SwappableBase
from ringi_workers.training.data import load_examples
from ringi_workers.training.full import BaseQuantised, SealedWeightsDiffer, all_weights, seal, weight_groups
from ringi_workers.training.packing import Layout, precision
from ringi_workers.training.refusals import TrainingCancelled
from support.recipes import COMMIT, SPEC, Follower, mean_nll, run
from support.tiny_model import make_tiny_rows
from support.tiny_shapes import make_tiny_adapter, make_tiny_shape
from training.method_matrix import PAGE, SHOWN, table

CPU, SHAPES = torch.device("cpu"), ("llama", "qwen3", "mistral", "gemma3", "gpt2")
FULL = LoraSpec.model_validate(
    SPEC.model_dump()
    | {
        "method": Method.FULL, "rank": None, "alpha": None, "target_modules": (), "dropout": 0.0, "weight_decay": 0.0, "learning_rate": 5e-3,
        "max_steps": 16, "checkpoint_every": 4,
    }
)  # fmt: skip


def spec_of(**changes: object) -> LoraSpec:
    return LoraSpec.model_validate(FULL.model_dump() | changes)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {shape: make_tiny_shape(shape, tmp_path_factory.mktemp(shape)) for shape in SHAPES}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 160)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_rows(tmp_path_factory.mktemp("rows") / "unseen.jsonl", 30, seed=99)


@pytest.fixture(scope="module")
def trained(bases: dict[str, Path], rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(bases["llama"], rows, tmp_path_factory.mktemp("trained") / "out", spec=spec_of(max_steps=6)).directory


def loaded(folder: Path) -> Any:
    return load_base(folder, dtype=torch.float32, device=CPU)


def logits(model: Any) -> torch.Tensor:
    ids = torch.arange(3, 63).reshape(4, 15)
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return found


def copied(folder: Path, to: Path, change: Any) -> Path:
    """The folder with other tensors."""
    shutil.copytree(folder, to)
    tensors = load_file(to / "model.safetensors")
    change(tensors)
    save_file(tensors, to / "model.safetensors", metadata={"format": "pt"})
    return to


@pytest.mark.parametrize("shape", SHAPES)
def test_every_weight_learns_and_the_sealed_folder_alone_is_the_model_that_was_measured(
    bases: dict[str, Path], rows: Path, unseen: Path, tmp_path: Path, shape: str
) -> None:
    base = bases[shape]
    before = mean_nll(base, unseen, None)
    done = run(base, rows, tmp_path / "out", spec=spec_of(early_stopping_patience=9, evaluate_every=8, packing="auto"), validation=unseen)
    metrics = done.metrics
    assert metrics.first_loss == pytest.approx(before, rel=0.1), "training begins at the base"
    assert metrics.validation_loss is not None
    assert metrics.validation_loss < before - 0.5
    # What the run measured while it trained, and what the files say; without the base, and with the library's own words.
    assert mean_nll(done.directory, unseen, None) == pytest.approx(metrics.validation_loss, rel=1e-5)
    assert metrics.sealed_loss == pytest.approx(metrics.trained_loss, rel=1e-5)
    model = AutoModelForCausalLM.from_pretrained(done.directory)
    assert AutoTokenizer.from_pretrained(done.directory).chat_template == AutoTokenizer.from_pretrained(base).chat_template
    assert (done.directory / "config.json").read_bytes() == (base / "config.json").read_bytes()
    # Norms and embeddings too; and what the base shares is shared.
    own = dict(loaded(base).named_parameters())
    assert {name for name, one in model.named_parameters() if torch.equal(one, own[name])} == set()
    tied = model.config.get_text_config().tie_word_embeddings
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied
    assert ("lm_head.weight" in load_file(done.directory / "model.safetensors")) is not tied
    measured = measure(done.directory, base=base)
    assert refusals(measured.facts, measured.effect) == []
    assert (measured.facts.peft_type, measured.facts.rank, measured.facts.adapted_modules) == ("FULL", None, ())
    assert measured.facts.parameters == sum(one.numel() for one in model.parameters())
    SHOWN.update({("full", shape, "trains"), ("full", shape, "outputs")})


def test_the_folder_says_what_it_is_and_cannot_be_registered_as_an_adapter(trained: Path) -> None:
    mark = json.loads((trained / "full_weights.json").read_bytes())
    assert mark == {"format": "full-weights/1", "base_model_name_or_path": "bases/tiny", "revision": COMMIT}
    names = {file.name for file in trained.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "full_weights.json"} <= names
    assert names.isdisjoint({"adapter_config.json", "adapter_model.safetensors"})
    with pytest.raises(UploadFileNotAllowed, match="a whole model is no adapter"):
        check_paths(sorted(names))


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_over_a_base_in_bfloat16_small_updates_are_kept_and_stored_in_bfloat16(
    rows: Path, unseen: Path, tmp_path: Path, shape: str
) -> None:
    """Each update is below half of what bfloat16 tells apart at these weights: trained in bfloat16, not one of them would move."""
    base = make_tiny_shape(shape, tmp_path / "base", dtype=torch.bfloat16)
    rate = 4e-4
    spec = spec_of(
        learning_rate=rate, max_steps=32, epochs=9, warmup_fraction=0.0, schedule="constant", packing="on", early_stopping_patience=9,
        evaluate_every=16,
    )  # fmt: skip
    done = run(base, rows, tmp_path / "out", spec=spec, validation=unseen)
    assert done.metrics.packed
    assert (done.runtime["weights"], done.runtime["stored"]) == ("float32", "bfloat16")
    assert done.runtime["dtype"] == str(base_dtype(base, CPU)).removeprefix("torch.")
    before, after = (load_file(folder / "model.safetensors") for folder in (base, done.directory))
    assert {one.dtype for one in after.values()} == {torch.bfloat16}
    # Between 0.25 and 0.5 the spacing is 2^-9.
    assert rate < 2**-9 / 2
    moved = [(after[name] != one)[one.abs() >= 0.25] for name, one in before.items() if one.ndim == 2]
    assert float(torch.cat(moved).float().mean()) > 0.2
    assert done.metrics.sealed_loss == pytest.approx(done.metrics.trained_loss, rel=2e-2)
    assert mean_nll(done.directory, unseen, None) == pytest.approx(done.metrics.validation_loss, rel=2e-2)
    assert mean_nll(done.directory, unseen, None) < mean_nll(base, unseen, None) - 0.1


def test_a_run_that_learns_nothing_is_refused_for_having_no_effect(bases: dict[str, Path], rows: Path, tmp_path: Path) -> None:
    done = run(bases["llama"], rows, tmp_path / "out", spec=spec_of(learning_rate=1e-30, max_steps=2))
    measured = measure(done.directory, base=bases["llama"])
    assert [one.code for one in refusals(measured.facts, measured.effect)] == ["adapter_no_effect"]
    SHOWN.add(("full", "llama", "refuses"))


def test_a_cut_run_goes_on_to_the_same_bytes(bases: dict[str, Path], rows: Path, unseen: Path, tmp_path: Path) -> None:
    """GPT-2, which has dropout of its own and ties its embeddings; with the best weights in the snapshot."""
    for shape in ("llama", "gpt2"):
        base, spec = bases[shape], spec_of(max_steps=10, early_stopping_patience=3, evaluate_every=3)
        uncut, cut, again = Follower(), Follower(stop_at=7), Follower()
        place = tmp_path / shape
        whole = run(base, rows, place / "whole", spec=spec, sink=uncut, validation=unseen)
        with pytest.raises(TrainingCancelled):
            run(base, rows, place / "cut", spec=spec, sink=cut, folder=place / "checkpoints", validation=unseen)
        torch.rand(100)  # another process would have another random state
        resumed = run(base, rows, place / "again", spec=spec, sink=again, folder=place / "checkpoints", validation=unseen)
        assert resumed.metrics.resumed_from_step == 4
        assert cut.losses() | again.losses() == uncut.losses()
        files = [{file.name: sha256_file(file) for file in one.directory.iterdir()} for one in (whole, resumed)]
        assert files[0] == files[1]
    SHOWN.add(("full", "llama", "resumes"))


def test_tensors_that_are_missing_strange_or_not_finite_are_told_and_never_begun_anew(
    bases: dict[str, Path], trained: Path, tmp_path: Path
) -> None:
    lacking = copied(trained, tmp_path / "lacking", lambda one: one.pop("model.norm.weight"))
    strange = copied(trained, tmp_path / "strange", lambda one: one.update({"model.layers.9.mlp.up_proj.weight": torch.ones(128, 64)}))
    broken = copied(trained, tmp_path / "broken", lambda one: one["lm_head.weight"].fill_(float("nan")))
    wide = copied(trained, tmp_path / "wide", lambda one: one.update({"model.norm.weight": torch.ones(65)}))
    found = {}
    for folder in (lacking, strange, broken):
        measured = measure(folder, base=bases["llama"])
        found[folder.name] = [one.code for one in refusals(measured.facts, measured.effect)]
    assert found == {
        "lacking": ["adapter_tensors_unfilled"], "strange": ["adapter_tensors_unmatched"],
        "broken": ["adapter_not_finite", "adapter_effect_not_measured"],
    }  # fmt: skip
    for folder in (lacking, strange, wide):
        with pytest.raises(FullWeightsUnreadable):
            load_full_weights(folder, dtype=torch.float32, device=CPU)


def test_full_weights_adapters_and_the_base_take_turns_and_none_sees_another(bases: dict[str, Path], trained: Path, tmp_path: Path) -> None:
    base = bases["llama"]
    adapter = make_tiny_adapter(base, tmp_path / "lora", seed=1)
    assert (is_full_weights(trained), is_full_weights(adapter), is_full_weights(base)) == (True, False, False)
    alone: dict[Path | None, torch.Tensor] = {None: logits(loaded(base)), trained: logits(loaded(trained))}
    with SwappableBase(base, dtype=torch.float32).arm(adapter) as model:
        alone[adapter] = logits(model)
    swapped = SwappableBase(base, dtype=torch.float32)
    for arm in (adapter, trained, None, trained, trained, adapter, None):
        with swapped.arm(arm) as model:
            assert torch.equal(logits(model), alone[arm])
    assert len({tuple(one.flatten().tolist()) for one in alone.values()}) == 3
    # Where the model cannot be read, the next arm is measured all the same.
    unreadable = copied(trained, tmp_path / "unreadable", lambda one: one.pop("model.norm.weight"))
    with pytest.raises(FullWeightsUnreadable), swapped.arm(unreadable):
        pass
    with swapped.arm(adapter) as model:
        assert torch.equal(logits(model), alone[adapter])
    arms = load_arms(ArmFolders(trained, None), ArmFolders(base, adapter))
    with arms.candidate.active() as model:
        assert torch.equal(logits(model), alone[trained])
    with arms.baseline.active() as model:
        assert torch.equal(logits(model), alone[adapter])


def test_weights_that_their_storage_would_change_are_not_sealed(rows: Path, tmp_path: Path) -> None:
    """The base is stored in float16, whose largest number is 65,504."""
    base = make_tiny_shape("llama", tmp_path / "base", dtype=torch.float16)
    model = all_weights(loaded(base), computing=torch.float32)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 1e6
    examples = load_examples(rows, load_tokenizer(base), 96).examples
    layout = Layout(packed=False, pack_length=256, pad_id=0, most_rows=8)
    with pytest.raises(SealedWeightsDiffer, match="float16"):
        seal(model, tmp_path / "out", examples, layout, base=base, base_name="bases/tiny", base_commit=COMMIT)


def test_a_base_that_is_stored_quantised_is_refused(bases: dict[str, Path]) -> None:
    model = loaded(bases["llama"])
    model.config.quantization_config = {"quant_method": "gptq"}
    with pytest.raises(BaseQuantised):
        all_weights(model, computing=torch.float32)


def test_products_are_computed_as_chosen_and_weights_stay_in_float32(bases: dict[str, Path]) -> None:
    for computing in (torch.float32, torch.bfloat16):
        model = all_weights(loaded(bases["llama"]), computing=computing)
        with precision(model):
            assert model.model.layers[0].mlp.up_proj(torch.ones(1, 64)).dtype == computing
        assert {one.dtype for one in model.parameters()} == {torch.float32}


def test_matrices_decay_and_norms_and_biases_do_not(bases: dict[str, Path]) -> None:
    model = all_weights(loaded(bases["gpt2"]), computing=torch.float32)
    decayed, kept = weight_groups(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    names = {one: name for name, one in model.named_parameters()}
    assert all(names[one].endswith((".weight", "wte.weight")) and "ln_" not in names[one] for one in decayed["params"])
    assert all("ln_" in names[one] or names[one].endswith(".bias") for one in kept["params"])
    # What is tied stands in one group, once.
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_the_line_in_the_docs_is_what_was_shown() -> None:
    shown = {one for one in SHOWN if one[0] == "full"}
    if len(shown) < 2 * len(SHAPES) + 2:
        pytest.skip("not all tests of full fine-tuning ran in this process")
    assert PAGE.read_text(encoding="utf-8").split("<!-- full -->\n")[1].split("<!-- end -->")[0] == table(["full"], SHAPES, SHOWN)
