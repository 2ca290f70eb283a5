import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from ringi.adapters.config_gate import AdapterBaseMismatch, AdapterConfigKeyRefused
from ringi.adapters.weights import WeightsTruncated
from ringi.kit.digests import sha256_file
from ringi_workers.adapters.attach import AdapterShapeMismatch, AdapterUndecodable, load_base
from ringi_workers.adapters.inspect import Inspected, inspect_adapter
from support.base_variants import perturb, reshard
from support.tiny_model import make_tiny_base

NAME, COMMIT = "bases/tiny", "ab" * 20
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def original(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as peft itself saves it."""
    out = tmp_path_factory.mktemp("peft")
    torch.manual_seed(5)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["v_proj", "q_proj"], init_lora_weights=False, revision=COMMIT)
    get_peft_model(load_base(base, dtype=torch.float32, device=torch.device("cpu")), config).save_pretrained(str(out))
    document = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    (out / CONFIG).write_text(json.dumps(document | {"base_model_name_or_path": NAME}), encoding="utf-8")
    return out


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(original, tmp_path / "folder")


def inspected(folder: Path, base: Path) -> Inspected:
    return inspect_adapter(folder, base=base, base_name=NAME, base_commit=COMMIT, out=folder.parent / "out")


def set_config(folder: Path, **values: object) -> None:
    document = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps(document | values), encoding="utf-8")


def rename(folder: Path, old: str, new: str) -> None:
    save_file({name.replace(old, new): tensor for name, tensor in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)


def test_a_sound_adapter_matches_both_ways_and_keeps_its_weights(folder: Path, base: Path) -> None:
    result = inspected(folder, base)
    facts = result.facts
    assert facts.adapted_modules == tuple(
        sorted(f"model.layers.{layer}.self_attn.{name}" for layer in (0, 1) for name in ("q_proj", "v_proj"))
    )
    assert (facts.unmatched_tensors, facts.unfilled_tensors, facts.replaced_tensors, facts.non_finite_tensors) == ((), (), (), ())
    assert (facts.rank, facts.alpha, facts.target_modules, len(facts.tensors)) == (4, 8, ("q_proj", "v_proj"), 8)
    assert facts.parameters == sum(tensor.numel() for tensor in load_file(folder / WEIGHTS).values())
    assert sha256_file(result.directory / WEIGHTS) == sha256_file(folder / WEIGHTS)
    assert {file.name for file in result.directory.iterdir()} == {WEIGHTS, CONFIG}
    assert result.effect.change is not None
    assert result.effect.change > 0


def test_the_config_gets_one_form_whatever_order_and_inert_keys_it_came_with(folder: Path, base: Path) -> None:
    first = (inspected(folder, base).directory / CONFIG).read_bytes()
    set_config(folder, target_modules=["q_proj", "v_proj"], rank_pattern={}, modules_to_save=None, peft_version="0.19.0")
    assert (inspected(folder, base).directory / CONFIG).read_bytes() == first


def test_a_wrong_prefix_leaves_tensors_unmatched_and_modules_unfilled(folder: Path, base: Path) -> None:
    rename(folder, "base_model.model.", "base_model.model.language_model.")
    result = inspected(folder, base)
    assert (len(result.facts.unmatched_tensors), len(result.facts.unfilled_tensors)) == (8, 8)
    assert result.facts.adapted_modules == ()
    assert result.effect.change == 0.0


def test_tensors_of_a_module_that_the_config_does_not_target_are_unmatched(folder: Path, base: Path) -> None:
    set_config(folder, target_modules=["q_proj"])
    facts = inspected(folder, base).facts
    assert len(facts.unmatched_tensors) == 4
    assert all(".v_proj." in name for name in facts.unmatched_tensors)


def test_targets_that_the_file_does_not_fill_are_named(folder: Path, base: Path) -> None:
    set_config(folder, target_modules=["q_proj", "v_proj", "o_proj"])
    facts = inspected(folder, base).facts
    assert len(facts.unfilled_tensors) == 4
    assert "base_model.model.model.layers.1.self_attn.o_proj.lora_B.weight" in facts.unfilled_tensors


def test_an_adapter_of_a_deeper_base_has_unmatched_tensors(folder: Path, tmp_path: Path) -> None:
    shallow = make_tiny_base(tmp_path / "shallow", layers=1)
    assert len(inspected(folder, shallow).facts.unmatched_tensors) == 4


def test_an_adapter_of_a_wider_base_is_refused_by_shape(folder: Path, tmp_path: Path) -> None:
    wider = make_tiny_base(tmp_path / "wider", hidden_size=96)
    with pytest.raises(AdapterShapeMismatch, match=r"has shape \[4, 64\], but on this base it must be \[4, 96\]"):
        inspected(folder, wider)


def test_a_file_that_would_overwrite_base_weights_says_which(folder: Path, base: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["base_model.model.model.norm.weight"] = torch.ones(64)
    tensors["base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"] = torch.ones(64, 64)
    save_file(tensors, folder / WEIGHTS)
    assert inspected(folder, base).facts.replaced_tensors == ("model.layers.0.self_attn.q_proj.weight", "model.norm.weight")


def test_modules_to_save_are_replaced_tensors(folder: Path, base: Path) -> None:
    set_config(folder, modules_to_save=["lm_head"])
    tensors = load_file(folder / WEIGHTS)
    save_file({**tensors, "base_model.model.lm_head.weight": torch.ones(512, 64)}, folder / WEIGHTS)
    facts = inspected(folder, base).facts
    assert (facts.replaced_tensors, facts.unmatched_tensors, facts.unfilled_tensors) == (("lm_head.weight",), (), ())


def test_a_tensor_with_a_nan_is_named_and_the_change_is_unknown(folder: Path, base: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    tensors[name][0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS)
    result = inspected(folder, base)
    assert result.facts.non_finite_tensors == (name,)
    assert result.effect.change is None


def test_input_that_cannot_be_read_is_refused_by_name(folder: Path, base: Path) -> None:
    set_config(folder, revision="cd" * 20)
    with pytest.raises(AdapterBaseMismatch):
        inspected(folder, base)
    set_config(folder, revision=COMMIT, init_lora_weights="pissa")
    with pytest.raises(AdapterConfigKeyRefused):
        inspected(folder, base)
    set_config(folder, init_lora_weights=True)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])
    with pytest.raises(WeightsTruncated):
        inspected(folder, base)
    (folder / CONFIG).unlink()
    with pytest.raises(AdapterUndecodable):
        inspected(folder, base)


def test_a_missing_weights_file_is_refused(folder: Path, base: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(AdapterUndecodable, match=r"adapter_model\.safetensors is missing"):
        inspected(folder, base)


def test_a_resharded_base_gives_the_same_effect_and_a_perturbed_one_another(folder: Path, base: Path, tmp_path: Path) -> None:
    same, other = reshard(base, tmp_path / "same", 3), perturb(base, tmp_path / "other", 0.05)
    assert len(list(same.glob("*.safetensors"))) == 3
    before = inspected(folder, base).effect.change
    assert inspected(folder, same).effect.change == before
    assert inspected(folder, other).effect.change != before
